"""A stack whose clusters are far from its centre: LC goes on whatever becomes of the line, and all of it is at the centre in the end."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tango.client import Busy, ClientError, Tango
from tango.stack.broker import free_port
from tests.integration.live_stack import ROOT, LiveStack
from tests.waiting import WITHIN_S, until

pytestmark = pytest.mark.timeout(300)

RTT_MS = 20.0
_SEEN = "SELECT count(*) FROM request WHERE run_id = %s AND class = 'lc' AND state = 'succeeded'"
_TIMES = "SELECT count(*) FILTER (WHERE attempt > 1), max(started_s - due_s) FROM request WHERE run_id = %s AND class = 'lc'"


@pytest.fixture(scope="module")
def far_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    """The fleet `single`, its cluster behind a line, with a broker of its own."""
    stack = LiveStack(tmp_path_factory.mktemp("far"))
    done = stack.tango("up", "--fleet", "single", "--simulators", "0", "--line-rtt-ms", str(RTT_MS), "--detach")
    assert done.returncode == 0, done.stderr
    yield stack
    stack.tango("line", "--mode", "open")
    stack.stop()


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory, far_stack: LiveStack) -> Path:
    """Twelve seconds of both classes."""
    path = tmp_path_factory.mktemp("trace") / "mixed.csv"
    recipe = ("--rate", "25", "--duration", "12", "--lc-share", "0.9", "--be-work-s", "0.3", "--seed", "4")
    done = far_stack.tango("trace", "generate", "p3", "--fleet", "single", *recipe, "--out", str(path))
    assert done.returncode == 0, done.stderr
    return path


def under_way(stack: LiveStack, trace: Path) -> int:
    """A run of which some LC has been answered."""
    run_id = stack.submit(trace)
    until(lambda: stack.rows(_SEEN, (run_id,))[0][0] >= 20)
    return run_id


def answers(stack: LiveStack) -> bool:
    """Whether the centre's database does."""
    try:
        return stack.rows("SELECT 1") == [(1,)]
    except psycopg2.OperationalError:
        return False


def whole(stack: LiveStack, run_id: int) -> dict[str, Any]:
    """The figures of the run when it has ended: nothing lost, nothing doubled, and everything shipped."""
    shown = stack.ended(run_id, within_s=120.0)
    assert shown["live"] == 0
    assert shown["accepted"] == shown["succeeded"] + shown["failed"] + shown["shed"] + shown["cancelled"]
    assert shown["succeeded"] == shown["accepted"]
    settled = stack.rows(
        "SELECT count(*), count(DISTINCT request_id) FROM attempt WHERE run_id = %s AND outcome = 'succeeded'", (run_id,)
    )
    assert settled == [(shown["accepted"], shown["accepted"])]
    assert stack.rows("SELECT accepted - terminal FROM lc_share WHERE run_id = %s", (run_id,)) == [(0,)]
    return shown


@pytest.mark.parametrize("mode", ["cut", pytest.param("swallow", marks=pytest.mark.long)])
def test_lc_is_served_while_the_line_is_away(far_stack: LiveStack, trace: Path, mode: str) -> None:
    """What enters meanwhile is answered without it, and recorded at the centre when the line is back; BE that runs goes on."""
    run_id = under_way(far_stack, trace)
    began_s = time.monotonic()
    assert far_stack.tango("line", "--mode", mode).returncode == 0
    time.sleep(0.5)
    before = far_stack.rows(_SEEN, (run_id,))[0][0]
    time.sleep(5.0)
    meanwhile = far_stack.rows(_SEEN, (run_id,))[0][0]
    assert far_stack.tango("line", "--mode", "open").returncode == 0
    away_s = time.monotonic() - began_s

    whole(far_stack, run_id)

    assert meanwhile == before  # nothing came over the line
    [(again, slowest_s)] = far_stack.rows(_TIMES, (run_id,))
    assert again == 0
    assert slowest_s < away_s  # a request that had waited for the line would have waited that long


