"""A process imports what it uses: dozens of them run side by side, and each pays for its imports at every start and in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent.parent
TASKS = "import workers.app as w; w.app.loader.import_default_modules()"
"""What every worker loads first, beat and Flower too. They use no more of Tango than this."""


FOR_TRACES = ("tango.tracing", "opentelemetry.sdk.trace", "opentelemetry.exporter")
"""What is loaded where a setting asks for traces, and nowhere else. The client of Redis loads OpenTelemetry's API where it is installed."""


@pytest.mark.parametrize(
    ("program", "absent"),
    [
        (TASKS, ("numpy", "numba", "torch", "pyarrow", "psycopg2", "kubernetes", "aiohttp", "tango.control", "tango.sim")),
        ("import workers.api_server", ("numpy", "numba", "torch", "pyarrow", "psycopg2", "kubernetes", "celery")),
        ("import workers.virtual_kubelet", ("torch", "pyarrow", "psycopg2", "celery", "tango.store")),
        ("import workers.cluster_agent", ("numba", "torch", "pyarrow", "celery", "tango.scheduling", "tango.training")),
        ("import tango.bootstrap.replayer", ("numba", "torch", "pyarrow", "kubernetes", "aiohttp", "tango.scheduling")),
        ("import tango.bootstrap.cluster_worker", ("torch", "pyarrow", "kubernetes", "aiohttp", "highspy", "tango.sim")),
        (
            "import workers.gateway",
            ("numba", "torch", "pyarrow", "psycopg2", "kubernetes", "tango.control", "tango.scheduling"),
        ),
        (
            "import workers.node_agent",
            ("numpy", "numba", "torch", "pyarrow", "psycopg2", "sqlalchemy", "celery", "redis", "click", "tango.control"),
        ),
        ("import workers.console", ("numba", "torch", "pyarrow", "celery", "tango.scheduling", "tango.report")),
        ("import tango.client", ("numpy", "aiohttp", "celery", "click", "tango.errors", "tango.settings")),
        ("import tango.stack.local", ("sqlalchemy", "alembic", "numba", "torch", "celery", "kubernetes")),
        ("import tango.stack.home", ("psycopg2", "redis", "numba")),
        (
            "import tango.api",
            ("torch", "celery", "sqlalchemy", "psycopg2", "kubernetes", "click", "tango.bootstrap", "tango.store"),
        ),
        ("import tango.bootstrap.scheduler", ("pyarrow", "highspy", "tango.sim", "tango.training", "tango.experiments")),
    ],
    ids=[
        "beat, Flower and a waiting simulator",
        "API server",
        "virtual kubelet",
        "agent",
        "replayer",
        "cluster worker",
        "gateway",
        "node agent",
        "console",
        "client",
        "supervisor",
        "a command that starts a supervisor",
        "a notebook",
        "scheduler",
    ],
)
def test_a_process_imports_only_what_it_uses(program: str, absent: tuple[str, ...]) -> None:
    """Of the heavy packages and of Tango's own, those that its work does not need are not loaded when it is composed; nor is
    what exports traces."""
    code = f"import sys; {program}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True)
    assert set(done.stdout.split()).isdisjoint({*absent, *FOR_TRACES})
