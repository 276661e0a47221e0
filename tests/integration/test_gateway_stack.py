"""Callers of a whole stack: a gateway, workers, and a service that is a real process. What they get, and what their rows say."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import psycopg2
import pytest

from tango.client import Answer, AnswerCut, CallFailed, Refused, Tango, TimedOut
from tests.integration.live_stack import ROOT, LiveStack, active_tasks
from tests.integration.odd_stack import FLEET, SERVICE, free_port, goes_on, is_served, row, running
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)

UNDER_WAY = 60
"""Calls, where the two workers of a cluster have 16 slots."""


@pytest.fixture(scope="module")
def stack(stack_of: Callable[[str], LiveStack]) -> LiveStack:
    """Running."""
    return stack_of(FLEET)


@pytest.fixture(scope="module")
def tango(stack: LiveStack) -> Iterator[Tango]:
    """The client that `tango env` is enough for, once the first request of all has been answered."""
    variables = stack.json("env")
    with Tango(variables["TANGO_GATEWAY_URL"], token=variables["TANGO_TOKEN"], retries=0) as found:
        until(lambda: is_served(found))
        yield found


def test_a_request_reaches_a_real_process_and_its_row_says_so(stack: LiveStack, tango: Tango) -> None:
    """What it got, what its caller gets, and the row at the centre with the tenant."""
    answer = tango.request("odd", "/v1/x?q=1", method="PUT", body=b"hello", headers={"X-A": "1", "Cookie": "secret"}, timeout_s=5.0)
    told = answer.json()

    assert (answer.status, told["method"], told["path"], told["bytes"]) == (200, "PUT", "/v1/x?q=1", 5)
    assert (told["headers"]["X-A"], told["headers"]["Cookie"]) == ("1", "secret")
    assert "Authorization" not in told["headers"]
    assert row(stack, answer.request)[:2] == ("succeeded", "")
    run_id, request_id = answer.request.split("-")
    assert stack.rows("SELECT tenant, cluster FROM request WHERE run_id = %s AND request_id = %s", (run_id, request_id)) == [
        ("default", "c1")
    ]
    assert stack.rows("SELECT kind FROM run WHERE run_id = %s", (run_id,)) == [("live",)]


def test_the_command_sends_a_request_and_prints_the_answer(stack: LiveStack, tango: Tango, tmp_path: Path) -> None:
    """From the local stack without a word of where; body to stdout, the rest to stderr; exit codes tell what happened."""
    (tmp_path / "body").write_bytes(b"x" * 77)
    done = stack.tango(
        "request", "odd", "--path", "/v1/x", "--data", f"@{tmp_path / 'body'}", "--header", "X-B: 2", "--timeout", "5"
    )
    failed = stack.tango("request", "odd", "--path", "/error", "--timeout", "5")
    unknown = stack.tango("request", "oddd")
    late = stack.tango("request", "odd", "--path", "/never", "--timeout", "0.3")
    nobody = stack.tango("request", "odd", "--url", "http://127.0.0.1:1", variables={"TANGO_TOKEN": "t"})
    stranger = stack.tango("request", "odd", "--url", "http://127.0.0.1:1")
    sent = stack.tango("request", "odd", "--async")

    told = json.loads(done.stdout)
    assert (told["bytes"], told["headers"]["X-B"], done.returncode) == (77, "2", 0)
    assert done.stderr.startswith("200 application/json (request ")
    assert (failed.returncode, failed.stdout) == (1, "own error")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "did you mean 'odd'" in unknown.stderr
    assert late.returncode == 1
    assert nobody.returncode == 4
    # The local token goes to local gateways alone.
    assert (stranger.returncode, "there is no token" in stranger.stderr) == (2, True)
    assert until(lambda: tango.state(sent.stdout.strip())["state"] == "succeeded")


def test_an_answer_streams_through(stack: LiveStack, tango: Tango) -> None:
    """The first part is there before the instances are told to make the others."""
    with tango.stream("odd", "/stream", timeout_s=60.0) as answer:
        parts = answer.parts()
        first = next(parts)
        goes_on(stack)
        rest = b"".join(parts)

    assert (first, rest) == (b"part-0", b"part-1part-2part-3")
    assert row(stack, answer.request)[:2] == ("succeeded", "")


def test_an_instance_that_never_answers_costs_its_caller_only_his_patience(stack: LiveStack, tango: Tango) -> None:
    """504 in time, and the row says that he left."""
    began_s = time.monotonic()
    with pytest.raises(TimedOut) as error:
        tango.request("odd", "/never", timeout_s=0.5)

    assert time.monotonic() - began_s < 30.0  # the instance sleeps for 60
    assert row(stack, error.value.request)[:2] == ("cancelled", "caller-timed-out")


def test_what_is_no_answer_is_a_failure_that_names_it(stack: LiveStack, tango: Tango) -> None:
    """Garbage and an answer that breaks off: never something that looks whole, and a reason in the row."""
    with pytest.raises(CallFailed) as garbage:
        tango.request("odd", "/garbage", body=b"x", timeout_s=5.0)
    with pytest.raises((AnswerCut, CallFailed)):
        tango.request("odd", "/cut", body=b"x", timeout_s=5.0)
    cut = until(lambda: stack.rows("SELECT run_id, request_id FROM request WHERE reason = 'answer-cut' AND state = 'failed'"))

    assert (garbage.value.status, garbage.value.word) == (502, "service-failed")
    assert row(stack, garbage.value.request)[:2] == ("failed", "instance-unreachable")
    assert len(cut) == 1


def test_an_error_of_the_service_is_its_answer(stack: LiveStack, tango: Tango) -> None:
    """It comes as it is; the row says that the service failed."""
    answer = tango.request("odd", "/error", body=b"x", timeout_s=5.0)

    assert (answer.status, answer.body) == (500, b"own error")
    assert row(stack, answer.request)[:2] == ("failed", "service-error")


def test_a_caller_who_hangs_up_cancels(stack: LiveStack, tango: Tango) -> None:
    """In the middle of an answer."""
    with tango.stream("odd", "/stream", timeout_s=5.0) as answer:
        next(answer.parts())

    assert row(stack, answer.request)[0] in ("cancelled", "failed")


def test_a_token_works_until_it_is_revoked(stack: LiveStack, tango: Tango) -> None:
    """Both are known at the gateway within seconds; its requests belong to its tenant."""
    made = stack.json("token", "create", "--tenant", "blue", "--name", "camera-1", "--class", "lc")

    with Tango(tango.url, token=made["secret"], retries=0) as blue:
        answer = until(lambda: answered(blue))
        with pytest.raises(Refused):
            tango.state(answer.request)
        stack.tango("token", "revoke", str(made["token"]), "--yes")
        until(lambda: not answered(blue))
    listed = {token["name"]: token for token in stack.json("token", "list")}

    assert listed["camera-1"]["tenant"] == "blue"
    assert listed["camera-1"]["revoked_at_s"] is not None
    assert made["secret"] not in json.dumps(listed)


def answered(tango: Tango) -> Answer | None:
    """An answer, where the token is known."""
    try:
        return tango.request("odd", timeout_s=5.0)
    except Refused:
        return None


def test_two_gateways_of_a_cluster_each_give_their_callers_their_answers(stack: LiveStack, tango: Tango) -> None:
    """The second one is reached by workers over TCP, as from another host; each knows the requests of the other."""
    variables, port, answers = stack.json("env"), free_port(), free_port()
    told = {k: v for k, v in os.environ.items() if not k.startswith("TANGO_")} | {k: v for k, v in variables.items() if v}
    told |= {"TANGO_HOME": str(stack.home), "TANGO_GATEWAY_ANSWER_ADDRESS": f"http://127.0.0.1:{answers}", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "from tango.cli.main import run; run()", "gateway", "--cluster", "c1", "--port", str(port)]
    with (
        running(command, env=told),
        Tango(f"http://127.0.0.1:{port}", token=variables["TANGO_TOKEN"], retries=0) as second,
    ):
        until(lambda: is_served(second))
        with second.stream("odd", "/stream", timeout_s=60.0) as answer:
            parts = answer.parts()
            beginning = next(parts)
            goes_on(stack)
            rest = b"".join(parts)
        long = second.request("odd", "/echo", body=b"x" * 300_000, method="POST", timeout_s=20.0)
        sent = tango.send("odd", "/echo")
        other = until(lambda: second.answer(sent))

    assert (beginning, rest) == (b"part-0", b"part-1part-2part-3")
    assert (long.status, other.status) == (200, 200)
    assert row(stack, answer.request)[:2] == ("succeeded", "")


def test_a_gateway_that_is_killed_loses_nothing_that_was_accepted(stack: LiveStack, tango: Tango) -> None:
    """Requests in flight are each recorded once, and their answers are fetched from the gateway that follows."""
    sent = [tango.send("odd", "/slow", key=f"kill-{k}") for k in range(10)]
    with ThreadPoolExecutor(10) as pool:
        waiting = [pool.submit(outcome, tango, f"wait-{k}") for k in range(10)]
        time.sleep(0.7)
        stack.kill("gateway")
        broken = [future.result() for future in waiting]
    until(lambda: answered_somehow(tango))
    again = [outcome(tango, f"wait-{k}") for k in range(10)]
    fetched = [until(lambda r=request: tango.answer(r)) for request in sent]

    assert broken == ["Unreachable"] * 10
    assert again == ["slow"] * 10
    assert [answer.body for answer in fetched] == [b"slow"] * 10
    run_id = sent[0].split("-")[0]
    ids = [int(request.split("-")[1]) for request in sent]
    query = "SELECT count(*), count(DISTINCT request_id) FROM attempt WHERE run_id = %s AND request_id = ANY (%s)"
    assert until(lambda: stack.rows(query, (run_id, ids)) == [(10, 10)])


def outcome(tango: Tango, key: str) -> str:
    """The body of the answer, or what went wrong."""
    try:
        return tango.request("odd", "/slow", method="POST", timeout_s=20.0, key=key).text
    except Exception as error:
        return type(error).__name__


def answered_somehow(tango: Tango) -> bool:
    """Whether there is a gateway again."""
    try:
        return tango.request("odd", timeout_s=5.0).is_ok
    except Exception:
        return False


def test_many_requests_at_once_are_each_answered_and_recorded(stack: LiveStack, tango: Tango) -> None:
    """By one client in a hurry: served, or told to come again; what was accepted ends, and nothing is accepted twice."""
    before = stack.rows("SELECT count(*) FROM request WHERE service = 'odd'")[0][0]

    def one(_: int) -> str:
        try:
            return str(tango.request("odd", "/burst", timeout_s=20.0).status)
        except CallFailed as error:
            return error.word

    with ThreadPoolExecutor(64) as pool:
        found = list(pool.map(one, range(600)))

    assert set(found) <= {"200", "too-many-requests", "overloaded", "shed", "timed-out"}
    assert found.count("200") > 100
    accepted = len(found) - found.count("too-many-requests") - found.count("overloaded")
    ended = "SELECT count(*) FROM request WHERE service = 'odd' AND state IN ('succeeded', 'failed', 'shed', 'cancelled')"
    assert until(lambda: stack.rows(ended)[0][0] >= before + accepted)


def test_calls_under_way_hold_no_slot(stack: LiveStack, tango: Tango) -> None:
    """Far more answers are being streamed than the cluster's workers have slots for tasks, and no task is active."""
    told = stack.json("env")
    with ExitStack() as under_way:
        answers = [under_way.enter_context(tango.stream("odd", "/stream", timeout_s=60.0)) for _ in range(UNDER_WAY)]
        begun = [next(answer.parts()) for answer in answers]
        active = active_tasks(told)
        goes_on(stack)

    assert begun == [b"part-0"] * UNDER_WAY
    assert active == []


