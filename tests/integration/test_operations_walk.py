"""docs/operations/systemd.md walked as a new user walks it: a cluster of somebody else is joined, used, upgraded, restored, left.

What is run is the page itself, section by section. An embedded cluster stands for the foreign one: Tango comes to it with a token of the
service account that `deploy/rbac/tango.yaml` makes, and with the rights that this file grants and no others.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tango.stack.broker import Broker
from tango.stack.postgres import PostgresServer
from tests.integration.kube_cluster import EmbeddedCluster
from tests.integration.unit_manager import UnitManager
from tests.waiting import until

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operations" / "systemd.md"
SECTION_WITHIN_S = 600.0
FLEET = """
apiVersion: tango/v1
kind: Fleet
metadata: {name: theirs}
spec:
  run: processes
  process_folder: .
  clusters:
    - name: edge-7
      nodes:
        - {name: n1, cpu_millicores: 2000, memory_mib: 4096}
        - {name: n2, cpu_millicores: 2000, memory_mib: 4096}
"""
SERVICE = """
apiVersion: tango/v1
kind: Service
metadata: {{name: {name}}}
spec:
  class: {kind}
  template:
    spec:
      containers:
        - name: {name}
          image: python:3.12-slim
          command: [{python}, -m, tango.emulation.real.{module}]
          ports: [{{containerPort: 8080, name: http}}]
          resources: {{requests: {{cpu: 100m, memory: 64Mi}}, limits: {{cpu: "1", memory: 512Mi}}}}
