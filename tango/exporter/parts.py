"""The parts of a scrape, each read by a thread of its own: one that does not answer costs its own figures and nothing else.

A part that is still being read when the next scrape comes is not asked again, and what was read a moment ago is given once more: however
many scrape, the database is asked once a second at the most.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from tango.errors import TangoError
from tango.settings import MetricsSettings
from tango.telemetry.catalogue import COLLECT, UP
from tango.telemetry.readings import Readings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its name, and what reads it. `read` raises TangoError where that is not possible now."""

    name: str
    read: Callable[[], Readings]


class _Reader:
    """One part with its last reading."""

    def __init__(self, part: Part, settings: MetricsSettings) -> None:
        self._part = part
        self._settings = settings
        self._changed = threading.Condition()
        self._found: Readings | None = None
        self._at_s = self._failed_at_s = -float("inf")
        self._took_s = 0.0
        self._is_reading = False

    def begin(self) -> None:
        """Read in a thread, unless that is under way or was done a moment ago."""
        with self._changed:
            fresh_s = time.monotonic() - max(self._at_s, self._failed_at_s)
            if self._is_reading or fresh_s < self._settings.reuse_s:
                return
            self._is_reading = True
        threading.Thread(target=self._read, name=f"read-{self._part.name}", daemon=True).start()

    def given(self, until_s: float) -> Readings:
        """What was read, waited for until then; with whether it could be, and how long it took."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_reading, max(0.0, until_s - time.monotonic()))
            is_up = not self._is_reading and self._found is not None
            found = Readings()
            found.add(UP, (self._part.name,), float(is_up))
            found.add(COLLECT, (self._part.name,), self._took_s)
            if is_up and self._found is not None:
                found.merge(self._found)
            return found

    def _read(self) -> None:
        began_s, found = time.monotonic(), None
        try:
            found = self._part.read()
        except TangoError as error:
            log.warning("part_not_read", part=self._part.name, error=str(error))
        except Exception:
            log.exception("part_broken", part=self._part.name)
        finally:
            ended_s = time.monotonic()
            with self._changed:
                self._found, self._took_s, self._is_reading = found, ended_s - began_s, False
                if found is None:
                    self._failed_at_s = ended_s
                else:
                    self._at_s = ended_s
                self._changed.notify_all()


class Parts:
    """All parts, read together. Thread-safe."""

    def __init__(self, parts: Sequence[Part], settings: MetricsSettings) -> None:
        self._readers = [_Reader(part, settings) for part in parts]
        self._deadline_s = settings.deadline_s

    def read(self) -> Readings:
        """The figures of those parts that answer within the deadline, with `tango_up` of each."""
        for reader in self._readers:
            reader.begin()
        until_s, found = time.monotonic() + self._deadline_s, Readings()
        for reader in self._readers:
            found.merge(reader.given(until_s))
        return found