def test_a_gateway_before_a_line_that_swallows_answers_requests_at_once_and_jobs_with_503(far_stack: LiveStack) -> None:
    """What it needs of a request lies beside it; jobs have their rows at the centre, which says nothing at all."""
    variables = far_stack.json("env")
    with Tango(variables["TANGO_GATEWAY_URL"], token=variables["TANGO_TOKEN"], retries=0) as tango:
        service = tango.services()[0]["service"]

        def served() -> bool:
            try:
                return tango.request(service, "/v1/work", body=b"", timeout_s=5.0).is_ok
            except ClientError:
                return False

        until(served)
        assert listed(tango) is not None
        assert far_stack.tango("line", "--mode", "swallow").returncode == 0
        try:
            answers = [tango.request(service, "/v1/work", body=b"", timeout_s=5.0) for _ in range(20)]
            said = []
            for _ in range(3):
                with pytest.raises(Busy) as error:
                    tango.asked("GET", "/jobs")
                said.append((error.value.status, error.value.word, error.value.retry_after_s))
            with pytest.raises(Busy) as refused:
                tango.submit("no-matter")
        finally:
            assert far_stack.tango("line", "--mode", "open").returncode == 0
        ids = [int(answer.request.split("-")[1]) for answer in answers]
        run_id = int(answers[0].request.split("-")[0])
        ended = "SELECT count(*) FROM request WHERE run_id = %s AND request_id = ANY (%s) AND state = 'succeeded'"

        assert until(lambda: listed(tango) is not None)
        assert [answer.status for answer in answers] == [200] * 20
        assert said == [(503, "centre-away", 1.0)] * 3
        assert refused.value.word == "centre-away"
        assert until(lambda: far_stack.rows(ended, (run_id, ids)) == [(20,)])


def listed(tango: Tango) -> list[Any] | None:
    """The jobs, once the centre answers again."""
    try:
        return list(tango.asked("GET", "/jobs"))
    except Busy:
        return None


def test_a_worker_that_is_killed_while_the_line_is_cut_is_replaced_without_the_centre(far_stack: LiveStack, trace: Path) -> None:
    """So is the agent: both begin with what the journal has."""
    run_id = under_way(far_stack, trace)
    assert far_stack.tango("line", "--mode", "cut").returncode == 0
    for process in ("worker-c1-1", "worker-c1-2", "agent-c1"):
        far_stack.kill(process)
    until(far_stack.all_run)
    assert far_stack.tango("line", "--mode", "open").returncode == 0

    whole(far_stack, run_id)


@pytest.mark.long
def test_a_centre_that_restarts_costs_lc_nothing(far_stack: LiveStack, trace: Path) -> None:
    """PostgreSQL is killed and recovers: shipments go on where they were."""
    run_id = under_way(far_stack, trace)

    far_stack.kill("postgres")
    until(lambda: answers(far_stack))

    whole(far_stack, run_id)
    [(again, _)] = far_stack.rows(_TIMES, (run_id,))
    assert again == 0


@pytest.mark.long
def test_a_run_that_is_cancelled_while_the_line_is_cut_ends_when_it_is_back(far_stack: LiveStack, trace: Path) -> None:
    """The command answers at once; what the journal has is cancelled there, once it hears of it."""
    run_id = under_way(far_stack, trace)
    assert far_stack.tango("line", "--mode", "cut").returncode == 0
    began_s = time.monotonic()
    done = far_stack.tango("run", "cancel", str(run_id))
    answered_s = time.monotonic() - began_s
    while far_stack.json("run", "show", str(run_id))["shares"][0]["away_since_s"] is None:
        assert time.monotonic() < began_s + 30.0
    said = far_stack.tango("run", "show", str(run_id)).stderr
    assert far_stack.tango("line", "--mode", "open").returncode == 0

    status = "SELECT status FROM run WHERE run_id = %s"
    until(lambda: far_stack.rows(status, (run_id,)) == [("cancelled",)], told=lambda: far_stack.json("run", "show", str(run_id)))
    assert done.returncode == 0, done.stderr
    assert "c1 is away since" in said
    assert answered_s < 10.0
    states = dict(far_stack.rows("SELECT state::text, count(*) FROM request WHERE run_id = %s GROUP BY 1", (run_id,)))
    assert set(states) <= {"cancelled", "succeeded", "shed", "failed"}
    assert states["cancelled"] > 0


