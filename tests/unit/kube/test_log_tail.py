"""The end of a container's log, read as a stream: whatever the container has written, it costs what is kept."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Mapping

import pytest

from tango.errors import ClusterUnavailable, NotFound
from tango.kube.cluster_watch import KubernetesWatch

MIB = 2**20


class Server:
    """A client whose stream sends one block again and again, then breaks, hangs or refuses as a test says."""

    cluster = "c1"

    def __init__(self, block: bytes, *, times: int = 1, then: Exception | float | None = None) -> None:
        self._block, self._times, self._then = block, times, then
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def stream(self, path: str, *, query: Mapping[str, str], idle_s: float) -> AsyncIterator[bytes]:
        """As `KubeClient.stream`."""
        self.asked.append((path, dict(query)))
        for _ in range(self._times):
            yield self._block
        if isinstance(self._then, Exception):
            raise self._then
        if self._then is not None:
            await asyncio.sleep(self._then)


def watch_of(server: Server) -> KubernetesWatch:
    """Of that server's cluster."""
    return KubernetesWatch(server, namespace="tango")  # type: ignore[arg-type]


async def test_of_a_gigabyte_the_end_is_kept_at_the_cost_of_the_end() -> None:
    """1 GiB in blocks of 1 MiB, of which 64 KiB stay."""
    server = Server(b"x" * (MIB - 1) + b"\n", times=1024)
    tracemalloc.start()

    log = await watch_of(server).log_tail("p", "main", lines=2000, most_bytes=65536, follow=False, within_s=60.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (log.container, len(log.tail), log.tail[-1:], log.is_whole) == ("main", 65536, b"\n", False)
    assert peak < 8 * MIB


async def test_a_short_log_is_whole_and_is_asked_for_by_lines() -> None:
    """Followed where that is wanted."""
    server = Server(b"one\ntwo\n")

    log = await watch_of(server).log_tail("p", "main", lines=2000, most_bytes=65536, follow=True, within_s=5.0)
    cut = await watch_of(Server(b"one\ntwo\n")).log_tail("p", "main", lines=2, most_bytes=65536, follow=False, within_s=5.0)

    assert (log.tail, log.is_whole, cut.is_whole) == (b"one\ntwo\n", True, False)
    assert server.asked == [("/api/v1/namespaces/tango/pods/p/log", {"container": "main", "tailLines": "2000", "follow": "true"})]


@pytest.mark.parametrize("then", [60.0, ClusterUnavailable("broke", cluster="c1")])
async def test_what_has_come_when_a_stream_hangs_or_breaks_is_what_is_kept(then: Exception | float) -> None:
    """A kubelet that goes in the middle costs the rest, and no time beyond what is allowed."""
    log = await watch_of(Server(b"begun", then=then)).log_tail(
        "p", "main", lines=2000, most_bytes=65536, follow=True, within_s=0.05
    )

    assert log.tail == b"begun"


async def test_a_refusal_is_told() -> None:
    """There is no such pod."""
    with pytest.raises(NotFound):
        await watch_of(Server(b"", times=0, then=NotFound("no pod"))).log_tail(
            "p", "main", lines=1, most_bytes=1, follow=False, within_s=1.0
        )