def test_callers_are_served_while_postgresql_is_away(stack: LiveStack, tango: Tango) -> None:
    """For ten seconds: nothing that a request needs lies there, and its row is there as soon as it is back. A job is refused meanwhile,
    and nothing of it is kept."""
    before = stack.rows("SELECT count(*) FROM request WHERE class = 'be'")
    rows = json.loads((stack.home / "run" / "status.json").read_text())["processes"]
    server = next(row["pid"] for row in rows if row["name"] == "postgres")
    everybody = [server, *(child.pid for child in psutil.Process(server).children(recursive=True))]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    try:
        answers, refused = [], []
        for k in range(20):
            answers.append(tango.request("odd", timeout_s=5.0))
            if k % 5 == 0:
                with pytest.raises(CallFailed) as error:
                    tango.submit("count", args=[str(k)])
                refused.append((error.value.status, error.value.word))
            time.sleep(0.5)
    finally:
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)

    assert [answer.status for answer in answers] == [200] * 20
    assert {row(stack, answer.request)[0] for answer in answers} == {"succeeded"}
    assert refused == [(503, "centre-away")] * 4
    assert stack.rows("SELECT count(*) FROM request WHERE class = 'be'") == before


NEVER_READY = f"""
apiVersion: tango/v1
kind: Service
metadata: {{name: never}}
spec:
  class: lc
  target_ms: 1000
  template:
    spec:
      containers:
        - name: web
          image: none
          command: [{sys.executable}, {SERVICE}]
          ports: [{{containerPort: 18081, name: http}}]
          readinessProbe: {{exec: {{command: ["false"]}}, periodSeconds: 1}}
          resources: {{requests: {{cpu: 100m, memory: 64Mi}}, limits: {{cpu: "1", memory: 128Mi}}}}
"""


