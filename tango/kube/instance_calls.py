"""LC requests over HTTP to an instance's pod address: implements `tango.ports.instances.InstanceCalls`."""

from __future__ import annotations

from tango.domain.identity import PodKey
from tango.domain.observations import InstanceState
from tango.domain.requests import LcWork, Reason
from tango.errors import InstanceFailed
from tango.kube.http_exchange import HttpConnections, Origin
from tango.ports.instances import Served

CONNECT_TIMEOUT_S = 2.0
"""Seconds to open a connection to a pod; a pod that takes longer is down or behind a dropped packet. Chosen, not measured."""
MAX_ANSWER_BYTES = 64 * 1024
"""Longest response that is read. An instance's has some hundred bytes and no body, so a longer one comes from something else."""


class HttpInstanceCalls:
    """Calls instances by the protocol of docs/ARCHITECTURE.md, "LC requests over HTTP"; bound to the running asyncio loop."""

    def __init__(self) -> None:
        self._connections = HttpConnections(connect_timeout_s=CONNECT_TIMEOUT_S, max_answer_bytes=MAX_ANSWER_BYTES)

    async def call(self, instance: InstanceState, work: LcWork, *, payload_kib: float, timeout_s: float) -> Served:
        """Send one request and wait for its response. It is sent once: whether it may run again is decided by its epoch, not here.

        Raises: InstanceFailed with a reason: timed out, refused (any status but 200), or unreachable.
        """
        pod = PodKey(work.node.cluster, instance.pod)
        request = (
            f"POST /v1/work HTTP/1.1\r\nHost: {instance.pod_ip}:{instance.port}\r\nContent-Length: 0\r\n"
            f"Tango-Request: {work.run_id}/{work.request_id}/{work.epoch}\r\nTango-Instance: {pod}\r\n"
            f"Tango-Cpu-Work-S: {work.cpu_work_s:.6f}\r\nTango-Memory-Mib: {work.memory_mib:.1f}\r\n"
            f"Tango-Entry-Cluster: {work.entry_cluster}\r\nTango-Payload-Kib: {payload_kib:.3f}\r\n\r\n"
        )
        origin = Origin(instance.pod_ip, instance.port)
        try:
            answer = await self._connections.exchange(origin, request.encode("latin-1"), timeout_s=timeout_s)
        except TimeoutError as error:
            raise InstanceFailed(f"instance {pod} did not answer within {timeout_s:.1f} s", reason=Reason.TIMED_OUT) from error
        except OSError as error:
            raise self._unreachable(pod, origin, error) from error
        if answer.status != 200:
            raise InstanceFailed(
                f"instance {pod} at {instance.pod_ip}:{instance.port} answered {answer.status}",
                status=answer.status,
                reason=Reason.INSTANCE_REFUSED,
            )
        try:
            return Served(
                started_at_s=float(answer.headers[b"tango-started-s"]), finished_at_s=float(answer.headers[b"tango-finished-s"])
            )
        except (KeyError, ValueError) as error:
            raise self._unreachable(pod, origin, error) from error

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

    @staticmethod
    def _unreachable(pod: PodKey, origin: Origin, error: BaseException) -> InstanceFailed:
        return InstanceFailed(
            f"instance {pod} at {origin.host}:{origin.port}: {type(error).__name__}: {error}",
            reason=Reason.INSTANCE_UNREACHABLE,
        )
