"""Probes of containers that run as local processes: httpGet, tcpSocket and exec, as a kubelet carries them out.

Source: Kubernetes documentation, "Configure Liveness, Readiness and Startup Probes".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from tango.emulation.virtual_kubelet.launching import UMASK, Launch
from tango.emulation.virtual_kubelet.pod_place import CannotStart

Json = Mapping[str, Any]

KINDS = ("httpGet", "tcpSocket", "exec")
DEFAULT_PERIOD_S = 10.0
QUICK_PERIOD_S = 0.2
"""Seconds between two looks at a container that has just started, and at a port where no probe is declared."""
QUICK_FOR_S = 10.0
"""Seconds after its start in which a container that is not ready is looked at so often, whatever its probe's period: ten seconds, the
default, would be its time to start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A declared probe of a container at an address."""

    what: Json
    container: Json
    ip: str
    launch: Launch
    delay_s: float
    period_s: float
    timeout_s: float
    successes: int
    failures: int

    async def holds(self, session: aiohttp.ClientSession) -> bool:
        """Probe once: whether the container answers as it should."""
        try:
            async with asyncio.timeout(self.timeout_s):
                if "httpGet" in self.what:
                    return await self._http(session, self.what["httpGet"])
                if "tcpSocket" in self.what:
                    return await _accepts(self.what["tcpSocket"].get("host") or self.ip, self._port(self.what["tcpSocket"]["port"]))
                return await self._exec(self.what["exec"]["command"])
        except (TimeoutError, OSError, aiohttp.ClientError, ValueError):
            return False

    async def _http(self, session: aiohttp.ClientSession, get: Json) -> bool:
        scheme = str(get.get("scheme", "HTTP")).lower()
        url = f"{scheme}://{get.get('host') or self.ip}:{self._port(get['port'])}/{str(get.get('path', '/')).removeprefix('/')}"
        headers = {h["name"]: h["value"] for h in get.get("httpHeaders") or []}
        async with session.get(url, headers=headers, ssl=False, allow_redirects=False) as answer:
            return 200 <= answer.status < 400

    async def _exec(self, command: list[str]) -> bool:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(self.launch.environment),
            cwd=self.launch.folder,
            umask=UMASK,
        )
        try:
            return await process.wait() == 0
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()

    def _port(self, port: int | str) -> int:
        """A number, or the name of one of the container's ports."""
        if isinstance(port, int) or str(port).isdigit():
            return int(port)
        for named in self.container.get("ports") or []:
            if named.get("name") == port:
                return int(named["containerPort"])
        raise ValueError(f"no port of the container is named {port!r}")


def probe_of(container: Json, key: str, *, ip: str, launch: Launch) -> Probe | None:
    """The probe under `readinessProbe`, `livenessProbe` or `startupProbe`. Raises: CannotStart for one of another kind, such as grpc."""
    what = container.get(key)
    if not what:
        return None
    if not any(kind in what for kind in KINDS):
        raise CannotStart("CreateContainerConfigError", f"{key} of container {container['name']!r} is none of {', '.join(KINDS)}")
    return Probe(
        what=what,
        container=container,
        ip=ip,
        launch=launch,
        delay_s=float(what.get("initialDelaySeconds") or 0),
        period_s=float(what.get("periodSeconds") or DEFAULT_PERIOD_S),
        timeout_s=float(what.get("timeoutSeconds") or 1),
        successes=int(what.get("successThreshold") or 1),
        failures=int(what.get("failureThreshold") or 3),
    )


async def _accepts(host: str, port: int) -> bool:
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    return True


async def accepts(host: str, port: int) -> bool:
    """Whether something listens there."""
    try:
        async with asyncio.timeout(1.0):
            return await _accepts(host, port)
    except (TimeoutError, OSError):
        return False
