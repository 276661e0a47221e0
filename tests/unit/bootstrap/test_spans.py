"""Where the spans of a process go: nowhere unless somebody wants them, and then OpenTelemetry is asked for by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent.parent


def told(program: str) -> str:
    """What a process of its own prints."""
    code = f"import sys; from tango.bootstrap.spans import spans_of; from tango.settings import TracingSettings; {program}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True).stdout


def test_with_traces_off_nothing_of_opentelemetry_is_loaded() -> None:
    """And everybody is told that nobody wants spans."""
    printed = told("s = spans_of('worker', TracingSettings()); print(s.is_on, [m for m in sys.modules if 'opentelemetry' in m])")

    assert printed == "False []\n"


def test_where_it_is_not_installed_a_process_says_what_to_do() -> None:
    """It does not start: somebody meant to have traces."""
    printed = told(
        "sys.modules['opentelemetry'] = None\n"
        "from tango.errors import ConfigError\n"
        "try: spans_of('worker', TracingSettings(ratio=0.1))\n"
        "except ConfigError as error: print(error)"
    )

    assert "pip install 'tango-edge[traces]'" in printed
    assert "TANGO_TRACING_RATIO is 0.1" in printed
