"""LC requests over HTTP to an instance's pod address: implements `tango.ports.instances.InstanceCalls`."""

from __future__ import annotations

import math
from collections.abc import Awaitable

from tango.domain.identity import PodKey
from tango.domain.observations import InstanceState
from tango.domain.requests import LcWork, Reason
from tango.domain.tracing import TRACEPARENT
from tango.errors import InstanceFailed
from tango.kube.http_exchange import HttpAnswer, HttpConnections, Origin, instant_of
from tango.kube.signing import Signing
from tango.ports.instances import WORK_PATH, Served

CONNECT_TIMEOUT_S = 2.0
"""Seconds to open a connection to a pod; a pod that takes longer is down or behind a dropped packet. Chosen, not measured."""
MAX_ANSWER_BYTES = 64 * 1024
"""Longest response that is read. An instance's has some hundred bytes and no body, so a longer one comes from something else."""


class HttpInstanceCalls:
    """Calls instances by the protocol of docs/ARCHITECTURE.md, "LC requests over HTTP"; bound to the running asyncio loop."""

    def __init__(self, *, key: str = "") -> None:
        """`key`: what requests are signed with; empty: they are not."""
        self._sign = Signing(key)
        self._connections = HttpConnections(connect_timeout_s=CONNECT_TIMEOUT_S, max_answer_bytes=MAX_ANSWER_BYTES)

    def call(
        self, instance: InstanceState, work: LcWork, *, payload_kib: float, timeout_s: float, traceparent: str = ""
    ) -> Awaitable[Served]:
        """Send one request. It is sent once: whether it may run again is decided by its epoch, not here.

        Where a connection is idle it is sent at once, without a task of its own. Who awaits it gets InstanceFailed with a reason: timed
        out, refused (any status but 200), or unreachable.
        """
        pod = PodKey(work.node.cluster, instance.pod)
        origin = Origin(instance.pod_ip, instance.port)
        signed = "\r\n".join(f"{name}: {value}" for name, value in self._sign.headers(work, pod))
        told = f"{TRACEPARENT}: {traceparent}\r\n" if traceparent else ""
        request = (
            f"POST {WORK_PATH} HTTP/1.1\r\nHost: {origin.host}:{origin.port}\r\nContent-Length: 0\r\n"
            f"{signed}\r\n{told}"
            f"Tango-Cpu-Work-S: {work.cpu_work_s:.6f}\r\nTango-Memory-Mib: {work.memory_mib:.1f}\r\n"
            f"Tango-Entry-Cluster: {work.entry_cluster}\r\nTango-Payload-Kib: {payload_kib:.3f}\r\n\r\n"
        ).encode("latin-1")

        def read(answer: HttpAnswer) -> Served:
            return _served(pod, origin, answer)

        def failed(error: Exception) -> Exception:
            return _failure(pod, origin, error, timeout_s)

        begun = self._connections.begin(origin, request, timeout_s=timeout_s, read=read, failed=failed)
        return begun if begun is not None else self._called(pod, origin, request, timeout_s)

    async def _called(self, pod: PodKey, origin: Origin, request: bytes, timeout_s: float) -> Served:
        """Over a connection that is opened first."""
        try:
            answer = await self._connections.exchange(origin, request, timeout_s=timeout_s)
        except OSError as error:  # includes TimeoutError
            raise _failure(pod, origin, error, timeout_s) from error
        return _served(pod, origin, answer)

    async def probe(self, instance: InstanceState, *, timeout_s: float) -> bool:
        """Whether `GET /healthz` is answered with 200 in time."""
        request = f"GET /healthz HTTP/1.1\r\nHost: {instance.pod_ip}:{instance.port}\r\n\r\n"
        try:
            answer = await self._connections.exchange(
                Origin(instance.pod_ip, instance.port), request.encode("latin-1"), timeout_s=timeout_s
            )
        except (TimeoutError, OSError):
            return False
        return answer.status == 200

    async def close(self) -> None:
        """Close all connections; calls in flight fail."""
        self._connections.close()


def _served(pod: PodKey, origin: Origin, answer: HttpAnswer) -> Served:
    if answer.status != 200:
        raise InstanceFailed(
            f"instance {pod} at {origin.host}:{origin.port} answered {answer.status}",
            status=answer.status,
            reason=Reason.INSTANCE_REFUSED,
        )
    try:
        return Served(
            started_at_s=instant_of(answer.headers[b"tango-started-s"]),
            finished_at_s=instant_of(answer.headers[b"tango-finished-s"]),
        )
    except (KeyError, ValueError) as error:
        raise _failure(pod, origin, error, math.inf) from error


def _failure(pod: PodKey, origin: Origin, error: Exception, timeout_s: float) -> InstanceFailed:
    if isinstance(error, TimeoutError):
        return InstanceFailed(f"instance {pod} did not answer within {timeout_s:.1f} s", reason=Reason.TIMED_OUT)
    return InstanceFailed(
        f"instance {pod} at {origin.host}:{origin.port}: {type(error).__name__}: {error}", reason=Reason.INSTANCE_UNREACHABLE
    )
