"""Pods as local processes: a virtual kubelet that runs real programs, against an API server in memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tango.domain.fleet import Cluster, Fleet, Node, RunPods
from tango.domain.kubelet_ways import KubeletWays
from tango.emulation.pod_logs import LogReader, log_path, pod_folder
from tango.emulation.virtual_kubelet import process_host
from tango.emulation.virtual_kubelet.kubelet import VirtualKubelet
from tango.emulation.virtual_kubelet.node_timeline import NodeTimeline
from tango.emulation.virtual_kubelet.pod_addresses import PodAddresses
from tango.emulation.virtual_kubelet.process_host import ProcessHost
from tango.emulation.virtual_kubelet.process_usage import group_usage
from tests.fakes.kube_client import FakeKubeClient
from tests.waiting import WITHIN_S

Json = dict[str, Any]
NODE = Node(name="n1", cpu_millicores=4000, memory_mib=4096)
FLEET = Fleet(
    name="f",
    clusters=(Cluster(name="here", nodes=(NODE,)),),
    services=(),
    run=RunPods.PROCESSES,
    actuation_delay_s=0.01,
    kubelets=KubeletWays(backoff_s=(1.0, 60.0)),
)
PODS = "/api/v1/namespaces/tango/pods"
SERVE = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (os.environ["MODE"] + self.path).encode()
        self.send_response(int(os.environ.get("STATUS", "200")))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
print("listening on", os.environ["HOST"], os.environ["PORT"], flush=True)
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""


@dataclass
class World:
    """A kubelet that follows the pods of an API server in memory."""

    client: FakeKubeClient
    kubelet: VirtualKubelet
    folder: Path

    def put(self, name: str, *containers: Json, kind: str = "be", init: tuple[Json, ...] = (), **spec: Any) -> Json:
        """A pod that is bound to the node; its first container is the service's."""
        annotations = {"tango/container": containers[0]["name"]} | ({"tango/port": "18081"} if kind == "lc" else {})
        restart = "Always" if kind == "lc" else "Never"
        return self.client.put(
            f"{PODS}/{name}",
            {
                "metadata": {"namespace": "tango", "labels": {"tango/class": kind}, "annotations": annotations},
                "spec": {
                    "nodeName": "n1",
                    "restartPolicy": restart,
                    "containers": list(containers),
                    "initContainers": list(init),
                    **spec,
                },
                "status": {"phase": "Pending"},
            },
        )

    def status(self, name: str) -> Json:
        """What the kubelet has written."""
        found: Json = self.client.objects[f"{PODS}/{name}"]["status"]
        return found

    def container(self, name: str, k: int = 0) -> Json:
        """The status of a container, empty before there is one."""
        found = self.status(name).get("containerStatuses") or [{}]
        return dict(found[k])

    def is_ready(self, name: str) -> bool:
        """Its Ready condition."""
        return any(c["type"] == "Ready" and c["status"] == "True" for c in self.status(name).get("conditions") or [])

    def log(self, pod: Json, container: str = "work", restart: int = 0) -> str:
        """What a container has written."""
        metadata = pod["metadata"]
        reader = LogReader(log_path(pod_folder(self.folder, "tango", metadata["name"], metadata["uid"]), container, restart))
        with contextlib.closing(reader):
            return b"".join(reader.start(tail_lines=None)).decode()

    async def until(self, holds: Callable[[], bool], within_s: float = WITHIN_S) -> None:
        """Wait until something holds; fails with all statuses when it does not."""
        deadline_s = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline_s, {path: o.get("status") for path, o in self.client.objects.items() if PODS in path}
            await asyncio.sleep(0.02)

    async def ended(self, name: str) -> Json:
        """How the service's container ended, once the pod has."""
        await self.until(lambda: self.status(name)["phase"] in ("Succeeded", "Failed"))
        return dict(self.container(name)["state"]["terminated"])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """It runs until the end of the test; its processes start in a folder of their own."""
    client, loop, addresses = FakeKubeClient(), asyncio.get_running_loop(), PodAddresses()
    pods, work = tmp_path / "pods", tmp_path / "work"
    pods.mkdir()
    work.mkdir()
    kubelet = VirtualKubelet(
        client,  # type: ignore[arg-type]
        FLEET,
        FLEET.clusters[0],
        namespace="tango",
        timeline=NodeTimeline([4.0], beta=0.0, call_later=loop.call_later),
        addresses=addresses,
        processes=ProcessHost("here", folder=work, pods=pods, addresses=addresses),
    )
    running = asyncio.create_task(kubelet.run())
    made = World(client, kubelet, pods)
    await made.until(lambda: client.is_watched(PODS))
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await kubelet.stop()