"""


def sections(page: str) -> dict[str, str]:
    """The code of each section of a page, as one script; what begins with the path of a file of settings is written there."""
    found = {}
    for part in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        lines = [line[4:] for line in text.splitlines() if line.startswith("    ") or not line.strip()]
        paragraphs = re.split(r"\n\s*\n", "\n".join(lines).strip())
        found[heading] = "\n".join(_shell(paragraph) for paragraph in paragraphs)
    return found


def _shell(paragraph: str) -> str:
    """A paragraph as it is typed; of files of settings as commands that write them. Units of systemd are left out."""
    files = re.split(r"^# (/etc/\S+?)[,;]?(?: .*)?$", paragraph, flags=re.MULTILINE)
    if len(files) == 1 or files[0].strip():
        return paragraph
    pairs = zip(files[1::2], files[2::2], strict=True)
    return "\n".join(f"cat > {name} <<'END'\n{text.strip()}\nEND" for name, text in pairs if name.endswith(".env"))


def as_typed(url: str) -> str:
    """The URL of a socket without the port, which is PostgreSQL's own: a shell would take the `&` between them for its own."""
    return url.partition("&")[0]


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Walk:
    """A host on which the page is followed."""

    folder: Path
    values: Mapping[str, str]
    """What stands on the page for something of the reader's own, as patterns, with what it is here."""
    environment: Mapping[str, str]
    page: Mapping[str, str]
    units: UnitManager | None = None

    def place(self, text: str) -> str:
        """A text of the page, with this host's places and values."""
        for pattern, value in self.values.items():
            text = re.sub(pattern, lambda _, value=value: value, text)
        return text

    def section(self, heading: str) -> str:
        """Type all of a section; gives what was printed. Fails where a command does."""
        script = "set -eu\n" + self.place(self.page[heading])
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=SECTION_WITHIN_S,
            check=False,
        )
        assert done.returncode == 0, f"{heading}\n{script}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout + done.stderr

    def tango(self, *words: str, **variables: str) -> str:
        """What a command of the centre prints, with the settings of its file."""
        settings = dict(line.split("=", 1) for line in (self.folder / "etc/centre.env").read_text().splitlines())
        command = [str(self.folder / "bin/tango"), *words]
        done = subprocess.run(
            command, env={**self.environment, **settings, **variables}, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def cluster(self) -> dict[str, object]:
        """`edge-7` as `tango cluster list` has it; empty where it is not listed."""
        listed = json.loads(self.tango("cluster", "list", "-o", "json"))
        return next((row for row in listed if row["name"] == "edge-7"), {})

    def is_there(self) -> bool:
        """Whether the cluster's agent tells of ready nodes."""
        return self.cluster().get("ready") == 2

    def logs(self) -> str:
        """The ends of the units' logs."""
        files = sorted((self.folder / "log").glob("*.log"))
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in files)


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    """Somebody else's cluster, with nodes that run programs; nothing of Tango's is in it."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "fleet.yaml").write_text(FLEET)
    found = EmbeddedCluster(folder, name="edge-7")
    try:
        found.start()
        found.start_kubelet(folder / "fleet.yaml", "--pods-dir", str(folder / "pods"))
        yield found
    finally:
        found.stop()


@pytest.fixture
def walk(theirs: EmbeddedCluster, tmp_path: Path) -> Iterator[Walk]:
    """The host, with a PostgreSQL and a broker as a distribution brings them."""
    for name in ("bin", "etc/kubeconfigs", "var", "run", "log", "backups", "pg"):
        (tmp_path / name).mkdir(parents=True)
    passwords = {role: secrets.token_hex(8) for role in ("owner", "app", "reader")}
    database = PostgresServer(tmp_path / "pg", password=secrets.token_hex(8))
    broker = Broker(tmp_path / "broker", password=secrets.token_hex(8))
    (tmp_path / "broker").mkdir()
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "etc/tls.key")
    for part in certificate.cert_chain_pems:
        part.write_to_path(tmp_path / "etc/tls.crt", append=True)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    served = SERVICE.format(name="greet", kind="lc\n  target_ms: 1000", module="greet", python=sys.executable)
    counted = SERVICE.format(name="count", kind="be", module="primes", python=sys.executable)
    (tmp_path / "my-services.yaml").write_text(f"{served}---{counted}")
    (tmp_path / "owners.kubeconfig").write_text(
        theirs.kubeconfig.read_text().replace('"name": "root", "context"', '"name": "edge-7", "context"')
    )
    programs = {
        "tango": '-c "from tango.cli.main import run; run()"',
        "celery": "-m celery",
        "python": "",
        "kubectl": str(ROOT / "tests/integration/kubectl_stand_in.py"),
    }
    for name, words in programs.items():
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    server = None
    try:
        database.start()
        broker.start()
        port = str(free_port())
        found = Walk(
            folder=tmp_path,
            values={
                r"postgresql://postgres:…@localhost/postgres": as_typed(database.admin_url()),
                **{
                    rf"postgresql://tango_{role}:…@[^/\s]+/tango(\?\S*)?": as_typed(database.url(f"tango_{role}", password))
                    for role, password in passwords.items()
                },
                **{rf"TANGO_{role.upper()}_PASSWORD=…": f"TANGO_{role.upper()}_PASSWORD={p}" for role, p in passwords.items()},
                r"redis://:…@localhost:6379/0": broker.url,
                r"TANGO_CONSOLE_TOKEN=…": f"TANGO_CONSOLE_TOKEN={secrets.token_hex(16)}",
                r"FLOWER_BASIC_AUTH=tango:…": f"FLOWER_BASIC_AUTH=tango:{secrets.token_hex(8)}",
                r"GATEWAY_HOST=0\.0\.0\.0": "GATEWAY_HOST=127.0.0.1",
                r"GATEWAY_PORT=8443": f"GATEWAY_PORT={port}",
                r"https://edge-7\.example:8443": f"https://localhost:{port}",
                r"/opt/tango/bin": f"{tmp_path}/bin",
                r"/etc/tango": f"{tmp_path}/etc",
                r"/var/lib/tango": f"{tmp_path}/var",
                r"/run/tango": f"{tmp_path}/run",
                r"/backups": f"{tmp_path}/backups",
                r"downgrade REVISION": "downgrade 0031",
            },
            environment={
                **{k: v for k, v in os.environ.items() if not k.startswith("TANGO_")},
                "PATH": f"{tmp_path}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "KUBECONFIG": str(tmp_path / "owners.kubeconfig"),
                "TANGO_HOME": f"{tmp_path}/var",
            },
            page=sections(PAGE.read_text(encoding="utf-8")),
        )
        found.units = UnitManager(ROOT / "deploy/systemd", tmp_path / "log", found.place, found.environment)
        server = found.units.serve(tmp_path / "bin")
        yield found
    finally:
        if server is not None:
            server.shutdown()
        if "found" in locals() and found.units is not None:
            found.units.stop()
        broker.stop()
        database.stop()
        database.discard()
        shutil.rmtree(tmp_path / "pg", ignore_errors=True)


def test_a_cluster_is_joined_used_upgraded_restored_and_left_by_the_commands_of_the_page(
    walk: Walk, theirs: EmbeddedCluster
) -> None:
    """Every command succeeds, in the order of the page; what was served stays known, and in the end nothing of Tango's is there."""
    units = walk.units
    assert units is not None
    walk.section("The centre")
    walk.section("Join an edge cluster")
    until(walk.is_there)
    used = walk.section("Use it")
    assert "Hello, World, from process" in used
    assert "303 primes below 2000" in used

    walk.section("Back up and restore")
    until(walk.is_there)
    [kept] = json.loads(walk.tango("sql", "SELECT count(*) AS n FROM request WHERE state = 'succeeded'", "-o", "json"))
    assert kept == {"n": 2}

    walk.section("Roll back")
    walk.section("Upgrade")
    until(walk.is_there)
    again = walk.section("Use it")
    assert "Hello, World, from process" in again
    assert units.ended() == []

    left = walk.section("Leave")
    assert "namespace/tango deleted" in left
    assert walk.cluster() == {}
    until(lambda: theirs.call("GET", "/api/v1/pods")["items"] == [])
    kinds = ("roles", "rolebindings", "clusterroles", "clusterrolebindings")
    assert [theirs.call("GET", f"/apis/rbac.authorization.k8s.io/v1/{kind}")["items"] for kind in kinds] == [[], [], [], []]
