"""Jobs on a running stack whose pods are real processes: exit codes, retries, evictions, logs, and processes of Tango that are killed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tango.client import Tango
from tango.kube.api_client import KubeClient
from tango.settings import KubeSettings
from tests.integration.live_stack import LiveStack
from tests.waiting import WITHIN_S

pytestmark = [pytest.mark.timeout(300)]

SCRIPT = '''
"""A job: each word is a step."""
import json, os, signal, sys, time

notes, attempt = sys.argv[1], int(os.environ["TANGO_ATTEMPT"])

def note(what):
    with open(notes, "a") as file:
        file.write(f"{what} {os.environ['TANGO_REQUEST']} {attempt} {time.time():.3f}\\n")

def stop(signum, frame):
    print("saving", flush=True)
    with open(os.environ["TANGO_PROGRESS_FILE"], "w") as file:
        json.dump({"done_s": 100.0, "saved_s": 93.0}, file)
    note("end")
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
note("begin")
print(f"attempt {attempt} of {os.environ['TANGO_REQUEST']} in {os.environ.get('MODE', 'no')} mode", flush=True)
for step in sys.argv[2:]:
    kind, _, value = step.partition("=")
    if kind == "sleep" or kind == "sleep-first" and attempt == 1:
        time.sleep(float(value))
    elif kind == "await":
        while not os.path.exists(value):
            time.sleep(0.05)
    elif kind == "say":
        print(value, flush=True)
    elif kind == "chatter":
        for k in range(int(value) // 100):
            print(f"{k:099d}")
    elif kind == "message":
        with open(os.environ["TANGO_PROGRESS_FILE"], "w") as file:
            file.write(value)
    elif kind == "exit" or kind == "exit-before" and attempt < int(value.partition(":")[2]):
        note("end")
        sys.exit(int(value.partition(":")[0]))
    elif kind == "kill":
        note("end")
        os.kill(os.getpid(), int(value))
note("end")
'''
FLEET = """
apiVersion: tango/v1
kind: Fleet
metadata: {{name: jobs}}
spec:
  run: processes
  clusters:
    - name: j1
      nodes: [{{name: j1-n1, cpu_millicores: 8000, memory_mib: 8192}}]
  services:
    - name: steps
      class: be
      cpu_work_s: 1
      memory_mib: 64
      cpu_request_millicores: 100
      cpu_limit_millicores: 1000
      template:
        spec:
          terminationGracePeriodSeconds: 10
          containers:
            - name: main
              image: steps
              command: [{python}, {script}, {notes}]
    - name: nothing
      class: be
      cpu_work_s: 1
      memory_mib: 64
      cpu_request_millicores: 100
      cpu_limit_millicores: 1000
      template:
        spec:
          containers: [{{name: main, image: there-is-none}}]
"""


class Jobs:
    """`tango job` on a stack, and what its jobs noted of themselves."""

    def __init__(self, stack: LiveStack, notes: Path) -> None:
        self.stack, self._notes = stack, notes

    def submit(self, *steps: str, service: str = "steps", options: tuple[str, ...] = ()) -> str:
        """Give its id."""
        return str(self.stack.json_of("job", "submit", "--service", service, *options, "-o", "json", "--", *steps)["job"])

    def ended(self, job: str, *, within_s: float = WITHIN_S) -> dict[str, Any]:
        """The job once it has ended."""
        done = self.stack.tango("job", "wait", job, "--timeout", str(within_s), "-o", "json")
        assert done.returncode in (0, 1), done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (0 if found["state"] == "succeeded" else 1)
        return found

    def running(self, job: str, *, attempt: int = 1, within_s: float = WITHIN_S) -> str:
        """Wait until this attempt runs; give its pod."""
        run, request = job.split("-")
        query = "SELECT pod FROM request WHERE run_id = %s AND request_id = %s AND state = 'running' AND attempt = %s"
        return str(self.until(lambda: self.stack.rows(query, (run, request, attempt)), within_s=within_s)[0][0])

    def until(self, found: Callable[[], Any], *, within_s: float = WITHIN_S) -> Any:
        """What is found, as soon as it is something."""
        deadline_s = time.monotonic() + within_s
        while not (what := found()):
            assert time.monotonic() < deadline_s, self.stack.tango("job", "list").stdout
            time.sleep(0.1)
        return what

    def log(self, job: str, *options: str) -> str:
        """What `tango job logs` prints."""
        done = self.stack.tango("job", "logs", job, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def spans(self, job: str) -> list[tuple[int, float, float]]:
        """(attempt, begin, end) of each process of a job that noted both, in order of their begins."""
        open_at: dict[int, float] = {}
        found = []
        for line in self._notes.read_text().splitlines():
            what, of_job, attempt, at_s = line.split()
            if of_job == job and what == "begin":
                open_at[int(attempt)] = float(at_s)
            elif of_job == job:
                found.append((int(attempt), open_at.pop(int(attempt)), float(at_s)))
        return sorted(found, key=lambda span: span[1])

    def has_begun(self, job: str) -> bool:
        """Whether a process of the job has noted its begin."""
        return self._notes.exists() and any(line.split()[:2] == ["begin", job] for line in self._notes.read_text().splitlines())

    def evict(self, pod: str) -> None:
        """Through the eviction API, with the pod's own grace."""

        async def evict() -> None:
            path, context = str(self.stack.home / "kubeconfig"), "j1"
            async with await KubeClient.from_kubeconfig(path, context, KubeSettings(), cluster="j1") as client:
                body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
                await client.request("POST", f"/api/v1/namespaces/tango/pods/{pod}/eviction", body=body)

        asyncio.run(evict())


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended meanwhile
        return b""