def container(*command: str, name: str = "work", limit: str = "512Mi", **fields: Any) -> Json:
    """A container with a command and Burstable resources."""
    resources = {"requests": {"cpu": "100m", "memory": limit}, "limits": {"cpu": "1", "memory": limit}}
    return {"name": name, "image": "none", "command": list(command), "resources": resources, **fields}


def python(code: str, **fields: Any) -> Json:
    """A container that runs a Python program."""
    return container(sys.executable, "-c", code, **fields)


def server(**fields: Any) -> Json:
    """A small HTTP server that says its variable MODE and the path."""
    env = [{"name": "MODE", "value": "fast"}, *fields.pop("env", [])]
    return python(SERVE, ports=[{"containerPort": 18081, "name": "http"}], env=env, **fields)


async def get(world: World, name: str, path: str) -> str:
    """The body of an answer of a pod."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{world.status(name)['podIP']}:18081{path}") as answer:
        return await answer.text()


async def test_a_service_answers_real_requests_at_an_address_of_its_own(world: World) -> None:
    """Ready when its port is open, told where to listen, two at one port; what it prints is its log."""
    pods = [world.put(name, server(), kind="lc") for name in ("a", "b")]
    await world.until(lambda: world.is_ready("a") and world.is_ready("b"))

    assert await get(world, "a", "/x") == "fast/x"
    assert await get(world, "b", "/y") == "fast/y"
    assert world.status("a")["podIP"] != world.status("b")["podIP"]
    assert world.log(pods[0]).splitlines()[0] == f"listening on {world.status('a')['podIP']} 18081"


async def test_a_job_ends_with_its_exit_code_and_message(world: World) -> None:
    """`/dev/termination-log` is the pod's own, arguments follow the command, variables are put in."""
    code = "import os, sys; print('to', sys.argv[1]); open(os.environ['OUT'], 'w').write('half'); sys.exit(3)"
    env = [
        {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "OUT", "value": "/dev/termination-log"},
    ]
    pod = world.put("job", python(code, args=["$(ME)/$(NONE)"], env=env))

    end = await world.ended("job")

    assert (world.status("job")["phase"], end["exitCode"], end["reason"], end["message"]) == ("Failed", 3, "Error", "half")
    assert world.log(pod) == "to job/$(NONE)\n"


async def test_an_image_alone_is_not_pulled(world: World) -> None:
    """It waits as one whose image cannot be had, and says why."""
    world.put("image", {"name": "work", "image": "registry.example/x:1"})
    await world.until(lambda: world.container("image").get("state", {}).get("waiting", {}).get("reason") == "ImagePullBackOff")

    assert world.status("image")["phase"] == "Pending"
    assert "local processes run a command" in world.container("image")["state"]["waiting"]["message"]


async def test_a_program_that_is_not_there_fails_the_job(world: World) -> None:
    """As a container runtime says it."""
    world.put("typo", container("pyhton", "-V"))

    end = await world.ended("typo")

    assert (end["exitCode"], end["reason"]) == (128, "StartError")
    assert "pyhton" in end["message"]


async def test_what_holds_more_memory_than_it_may_is_killed(world: World) -> None:
    """137 and OOMKilled; a program within its limit goes on."""
    world.put("greedy", python("x = bytearray(300 << 20); import time; time.sleep(60)", limit="128Mi"))

    end = await world.ended("greedy")

    assert (end["exitCode"], end["reason"]) == (137, "OOMKilled")


