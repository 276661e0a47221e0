"""What Tango's processes keep of the environment that they are started in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tango.files import write_whole
from tango.stack import inherited
from tango.stack.inherited import keep_own_rights, leave_out_others
from tango.stack.state import write_private
from tests.foreign import OTHERS, STARTED

ROOT = Path(__file__).parent.parent.parent.parent
PAGE = (ROOT / "docs" / "operations" / "environment.md").read_text(encoding="utf-8")
KEPT = {
    "PATH": "/bin",
    "HOME": "/home/ann",
    "CELLAR": "x",
    "C_INCLUDE_PATH": "/usr/include",
    "PGPASSFILE": "/home/ann/.pgpass",
    "PGSSLROOTCERT": "/ca.pem",
    "PYTHONPATH": "/mine",
    "PYTHONNOUSERSITE": "1",
    "HTTPS_PROXY": "http://proxy:3128",
    "TANGO_BROKER_URL": "redis://here:6379/0",
    "LC_ALL": "C",
}


def test_what_is_of_others_is_taken_out_and_nothing_else() -> None:
    """Of a command also what only the processes would have that it starts."""
    of_process, of_command = {**OTHERS, **STARTED, **KEPT}, {**OTHERS, **STARTED, **KEPT}

    assert leave_out_others(of_process) == sorted(OTHERS)
    assert leave_out_others(of_command, starts_others=True) == sorted({**OTHERS, **STARTED})

    assert of_process == {**STARTED, **KEPT}
    assert of_command == KEPT


def test_celery_started_by_hand_has_tango_s_broker_whatever_the_shell_says() -> None:
    """Nor anything else of another application of Celery's; what is said on the command line holds."""
    environment = {**os.environ, **OTHERS, "TANGO_BROKER_URL": "redis://:s@127.0.0.1:2/0", "TANGO_DATABASE_URL": "postgresql://h/d"}
    script = (
        "import os, sys; from celery.__main__ import main; sys.argv[1:] = ['-A', 'workers.app', 'report']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "from workers.app import app; print('READ', app.connection_for_read().as_uri(), 'WRITE', app.connection_for_write().as_uri())"
    )

    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "settings -> transport:workers.broker_transport:Transport results:rpc" in done.stdout, done.stdout
    assert re.search(r"READ \S+127\.0\.0\.1:2/\S* WRITE \S+127\.0\.0\.1:2/", done.stdout), done.stdout
    assert "127.0.0.1:1/" not in done.stdout


@pytest.mark.parametrize(
    "started", ["tango.cli.main:run", "workers.cluster_agent:main", "workers.console:main", "workers.trial_server:main"]
)
def test_every_process_that_connects_takes_them_out_first(started: str) -> None:
    """Those of Celery do as they import their application, and processes that others start have them no more."""
    module, _, function = started.partition(":")
    source = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    body = source.split(f"def {function}(", 1)[1].split('"""', 2)[2].strip()
    assert body.removeprefix("open_closed_streams()").strip().startswith("leave_out_others(")


@pytest.mark.parametrize(("found", "kept"), [(0o777, 0o077), (0o022, 0o022), (0, 0)])
def test_a_umask_does_not_lock_the_owner_out(tmp_path: Path, found: int, kept: int) -> None:
    """Of others it takes what it takes; what is private is so in any case."""
    before = os.umask(found)
    try:
        keep_own_rights()
        write_private(tmp_path / "private", "x")
        write_whole(tmp_path / "report", "x")
        assert os.umask(0) == kept
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("private", "report")] == [0o600, 0o666 & ~kept]


def test_the_page_tells_what_becomes_of_each() -> None:
    """By name or by how it begins."""
    named = set(re.findall(r"`([A-Z_]+)(?:…)?`", PAGE)) | set(re.findall(r"`([A-Z_]+)…`", PAGE))
    for name in ("CELERY_BROKER_URL", "KOMBU_", "DJANGO_SETTINGS_MODULE", "FLOWER_", "PYTHONWARNINGS", "PYTHONPATH", "HTTPS_PROXY"):
        assert name in named or any(name.startswith(one) for one in named), name
    for name in re.findall(r"[A-Z_]+", "".join(inherited.OF_SESSIONS).removeprefix("PG")):
        assert f"PG{name}" in PAGE
