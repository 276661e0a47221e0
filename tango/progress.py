"""What shows from outside that a process gets on: when each of its loops last turned, and which of its tasks take too long.

Loops say `turned` each time they come round, whatever came of it: a store that is away is no reason to end a process, a loop that hangs
is. A process that is told a folder (`TANGO_HEALTH_DIR`) writes all of it there every `TELL_EVERY_S` (`tell`); `complaints` reads the
folder and says what is wrong, for `python -m workers.health`. Times are those of the monotonic clock, which all processes of a machine
share. As with logging there is one account for the whole process. Standard library only: a probe begins a new interpreter each time.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from tango.errors import FileUnusable
from tango.files import write_whole

HEALTH_DIR = "TANGO_HEALTH_DIR"
"""Environment variable with the folder in which processes tell how far they are; without it none does."""
TELL_EVERY_S = 2.0
"""Seconds between two writings; what hangs is known this much later."""
SILENT_AFTER_S = 20.0
"""Seconds after which a process that has written nothing counts as hanging itself: ten writings, for a machine that is overloaded."""
LOOP_WITHIN_S = 300.0
"""Seconds in which a loop has to come round, unless it says otherwise. Every call in a loop has a deadline, but one turn may make several
to a server that swallows everything, a minute each. Later than this a deadline is missing somewhere, and only a new process helps."""
TASK_WITHIN_S = 300.0
"""Seconds in which a task of a worker has to end."""

_turned: dict[str, tuple[float, float]] = {}
"""Loop → (when it last turned, seconds in which it has to)."""
_begun: dict[str, tuple[float, float]] = {}
"""Task → (when it began, seconds in which it has to end)."""
_reached: dict[str, tuple[float, float]] = {}
"""What is needed to be of use, such as the broker → (when it was last reached, seconds for which that counts)."""
_telling: list[threading.Thread] = []


def turned(loop: str, *, within_s: float = LOOP_WITHIN_S) -> None:
    """Say that a loop has come round; from now on it has to within so many seconds."""
    _turned[loop] = (time.monotonic(), within_s)


def over(loop: str) -> None:
    """Say that a loop has ended as it should, and will not come round any more."""
    _turned.pop(loop, None)


def begun(task: str, *, within_s: float = TASK_WITHIN_S) -> None:
    """Say that a task has begun; it has to end within so many seconds."""
    _begun[task] = (time.monotonic(), within_s)


def ended(task: str) -> None:
    """Say that it has ended, however."""
    _begun.pop(task, None)


def reached(what: str, *, within_s: float) -> None:
    """Say that something was reached without which this process is of no use, though a new one would be of none either."""
    _reached[what] = (time.monotonic(), within_s)


def follow(loop: Any, *, within_s: float = LOOP_WITHIN_S) -> None:
    """Say once a second that an asyncio loop comes round, for as long as it runs; called in it. The loop's own calls of it repeat it."""
    turned("event loop", within_s=within_s)
    loop.call_later(1.0, lambda: follow(loop, within_s=within_s))


def tell(role: str, folder: str | None = None) -> None:
    """Begin to write the account of this process to `ROLE.json` in the folder that the environment names; once, and not without one."""
    named = os.environ.get(HEALTH_DIR) if folder is None else folder
    if not named or _telling:
        return
    path = Path(named) / f"{role}.json"

    def repeat() -> None:
        while True:
            _write(path)
            time.sleep(TELL_EVERY_S)

    _write(path)
    _telling.append(threading.Thread(target=repeat, name="health", daemon=True))
    _telling[0].start()


def _write(path: Path) -> None:
    told = {"written_s": time.monotonic(), "turned": dict(_turned), "begun": dict(_begun), "reached": dict(_reached)}
    # A disk that is full or gone: the file gets old, and that is seen.
    with contextlib.suppress(FileUnusable):
        write_whole(path, json.dumps(told))


def complaints(folder: Path, role: str | None = None, *, ready: bool = False, now_s: float | None = None) -> list[str]:
    """What is wrong with the processes that tell in a folder, or with that of one role; empty where nothing is.

    A role is the name of its file, or what is before the first `-` of it, as in `worker` for `worker-1`. `ready`: also what a process
    needs and has not reached, which no restart mends.
    """
    now_s = time.monotonic() if now_s is None else now_s
    files = sorted(path for path in folder.glob("*.json") if role in (None, path.stem, path.stem.partition("-")[0]))
    if not files:
        return [f"no process{'' if role is None else ' of role ' + role} tells how it is in {folder}; see {HEALTH_DIR}"]
    return [f"{path.stem}: {found}" for path in files for found in _complaints_of(path, ready, now_s)]


def _complaints_of(path: Path, ready: bool, now_s: float) -> list[str]:
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        silent_s = now_s - told["written_s"]
        limits = [("has not turned for", told["turned"]), ("is under way for", told["begun"])]
        if ready:
            limits.append(("was last reached before", told["reached"]))
        late = [
            f"{name} {verb} {now_s - at_s:.0f} s, expected {within_s:g} s at the most"
            for verb, accounts in limits
            for name, (at_s, within_s) in sorted(accounts.items())
            if now_s - at_s > within_s
        ]
        if ready and "ready" not in told["reached"]:
            late.append("is not ready yet")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return [f"its file {path} cannot be read ({error})"]
    return [f"has written nothing for {silent_s:.0f} s", *late] if silent_s > SILENT_AFTER_S else late
