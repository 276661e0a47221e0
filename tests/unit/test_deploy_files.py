"""What is deployed without Kubernetes: the compose file and the units of systemd, held to the programs and settings that they name."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tango.bootstrap.environment import read_settings
from workers.app import app

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").iterdir())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
TESTED_ON = re.compile(r"\$\{(\w+)(?::[-?][^}]*)?\}")


def is_a_program(words: list[str]) -> bool:
    """Whether a command is one that an installation has, by its module where it names one."""
    program = Path(words[0]).name
    if program == "python" and words[1] == "-m":
        return importlib.util.find_spec(words[2]) is not None
    if program == "celery":
        return words[1:3] == ["-A", "workers.app"] and words[3] in ("worker", "beat")
    return program in ("tango", "sh")


def seconds(text: str) -> float:
    """Of `45s`."""
    return float(text.removesuffix("s"))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_of_the_compose_file_is_a_program_with_settings_and_no_rights(name: str) -> None:
    """Read-only, without capabilities, with a health check that asks for progress, and longer to end than its worker asks for."""
    service = SERVICES[name]

    assert is_a_program(service["command"])
    assert service["image"].startswith("${TANGO_IMAGE:?")
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert seconds(service["stop_grace_period"]) >= 2 * app.conf.worker_soft_shutdown_timeout
    if name != "schema":
        test = service["healthcheck"]["test"]
        assert test[1:4] == ["python", "-m", "workers.health"] or "healthcheck" in test[-1]
        assert any(mount.startswith("/run/tango") for mount in service["tmpfs"])
    variables = {key: TESTED_ON.sub("x", value) for key, value in service["environment"].items()}
    read_settings({"TANGO_BROKER_URL": "redis://x", "TANGO_DATABASE_URL": "y", **variables})


def test_what_the_compose_file_mounts_is_there() -> None:
    """Every named volume is declared, and every role's folders that it writes to are mounted."""
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            source = mount.partition(":")[0]
            assert source in COMPOSE["volumes"] or source.startswith("${"), (name, mount)


def test_only_the_migrations_have_the_owner_s_password() -> None:
    """Any other process that is broken into can change rows and no schema."""
    text = {name: str(service.get("environment")) for name, service in SERVICES.items()}

    assert {name for name, found in text.items() if "OWNER" in found} == {"database", "schema"}


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=lambda unit: unit.name)
def test_a_unit_starts_a_program_and_lets_it_end(unit: Path) -> None:
    """Its commands are there, and a worker has twice its soft shutdown."""
    text = unit.read_text()
    commands = re.findall(r"^ExecStart=(?:/opt/tango/bin|/bin)/(.+)$", text, re.MULTILINE)

    assert commands
    assert all(is_a_program(command.split()) for command in commands)
    if " worker " in commands[0]:
        (stop_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
        assert int(stop_s) >= 2 * app.conf.worker_soft_shutdown_timeout


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """As `systemd-analyze verify` reads them: no key that it does not know, no command that is not there, no unit that is missing."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze on this machine")
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in ("celery", "python", "tango"):
        (programs / program).write_text("#!/bin/sh\n")
        (programs / program).chmod(0o755)
    units = []
    for unit in UNITS:
        # A template is verified as one of its instances.
        name = unit.name.replace("@.", "@tango-beat." if "health" in unit.name else "@edge-7.")
        for copy in {unit.name, name}:
            (tmp_path / copy).write_text(unit.read_text().replace("/opt/tango/bin", str(programs)))
        units.append(str(tmp_path / name))
    done = subprocess.run(
        ["systemd-analyze", "verify", *units],
        capture_output=True,
        text=True,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:/lib/systemd/system:/usr/lib/systemd/system", "PATH": "/usr/bin:/bin"},
        timeout=60,
    )

    told = [line for line in (done.stdout + done.stderr).splitlines() if "tango" in line]
    assert told == []


KUBECTL = """#!/bin/sh
case "$*" in
    "config view"*clusters\\[0\\].cluster.server*) echo https://edge.test:6443 ;;
    "config view"*certificate-authority-data*) echo $AUTHORITY ;;
    "--context mine --namespace tango create token tango --duration 48h") echo word ;;
    *) echo "what: $*" >&2; exit 1 ;;
esac
"""


@pytest.mark.parametrize("authority", ["", "QUJD"])
def test_a_kubeconfig_for_a_cluster_that_joins_is_printed(tmp_path: Path, authority: str) -> None:
    """Context and file have the name under which it joins; the address is that of the operator's context, or another one."""
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)

    def printed(**variables: str) -> dict[str, Any]:
        done = subprocess.run(
            [str(ROOT / "deploy/kubeconfig.sh"), "mine", "edge-7", "48"],
            check=True,
            capture_output=True,
            text=True,
            env={"PATH": f"{tmp_path}:/usr/bin:/bin", "AUTHORITY": authority, **variables},
        )
        found: dict[str, Any] = yaml.safe_load(done.stdout)
        return found

    config = printed()

    assert [context["name"] for context in config["contexts"]] == ["edge-7"]
    assert config["users"] == [{"name": "tango", "user": {"token": "word"}}]
    known = {"certificate-authority-data": authority} if authority else {}
    assert config["clusters"] == [{"name": "edge-7", "cluster": {"server": "https://edge.test:6443", **known}}]
    assert printed(SERVER="https://10.0.0.7:6443")["clusters"][0]["cluster"]["server"] == "https://10.0.0.7:6443"