class JobsStack(LiveStack):
    """A stack whose commands may have `-o json` before `--`."""

    def json_of(self, *arguments: str) -> Any:
        """What a command prints; it must succeed."""
        done = self.tango(*arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[JobsStack, Path]]:
    """The stack, and the file that jobs note themselves in."""
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "steps.py").write_text(SCRIPT)
    notes = folder / "notes"
    fleet = FLEET.format(python=sys.executable, script=folder / "steps.py", notes=notes)
    (folder / "fleet.yaml").write_text(fleet)
    stack = JobsStack(folder / "home", settings={"TANGO_JOB_IMAGE_WITHIN_S": "2"})
    try:
        stack.start(folder / "fleet.yaml")
        yield stack, notes
    finally:
        stack.stop()


@pytest.fixture
def jobs(whole: tuple[JobsStack, Path]) -> Jobs:
    """With empty notes."""
    stack, notes = whole
    notes.write_text("")
    return Jobs(stack, notes)


def test_exit_codes_messages_and_logs_are_kept(jobs: Jobs) -> None:
    """0, another one, and a kill; the pods are gone afterwards."""
    good = jobs.submit("say=done", "message=42 frames", options=("--env", "MODE=fast"))
    bad, killed = jobs.submit("exit=3"), jobs.submit("kill=9")

    shown = [jobs.ended(job) for job in (good, bad, killed)]

    assert [(s["state"], s["exit_code"], s["reason"], s["attempts"]) for s in shown] == [
        ("succeeded", 0, None, 1),
        ("failed", 3, "exit-code", 1),
        ("failed", 137, "exit-code", 1),
    ]
    assert shown[0]["message"] == "42 frames"
    assert shown[0]["node"] == "j1/j1-n1"
    assert jobs.log(good) == f"attempt 1 of {good} in fast mode\ndone\n"
    assert jobs.log(bad, "-f").startswith(f"attempt 1 of {bad} in no mode")


def test_a_failure_is_tried_again_for_the_codes_that_were_asked_for(jobs: Jobs) -> None:
    """Twice, and then it succeeds; another code is final."""
    again = jobs.submit("exit-before=75:3", options=("--retries", "2", "--retry-on", "75"))
    other = jobs.submit("exit=1", options=("--retries", "2", "--retry-on", "75"))

    assert [(s["state"], s["attempts"], s["retries_used"]) for s in map(jobs.ended, (again, other))] == [
        ("succeeded", 3, 2),
        ("failed", 1, 0),
    ]
    assert jobs.log(again) == f"attempt 3 of {again} in no mode\n"


def test_an_eviction_has_its_grace_costs_no_retry_and_loses_what_was_not_saved(jobs: Jobs) -> None:
    """The process saves its state and exits with 0, which is no success; the next attempt begins when it has ended."""
    job = jobs.submit("sleep-first=60", "say=resumed")
    pod = jobs.running(job)
    jobs.until(lambda: jobs.has_begun(job))  # a program that has not begun does not listen to SIGTERM yet

    jobs.evict(pod)
    shown = jobs.ended(job)

    first, second = jobs.spans(job)
    assert (shown["state"], shown["attempts"], shown["retries_used"], shown["exit_code"]) == ("succeeded", 2, 0, 0)
    assert shown["work_lost_s"] == pytest.approx(7.0)
    assert first[2] <= second[1]
    kept = jobs.stack.rows(
        "SELECT epoch, convert_from(tail, 'UTF8') FROM job_log WHERE (run_id || '-' || request_id) = %s ORDER BY 1", (job,)
    )
    assert [("saving" in text, "resumed" in text) for _, text in kept] == [(True, False), (False, True)]


