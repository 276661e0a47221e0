"""LC requests over HTTP to the pod address of an instance: implements `tango.ports.InstanceCalls` on aiohttp.

One session per worker process; connections to an instance are kept alive and shared by its calls.
"""

from __future__ import annotations

import aiohttp

from tango.domain.observations import InstanceState
from tango.domain.requests import LcWork, Reason
from tango.errors import InstanceFailed
from tango.ports import Served

CONNECT_TIMEOUT_S = 2.0


class HttpInstanceCalls:
    """Calls instances by the protocol of docs/ARCHITECTURE.md, "LC requests over HTTP". Make it on the loop that uses it."""

    def __init__(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, limit_per_host=0, keepalive_timeout=60, use_dns_cache=False)
        self._session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), raise_for_status=False
        )

    async def call(self, instance: InstanceState, work: LcWork, *, payload_kib: float, timeout_s: float) -> Served:
        """Send one request and read its answer to the end, so that the connection goes back to the pool."""
        headers = {
            "Tango-Request": f"{work.run_id}/{work.request_id}/{work.epoch}",
            "Tango-Instance": instance.pod,
            "Tango-Cpu-Work-S": f"{work.cpu_work_s:.6f}",
            "Tango-Memory-Mib": f"{work.memory_mib:.1f}",
            "Tango-Entry-Cluster": work.entry_cluster,
            "Tango-Payload-Kib": f"{payload_kib:.3f}",
        }
        timeout = aiohttp.ClientTimeout(total=timeout_s, connect=CONNECT_TIMEOUT_S)
        try:
            async with self._session.post(
                f"http://{instance.pod_ip}:{instance.port}/v1/work", headers=headers, timeout=timeout
            ) as answer:
                await answer.read()
                if answer.status != 200:
                    raise InstanceFailed(
                        f"instance {instance.pod} at {instance.pod_ip}:{instance.port} answered {answer.status}",
                        status=answer.status,
                        reason=Reason.INSTANCE_REFUSED,
                    )
                return Served(
                    started_at_s=float(answer.headers["Tango-Started-S"]), finished_at_s=float(answer.headers["Tango-Finished-S"])
                )
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
            raise self._unreachable(instance, error) from error
        except TimeoutError as error:
            raise InstanceFailed(
                f"instance {instance.pod} did not answer within {timeout_s:.1f} s", reason=Reason.TIMED_OUT
            ) from error
        except (aiohttp.ClientError, OSError, KeyError, ValueError) as error:
            raise self._unreachable(instance, error) from error

    async def close(self) -> None:
        """Drop the connections."""
        await self._session.close()

    @staticmethod
    def _unreachable(instance: InstanceState, error: BaseException) -> InstanceFailed:
        return InstanceFailed(
            f"instance {instance.pod} at {instance.pod_ip}:{instance.port}: {type(error).__name__}: {error}",
            reason=Reason.INSTANCE_UNREACHABLE,
        )
