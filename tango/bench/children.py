"""Measurements in a process of their own, such as of its peak memory: started here, and answering with one JSON object on stdout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from tango.errors import DependencyError

_SHOWN = 2000
"""Most characters that an error shows of what a child said."""


def answer_of(command: Sequence[str], *, within_s: float) -> dict[str, Any]:
    """What the process of a command answers.

    Raises: DependencyError with how it ended and the end of what it said on stderr, if it does not answer in time or fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False)
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or b"").decode(errors="replace")
        raise DependencyError(f"{_named(command)} did not end within {within_s:g} s; it said: {_end_of(said)}") from error
    if done.returncode:
        how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit status {done.returncode}"
        raise DependencyError(f"{_named(command)} ended with {how}; it said: {_end_of(done.stderr)}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def give(answer: Mapping[str, Any]) -> NoReturn:
    """Answer, and end the process the short way.

    At an ordinary exit Arrow's threads now and then abort it ("terminate called without an active exception", apache/arrow#34314): one
    reading of a trace in eighty on two busy cores.
    """
    print(json.dumps(answer), flush=True)
    os._exit(0)


def _named(command: Sequence[str]) -> str:
    return " ".join(word if "\n" not in word else "…" for word in command)


def _end_of(said: str) -> str:
    return said.strip()[-_SHOWN:] or "nothing"