async def test_limits_of_memory_hold_after_a_look_that_broke(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would be killed any more if the first defect ended the looking."""
    looks: list[int] = []

    def breaks_once(groups: Collection[int]) -> dict[int, tuple[float, float]]:
        looks.append(len(groups))
        if len(looks) == 1:
            raise ZeroDivisionError("a defect")
        return group_usage(groups)

    monkeypatch.setattr(process_host, "group_usage", breaks_once)
    world.put("greedy", python("x = bytearray(300 << 20); import time; time.sleep(60)", limit="128Mi"))

    end = await world.ended("greedy")

    assert end["reason"] == "OOMKilled"
    assert world.kubelet.pool.processes is not None
    assert world.kubelet.pool.processes.broken == 1


async def test_sigterm_gives_a_job_its_grace_and_its_end_is_told_before_it_goes(world: World) -> None:
    """What it saves in that time is kept; the exit code is its own."""
    code = """
import os, signal, sys, time
def save(*_):
    # os.write: the signal may come while the main program is still inside its print, which a second one may not enter.
    time.sleep(0.3); open('state', 'w').write('saved'); os.write(1, b'saved\\n'); sys.exit(9)
signal.signal(signal.SIGTERM, save); print('up', flush=True); time.sleep(60)
"""
    pod = world.put("saves", python(code))
    await world.until(lambda: "up" in world.log(pod))

    metadata = {**pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 5}
    world.client.put(f"{PODS}/saves", {**world.client.objects[f"{PODS}/saves"], "metadata": metadata})
    await world.until(lambda: f"{PODS}/saves" not in world.client.objects)

    told = [body["status"] for method, path, body in world.client.calls if method == "PATCH" and path == f"{PODS}/saves/status"]
    assert told[-1]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 9
    assert (world.folder.parent / "work" / "state").read_text() == "saved"
    assert list(world.folder.iterdir()) == []


async def test_what_does_not_heed_sigterm_is_killed_with_all_it_has_started(world: World) -> None:
    """SIGKILL to the group after the grace period."""
    code = "import signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    code += "print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
    pod = world.put("deaf", python(code))
    await world.until(lambda: world.log(pod).endswith("\n"))
    child = int(world.log(pod))

    await world.kubelet.pool.stop(pod["metadata"]["uid"], grace_s=0.3)

    assert (await world.ended("deaf"))["exitCode"] == 137
    await world.until(lambda: not Path(f"/proc/{child}").exists() or ") Z" in Path(f"/proc/{child}/stat").read_text())


async def test_an_instance_that_crashes_is_started_again_with_a_log_of_its_own(world: World) -> None:
    """At once the first time, then after CrashLoopBackOff; the count of restarts, how the last one ended."""
    code = "import os, sys, pathlib; p = pathlib.Path('lives'); n = len(p.read_text()) if p.exists() else 0\n"
    code += "p.write_text('x' * (n + 1)); print('life', n, flush=True)\nif n < 2: sys.exit(1)\n"
    pod = world.put(
        "crash", python(code + SERVE, ports=[{"containerPort": 18081}], env=[{"name": "MODE", "value": "m"}]), kind="lc"
    )
    await world.until(lambda: world.container("crash").get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff")
    assert not world.is_ready("crash")

    await world.until(lambda: world.is_ready("crash"))

    assert (world.container("crash")["restartCount"], world.container("crash")["lastState"]["terminated"]["exitCode"]) == (2, 1)
    assert world.log(pod) == "life 0\n"
    await world.until(lambda: world.log(pod, restart=2).startswith("life 2\n"))


async def test_an_instance_whose_probe_fails_is_never_ready(world: World) -> None:
    """Its port is open, its readiness probe says no; when the probe says yes it is."""
    probe = {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1}
    world.put("down", server(env=[{"name": "STATUS", "value": "503"}], readinessProbe=probe), kind="lc")
    world.put("up", server(readinessProbe=probe), kind="lc")
    await world.until(lambda: world.is_ready("up"))
    await asyncio.sleep(0.5)

    assert await get(world, "down", "/x") == "fast/x"
    assert not world.is_ready("down")


async def test_readiness_that_goes_is_seen(world: World) -> None:
    """An exec probe that looks at a file; a failing liveness probe restarts the container."""
    ready = {"exec": {"command": ["test", "-f", "ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    alive = {"exec": {"command": ["test", "!", "-f", "dead"]}, "periodSeconds": 1, "failureThreshold": 1}
    work = world.folder.parent / "work"
    world.put("flaps", server(readinessProbe=ready, livenessProbe=alive), kind="lc", terminationGracePeriodSeconds=1)
    (work / "ready").touch()
    await world.until(lambda: world.is_ready("flaps"))

    (work / "ready").unlink()
    await world.until(lambda: not world.is_ready("flaps"))
    (work / "dead").touch()
    await world.until(lambda: world.container("flaps")["restartCount"] == 1)

    assert not world.is_ready("flaps")  # the new container has no such file either


async def test_a_job_beyond_its_deadline_ends_as_such(world: World) -> None:
    """With SIGTERM and grace, reason DeadlineExceeded."""
    world.put("late", container("sleep", "60"), activeDeadlineSeconds=1)

    end = await world.ended("late")

    assert (world.status("late")["reason"], end["exitCode"]) == ("DeadlineExceeded", 143)


async def test_a_program_that_writes_without_end_fills_no_disk(world: World) -> None:
    """Forty megabytes written, at most twenty kept, the last line among them; the program is not held up."""
    pod = world.put("chatty", python("import sys\nfor k in range(400): sys.stdout.write('x' * 102399 + '\\n')\nprint('the end')"))

    await world.ended("chatty")

    size = sum(f.stat().st_size for f in world.folder.rglob("*.log*"))
    assert 10 << 20 <= size <= 20 << 20
    assert world.log(pod).endswith("the end\n")


async def test_init_containers_come_first_and_sidecars_stay_until_the_job_is_done(world: World) -> None:
    """One after the other; a sidecar is ended when the service's container has ended, and does not decide the pod's phase."""
    init = (
        container("sh", "-c", "sleep 0.2; echo fetched > data", name="fetch"),
        container("sleep", "60", name="mesh", restartPolicy="Always"),
    )
    pod = world.put("parts", container("sh", "-c", "cat data"), init=init, terminationGracePeriodSeconds=1)

    end = await world.ended("parts")

    assert (world.status("parts")["phase"], end["exitCode"], world.log(pod)) == ("Succeeded", 0, "fetched\n")
    assert [s["name"] for s in world.status("parts")["initContainerStatuses"]] == ["fetch", "mesh"]


async def test_a_caller_s_own_command_is_not_run_here(world: World) -> None:
    """It would run with everything that the user of the stack may do; that user's own may."""
    body = {
        "metadata": {"namespace": "tango", "labels": {"tango/class": "be"}},
        "spec": {"nodeName": "n1", "restartPolicy": "Never", "containers": [container("true")]},
        "status": {"phase": "Pending"},
    }
    for name, by in (("caller", "caller"), ("mine", "local-user")):
        annotations = {"tango/container": "work", "tango/command-from": by}
        world.client.put(f"{PODS}/{name}", {**body, "metadata": {**body["metadata"], "annotations": annotations}})

    assert (await world.ended("mine"))["exitCode"] == 0
    await world.until(lambda: "waiting" in world.container("caller").get("state", {}))
    assert world.container("caller")["state"]["waiting"]["reason"] == "CreateContainerConfigError"


async def test_what_a_process_cannot_have_is_told(world: World) -> None:
    """A volume that nobody declares, a Secret that is not there: it waits and says why, and is not started without."""
    world.put("volume", container("true", volumeMounts=[{"name": "data", "mountPath": "/data"}]))
    world.put("secret", container("true", env=[{"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]))
    for name in ("volume", "secret"):
        await world.until(lambda name=name: "waiting" in world.container(name).get("state", {}))  # type: ignore[misc]
        assert world.container(name)["state"]["waiting"]["reason"] == "CreateContainerConfigError"


async def test_processes_know_nothing_of_the_stack(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its passwords stand in variables of the kubelet; a pod has its own, and what a shell needs."""
    monkeypatch.setenv("TANGO_DATABASE_URL", "postgresql://tango:hidden@/tango")
    pod = world.put("env", container("env"))

    await world.ended("env")

    assert "hidden" not in world.log(pod)
    assert "PATH=" in world.log(pod)


async def test_a_kubelet_that_follows_a_killed_one_ends_what_that_left(tmp_path: Path) -> None:
    """As after a reboot: nothing of a pod runs, and its files are gone. A process that only has the number is left alone."""
    left = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    other = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    pod = tmp_path / "tango_p_u1"
    pod.mkdir()
    born = Path(f"/proc/{left.pid}/stat").read_text().rpartition(")")[2].split()[19]
    (pod / "pids").write_text(f"{left.pid} {born}\n{other.pid} 1\n")

    host = ProcessHost("here", folder=tmp_path, pods=tmp_path, addresses=PodAddresses())

    assert await asyncio.wait_for(left.wait(), WITHIN_S) == -signal.SIGKILL
    assert other.returncode is None
    assert not pod.exists()
    os.kill(other.pid, signal.SIGKILL)
    await other.wait()
    await host.close()


async def test_a_resize_in_place_moves_the_cpu_of_a_running_process(world: World) -> None:
    """From a tenth of a core to nine tenths, where control groups can be made; the process goes on, the pod reports the new size."""
    if world.kubelet.pool.processes is None or world.kubelet.pool.processes.cpu.home is None:
        pytest.skip("no control group can be made here")
    burn = python("while True: pass", limit="64Mi")
    burn["resources"]["limits"]["cpu"] = "100m"
    burn["resources"]["requests"]["cpu"] = "50m"
    pod = world.put("burns", burn, kind="lc")
    await world.until(lambda: world.is_ready("burns"))
    run = world.kubelet.pool.runs[pod["metadata"]["uid"]]
    assert run.process is not None
    (work,) = run.process.containers

    async def used_s(seconds: float) -> float:
        before_s = work.cpu_s
        await asyncio.sleep(seconds)
        return work.cpu_s - before_s

    await asyncio.sleep(1.0)
    slow_s = await used_s(2.0)
    found = world.client.objects[f"{PODS}/burns"]
    faster = {**burn, "resources": {**burn["resources"], "limits": {"cpu": "900m", "memory": "64Mi"}}}
    metadata = {**found["metadata"], "generation": 2}
    world.client.put(f"{PODS}/burns", {**found, "metadata": metadata, "spec": {**found["spec"], "containers": [faster]}})
    await world.until(lambda: world.container("burns")["resources"]["limits"]["cpu"] == "900m")
    await asyncio.sleep(1.0)
    fast_s = await used_s(2.0)

    assert world.container("burns")["restartCount"] == 0
    assert slow_s < 0.5 < fast_s
