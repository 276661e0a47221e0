"""Counts the primes below a number, and loses nothing when it is stopped: SIGTERM saves how far it has come, the next attempt goes on.

The state is a file under --state, named after the job (TANGO_REQUEST). What is done and what of it is saved is told in
TANGO_PROGRESS_FILE, so that Tango counts only what was lost. Without Tango both are left out, and the program is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

SAVE_EVERY_S = 2.0
STEP = 1000
"""Numbers between two looks at the signal and the clock."""
stopping = False


def is_prime(number: int) -> bool:
    """By trial division: slow on purpose."""
    if number < 2 or (number % 2 == 0 and number != 2):
        return False
    return all(number % divisor for divisor in range(3, int(number**0.5) + 1, 2))


def save(path: Path, number: int, found: int) -> None:
    """Written whole or not at all: a job may be killed at any moment."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        json.dump({"next": number, "found": found}, file)
    os.replace(file.name, path)


def report(done_s: float, saved_s: float) -> None:
    """Tell Tango what this attempt has done, and what of it is saved, in seconds."""
    if path := os.environ.get("TANGO_PROGRESS_FILE"):
        Path(path).write_text(json.dumps({"done_s": round(done_s, 3), "saved_s": round(saved_s, 3)}))


def stop(*_: object) -> None:
    """Asked to go: the loop sees it within a step."""
    global stopping
    stopping = True


def main() -> int:
    """Exit status: 0 when it has counted all, 143 when it was stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--below", type=int, default=1_000_000)
    parser.add_argument("--state", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, stop)
    path = options.state / f"primes-{os.environ.get('TANGO_REQUEST', 'alone')}.json"
    state = json.loads(path.read_text()) if path.exists() else {"next": 0, "found": 0}
    number, found = state["next"], state["found"]
    print(f"attempt {os.environ.get('TANGO_ATTEMPT', '1')} goes on from {number}", flush=True)
    began_s = saved_at_s = time.monotonic()
    while number < options.below and not stopping:
        upper = min(number + STEP, options.below)
        found += sum(map(is_prime, range(number, upper)))
        number = upper
        if time.monotonic() - saved_at_s > SAVE_EVERY_S:
            save(path, number, found)
            saved_at_s = time.monotonic()
            report(saved_at_s - began_s, saved_at_s - began_s)
    if stopping and number < options.below:
        save(path, number, found)
        done_s = time.monotonic() - began_s
        report(done_s, done_s)
        print(f"saved at {number}", flush=True)
        return 128 + signal.SIGTERM
    path.unlink(missing_ok=True)
    print(f"{found} primes below {options.below}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