def test_a_service_that_never_becomes_ready_takes_nothing_that_is_waited_for(
    stack: LiveStack, tango: Tango, tmp_path: Path
) -> None:
    """Its declaration says how far it is, its callers are told at once; who does not wait is accepted, and may withdraw."""
    (tmp_path / "never.yaml").write_text(NEVER_READY)
    applied = stack.tango("service", "apply", "-f", str(tmp_path / "never.yaml"), "--wait", "--timeout", "4")
    with pytest.raises(CallFailed) as error:
        tango.request("never", timeout_s=20.0)
    rows = stack.rows("SELECT count(*) FROM request WHERE service = 'never'")
    sent = tango.send("never")
    waits = tango.state(sent)["state"]
    tango.withdraw(sent)
    withdrawn = until(
        lambda: (found := row(stack, sent)[:2])[0] == "cancelled" and found
    )  # so far a live request needs the service
    deleted = stack.tango("service", "delete", "never")

    assert (applied.returncode, "0 of 2 instances ready" in applied.stderr) == (124, True), applied.stderr
    assert (error.value.status, error.value.word) == (503, "no-instance")
    assert rows == [(0,)]
    assert waits == "released"
    assert withdrawn == ("cancelled", "cancelled-by-user")
    assert deleted.returncode == 0, deleted.stderr


