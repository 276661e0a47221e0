"""Named leases in memory."""

from __future__ import annotations

from tango.ports.leases import Fence
from tests.fakes.memory_state import MemoryState


class MemoryLeaseStore:
    """Implements `tango.ports.leases.LeaseStore`."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def acquire(self, name: str, *, owner: str, ttl_s: float) -> Fence | None:
        """Take or renew."""
        with self._state.lock:
            now_s = self._state.now_s()
            held, until_s = self._state.leases.get(name, (None, 0.0))
            if held and held.owner != owner and until_s >= now_s:
                return None
            epoch = held.epoch + (held.owner != owner) if held else 1
            fence = Fence(name=name, owner=owner, epoch=epoch)
            self._state.leases[name] = (fence, now_s + ttl_s)
            return fence

    def release(self, fence: Fence) -> None:
        """Give up, where it is still ours."""
        with self._state.lock:
            if self._state.leases.get(fence.name, (None, 0.0))[0] == fence:
                self._state.leases[fence.name] = (fence, self._state.now_s() - 1.0)

    def forget(self, prefix: str, *, idle_s: float) -> int:
        """By their names and ends."""
        with self._state.lock:
            over_s = self._state.now_s() - idle_s
            idle = [name for name, (_, until_s) in self._state.leases.items() if name.startswith(prefix) and until_s < over_s]
            for name in idle:
                del self._state.leases[name]
            return len(idle)