def test_a_deadline_ends_a_job_for_good(jobs: Jobs) -> None:
    """Though retries were left."""
    shown = jobs.ended(jobs.submit("sleep=60", options=("--deadline", "2", "--retries", "3")))

    assert (shown["state"], shown["reason"], shown["attempts"]) == ("failed", "deadline-exceeded", 1)


@pytest.mark.parametrize("what", ["job", "run"])
def test_a_cancelled_job_has_its_grace_and_its_last_words_are_kept(jobs: Jobs, what: str) -> None:
    """By itself or with the run of its day: its row is cancelled at once, and the exit code follows."""
    job = jobs.submit("sleep=60")
    jobs.running(job)

    done = jobs.stack.tango(what, "cancel", job if what == "job" else job.partition("-")[0])
    shown = jobs.ended(job)
    jobs.until(lambda: jobs.stack.json("job", "show", job)["exit_code"] == 0)

    assert done.returncode == 0
    assert (shown["state"], shown["reason"]) == ("cancelled", "cancelled-by-user")
    assert "saving" in jobs.log(job)
    assert len(jobs.spans(job)) == 1


@pytest.mark.parametrize("size", [30_000_000, pytest.param(1_000_000_000, marks=pytest.mark.long)])
def test_of_a_chatty_job_the_end_of_the_log_is_kept(jobs: Jobs, size: int) -> None:
    """64 KiB of 30 MB, and of a gigabyte, of which no more than 20 MiB is ever on the disk."""
    job = jobs.submit(f"chatter={size}")
    assert jobs.ended(job, within_s=250.0)["state"] == "succeeded"

    log = jobs.log(job)

    assert len(log) == 64 * 1024
    assert log.endswith(f"{size // 100 - 1:099d}\n")
    assert sum(file.stat().st_size for file in (jobs.stack.home / "data" / "pods").rglob("*.log*")) < 25 << 20


def test_a_key_twice_is_one_job(jobs: Jobs) -> None:
    """The second submission prints the first one's id; with other content it is refused."""
    first = jobs.submit("say=once", options=("--key", "nightly"))
    again = jobs.submit("say=once", options=("--key", "nightly"))
    other = jobs.stack.tango("job", "submit", "--service", "steps", "--key", "nightly", "--", "say=twice")
    jobs.ended(first)

    assert first == again
    assert (other.returncode, f"taken by job {first}" in other.stderr) == (3, True)
    assert len(jobs.spans(first)) == 1


def test_a_log_is_followed_while_the_job_runs(jobs: Jobs, tmp_path: Path) -> None:
    """What it says comes at once, and the command ends with the job."""
    job = jobs.submit("say=early", f"await={tmp_path / 'seen'}", "say=late")
    jobs.running(job)
    code = "from tango.cli.main import run; run()"
    following = subprocess.Popen(
        [sys.executable, "-c", code, "job", "logs", "-f", job],
        env={"TANGO_HOME": str(jobs.stack.home), "PYTHONPATH": str(Path(__file__).parent.parent.parent), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
    )
    assert following.stdout is not None
    early = [following.stdout.readline() for _ in range(2)]
    state = jobs.stack.json("job", "show", job)["state"]
    (tmp_path / "seen").touch()
    rest = following.stdout.read()

    assert following.wait(WITHIN_S) == 0
    assert (early[1], state, rest) == (b"early\n", "running", b"late\n")


def test_a_job_whose_image_is_not_there_fails_after_a_time(jobs: Jobs) -> None:
    """In its first attempt, with Kubernetes' words."""
    job = jobs.submit(service="nothing")
    shown = jobs.ended(job)
    waited = jobs.stack.rows("SELECT waiting FROM job WHERE run_id = %s AND request_id = %s", job.split("-"))

    assert waited == [(shown["message"],)]  # what `job show` has said until then
    assert shown["waiting"] is None
    assert (shown["state"], shown["reason"], shown["attempts"], shown["exit_code"]) == ("failed", "image-not-pulled", 1, None)
    assert "main: " in shown["message"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--service", "stepz"), "no service 'stepz' (did you mean 'steps'?)"),
        (("--service", "steps", "--env", "API_TOKEN=x"), "looks like a secret"),
        (("--service", "steps", "--retry-on", "75"), "--retry-on is for --retries above 0"),
        (("--service", "steps", "--env", "x"), "expected NAME=VALUE"),
    ],
)
def test_what_cannot_run_is_refused_with_what_to_do(jobs: Jobs, options: tuple[str, ...], says: str) -> None:
    """Nothing is kept of it."""
    before = len(jobs.stack.json("job", "list"))
    done = jobs.stack.tango("job", "submit", *options)

    assert done.returncode in (2, 3)
    assert says in done.stderr
    assert len(jobs.stack.json("job", "list")) == before