def test_over_midnight_what_was_accepted_stays_in_its_run(stack: LiveStack, tango: Tango) -> None:
    """By the day that the store has for the run: its answer comes as if nothing were, the next request is of the next day's run, and the
    one before is completed with the last of its requests."""
    with tango.stream("odd", "/stream", timeout_s=120.0) as answer:
        parts = answer.parts()
        first = next(parts)
        before = answer.request.split("-")[0]
        url = json.loads((stack.home / "stack.json").read_text())["database_url"]
        with closing(psycopg2.connect(url)) as store, store, store.cursor() as cursor:
            cursor.execute("UPDATE run SET settings = jsonb_set(settings, '{day}', '\"2001-01-01\"') WHERE run_id = %s", (before,))
        opened = "SELECT run_id FROM run WHERE kind = 'live' AND run_id > %s AND closed_at IS NULL"
        ((after,),) = until(lambda: stack.rows(opened, (before,)))
        until(lambda: (r := somehow(tango)) is not None and int(r.request.split("-")[0]) == after)
        status = "SELECT status FROM run WHERE run_id = %s"
        meanwhile = stack.rows(status, (before,))
        goes_on(stack)
        rest = b"".join(parts)

    assert (first, rest) == (b"part-0", b"part-1part-2part-3")
    assert row(stack, answer.request)[:2] == ("succeeded", "")
    assert meanwhile == [("draining",)]
    assert until(lambda: stack.rows(status, (before,)) == [("completed",)])
    left = "SELECT count(*) FROM request WHERE run_id = %s AND state NOT IN ('succeeded', 'failed', 'shed', 'cancelled')"
    assert stack.rows(left, (before,)) == [(0,)]