@pytest.mark.long
def test_a_journal_goes_on_with_a_centre_that_was_restored_from_a_backup(far_stack: LiveStack, trace: Path) -> None:
    """By itself: what its journal has shipped since the backup it ships once more, and every request counts once."""
    run_id = under_way(far_stack, trace)
    with (
        closing(psycopg2.connect(json.loads((far_stack.home / "stack.json").read_text())["owner_url"])) as owner,
        owner.cursor() as cursor,
    ):
        cursor.execute("UPDATE journal_position SET sequence = 0 WHERE cluster = 'c1'")
        cursor.execute(
            "UPDATE request SET state = 'accepted', epoch = 0, attempt = 0, finished_s = NULL WHERE run_id = %(run)s AND request_id IN "
            "(SELECT request_id FROM request WHERE run_id = %(run)s AND class = 'lc' AND state = 'succeeded' LIMIT 10)",
            {"run": run_id},
        )
        cursor.execute("UPDATE lc_share SET terminal = terminal - 10 WHERE run_id = %s AND cluster = 'c1'", (run_id,))
        cursor.execute(
            "DELETE FROM attempt a USING request q WHERE a.run_id = %s AND q.run_id = a.run_id AND q.request_id = a.request_id "
            "AND q.state = 'accepted'",
            (run_id,),
        )
        owner.commit()

    whole(far_stack, run_id)

    assert far_stack.json("cluster", "list")[0]["lost_events"] is None


def test_celerys_tools_find_a_clusters_queues_by_its_broker(far_stack: LiveStack) -> None:
    """`tango env --cluster c1` names it; without it they see the centre's workers."""
    broker, centre = (far_stack.json("env", *of) for of in (("--cluster", "c1"), ()))

    assert broker["CELERY_BROKER_URL"] != centre["CELERY_BROKER_URL"]
    assert far_stack.tango("env", "--cluster", "c9").returncode == 2


def test_a_flower_shows_a_cluster_that_has_a_broker_of_its_own(far_stack: LiveStack) -> None:
    """It asks for the login of the stack's own, and shows the cluster's workers; neither broker nor login stands in its command line."""
    variables = far_stack.json("env")
    port, page = free_port(), f"tango flower --home {far_stack.home}"
    command = [
        sys.executable,
        "-c",
        "from tango.cli.main import run; run()",
        *page.split()[1:],
        "--cluster",
        "c1",
        "--port",
        str(port),
    ]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TANGO_")}
    flower = subprocess.Popen(command, env={**kept, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True)
    try:
        login = base64.b64encode(variables["FLOWER_BASIC_AUTH"].encode()).decode()
        workers = eventually(lambda: set(fetched(f"http://127.0.0.1:{port}/api/workers?refresh=true", login)))
        said = Path(f"/proc/{flower.pid}/cmdline").read_text()
        with pytest.raises(urllib.error.HTTPError, match="401"):
            fetched(f"http://127.0.0.1:{port}/", "")
    finally:
        flower.terminate()
        flower.wait(10)

    assert {name.partition("@")[0] for name in workers} == {"worker-c1-1", "worker-c1-2"}
    assert variables["FLOWER_BASIC_AUTH"].partition(":")[2] not in said
    assert "redis://" not in said
    assert far_stack.tango("flower", "--cluster", "c9").returncode == 2


def fetched(url: str, login: str) -> dict[str, Any]:
    """The JSON of a page."""
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {login}"} if login else {})
    with urllib.request.urlopen(request, timeout=5.0) as answer:
        return dict(json.loads(answer.read()))


def eventually(look: Callable[[], set[str]], *, within_s: float = WITHIN_S) -> set[str]:
    """What it finds, once it finds something."""
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            if found := look():
                return found
        except OSError:
            pass
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