def test_killed_processes_neither_lose_a_job_nor_run_it_twice_at_once(jobs: Jobs) -> None:
    """Scheduler, agent and a worker, killed while jobs come and run: each runs once, to a good end."""
    first = jobs.submit("sleep=8")
    jobs.running(first)
    for process in ("agent", "scheduler", "worker-1"):
        jobs.stack.kill(process)
    second = jobs.submit("say=while they are away")

    shown = [jobs.ended(job, within_s=120.0) for job in (first, second)]

    assert [(s["state"], s["attempts"]) for s in shown] == [("succeeded", 1)] * 2
    assert [len(jobs.spans(job)) for job in (first, second)] == [1, 1]


def test_a_program_sends_jobs_to_the_gateway(jobs: Jobs) -> None:
    """Through the Python client: exit codes, logs, keys, many at once; a command of its own is not run as a local process."""
    told = dict(line.removeprefix("export ").split("=", 1) for line in jobs.stack.tango("env").stdout.splitlines() if "=" in line)
    address, token = (told[name].strip("'\"") for name in ("TANGO_GATEWAY_URL", "TANGO_TOKEN"))
    with Tango(address, token=token) as tango:
        one = tango.submit("steps", ["say=by http", "exit=4"], key="client").wait(60.0)
        same = tango.submit("steps", ["say=by http", "exit=4"], key="client")
        many = {job.id: job.exit_code for job in tango.map("steps", [[f"exit={k}"] for k in range(5)], in_flight=2)}
        cancelled = tango.submit("steps", ["sleep=60"]).cancel()
        brought = tango.submit("steps", command=["/bin/true"]).wait(60.0)

        assert (one.state, one.exit_code, same.id) == ("failed", 4, one.id)
        assert "by http" in one.logs()
        assert sorted(many.values()) == [0, 1, 2, 3, 4]  # type: ignore[type-var]
        assert cancelled.state == "cancelled"
        assert (brought.state, brought.facts["attempts"]) == ("failed", 1)
        assert brought.facts["reason"] in ("never-started", "image-not-pulled")


def test_a_lost_node_costs_no_retry(jobs: Jobs) -> None:
    """The virtual kubelet is killed: its process goes with it, and the job is done by a second attempt that begins afterwards."""
    job = jobs.submit("sleep-first=60", "say=done")
    jobs.running(job)
    jobs.until(lambda: jobs.has_begun(job))
    jobs.stack.kill("kubelet")

    shown = jobs.ended(job, within_s=120.0)

    assert (shown["state"], shown["attempts"], shown["retries_used"]) == ("succeeded", 2, 0)
    assert jobs.log(job).endswith("done\n")
    mine = bytes(jobs.stack.home.parent)  # the programs of other test runs on this machine have the same words
    assert not [
        path for path in Path("/proc").glob("[0-9]*/cmdline") if b"sleep-first=60" in (said := _content(path)) and mine in said
    ]


def test_a_store_that_is_away_loses_no_job_that_runs_or_ends_meanwhile(jobs: Jobs) -> None:
    """PostgreSQL is killed while one job runs to its end; its supervisor brings it back, and exit code and log are there."""
    job = jobs.submit("sleep=3", "say=ended while nobody listened", "exit=5")
    jobs.running(job)
    jobs.stack.kill("postgres")

    jobs.until(lambda: jobs.stack.tango("job", "show", job).returncode == 0, within_s=60.0)
    shown = jobs.ended(job)

    assert (shown["state"], shown["exit_code"], shown["attempts"]) == ("failed", 5, 1)
    assert "nobody listened" in jobs.log(job)


def test_another_celery_application_submits_a_job_and_gets_its_id(jobs: Jobs) -> None:
    """By the broker alone; what is refused comes back as the error, and the same key is the same job."""
    url = json.loads((jobs.stack.home / "stack.json").read_text())["broker_url"]
    app = Celery("somebody-elses", broker=url, backend="rpc://")
    app.conf.broker_transport_options = {"global_keyprefix": "tango."}

    def send(**order: Any) -> Any:
        return app.send_task("tango.job", kwargs=order, queue="submit.j1").get(timeout=30)

    sent = [send(service="steps", args=["say=by message"], key="k") for _ in range(2)]
    with pytest.raises(Exception, match="which has another args"):
        send(service="steps", key="k")
    with pytest.raises(Exception, match="'arg' is no member"):
        send(service="steps", arg=[])
    with pytest.raises(Exception, match="expected at most 65536"):
        send(service="steps", args=["x" * 70_000])

    assert sent[0] == sent[1]
    assert jobs.ended(sent[0])["state"] == "succeeded"
    assert jobs.log(sent[0]).endswith("by message\n")
