"""Deadlines on this side of a connection: one thread a process that shuts down sockets on which somebody has waited for too long.

A statement timeout is the server's, and TCP notices only a peer that does not acknowledge. A peer that takes every byte and answers
nothing, such as a proxy whose other end is gone, would be waited for without end, on a Unix socket as well.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator


class Deadlines:
    """Sockets in use, each with the time at which it is cut. Thread-safe; a forked process begins with none."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._changed = threading.Condition()
        self._held: dict[int, tuple[float, int]] = {}
        """Deadline by `time.monotonic` and a descriptor of the socket that belongs to us, by number."""
        self._looks_at_s = float("inf")
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def over(self, descriptor: int, until_s: float) -> Iterator[None]:
        """Within the block the socket is shut down when `time.monotonic` reaches `until_s`, so that whoever waits on it gets an error."""
        # Of our own: the library may close the one that it has at any time, and the number may then be another file's.
        own = os.dup(descriptor)
        number = next(self._numbers)
        with self._changed:
            self._held[number] = until_s, own
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="database-deadlines", daemon=True)
                self._thread.start()
            if until_s < self._looks_at_s:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._held.pop(number, None)
            os.close(own)

    def _watch(self) -> None:
        with self._changed:
            while True:
                now_s = time.monotonic()
                for number, (until_s, own) in list(self._held.items()):
                    if until_s <= now_s:
                        del self._held[number]
                        _shut_down(own)
                self._looks_at_s = min((until_s for until_s, _ in self._held.values()), default=float("inf"))
                # Transactions that end in time wake nobody: this looks again when the first of those that were held would be over.
                self._changed.wait(None if not self._held else max(0.0, self._looks_at_s - time.monotonic()))


def _shut_down(descriptor: int) -> None:
    """End both directions of a socket for all who have it open, without closing the descriptor."""
    shared = socket.socket(fileno=descriptor)
    try:
        with contextlib.suppress(OSError):
            shared.shutdown(socket.SHUT_RDWR)
    finally:
        shared.detach()


DEADLINES = Deadlines()
"""Of this process."""