def somehow(tango: Tango) -> Answer | None:
    """An answer, if there is one just now."""
    try:
        return tango.request("odd", timeout_s=5.0)
    except CallFailed:
        return None


def lives(pid: int) -> bool:
    """Whether the process is there and has not ended."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_kubelet_that_is_killed_under_load_leaves_no_process_and_no_request_behind(stack: LiveStack, tango: Tango) -> None:
    """Its processes go with it; callers are answered or told, by the instances of the one that follows, and each request ends once."""
    pids = {answer.json()["pid"] for answer in (tango.request("odd", timeout_s=5.0) for _ in range(8))}
    before = stack.rows("SELECT coalesce(max(request_id), 0), max(run_id) FROM request WHERE service = 'odd'")[0]
    is_over = threading.Event()

    def call(_: int) -> list[str]:
        found = []
        while not is_over.is_set():
            try:
                found.append(str(tango.request("odd", "/burst", timeout_s=2.0).status))
            except CallFailed as error:
                found.append(error.word)
                time.sleep(0.05)
            except AnswerCut:
                found.append("cut")
        return found

    with ThreadPoolExecutor(16) as pool:
        calling = [pool.submit(call, k) for k in range(16)]
        time.sleep(1.0)
        stack.kill("kubelet")
        until(lambda: not any(lives(pid) for pid in pids))
        until(lambda: answered_somehow(tango))
        time.sleep(1.0)
        is_over.set()
        found = [word for future in calling for word in future.result()]
    after = {answer.json()["pid"] for answer in (tango.request("odd", timeout_s=5.0) for _ in range(8))}

    told = {"no-instance", "service-failed", "answer-lost", "timed-out", "shed", "overloaded", "too-many-requests"}
    assert set(found) <= {"200", "cut", *told}
    assert found.count("200") > 50
    assert not after & pids
    live = "SELECT count(*) FROM request WHERE service = 'odd' AND state NOT IN ('succeeded', 'failed', 'shed', 'cancelled')"
    assert until(lambda: stack.rows(live) == [(0,)])
    twice = (
        "SELECT request_id FROM attempt WHERE run_id = %s AND request_id > %s AND service = 'odd' AND outcome = 'succeeded' "
        "GROUP BY 1 HAVING count(*) > 1"
    )
    assert stack.rows(twice, (before[1], before[0])) == []


def test_a_broker_that_forgets_everything_is_noticed_and_survived(stack: LiveStack, tango: Tango) -> None:
    """Who waits is told soon; what was accepted is served once the broker is back."""
    sent = tango.send("odd", "/slow")
    stack.kill("broker")
    for file in (stack.home / "data" / "broker").rglob("*"):
        if file.is_file() and file.suffix in (".aof", ".rdb", ".manifest"):
            file.unlink(missing_ok=True)
    later = [outcome(tango, f"broker-{k}") for k in range(3)]
    until(lambda: answered_somehow(tango))

    assert set(later) <= {"slow", "Busy", "TimedOut"}
    assert until(lambda: tango.answer(sent)).body == b"slow"
