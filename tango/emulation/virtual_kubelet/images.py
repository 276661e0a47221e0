"""The images that one node has, and the wait for those that it has not: pulled in time, or never, with a kubelet's backoff.

Source: Kubernetes documentation, "Images", "Image pull policy" and "ImagePullBackOff".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tango.domain.kubelet_ways import KubeletWays

Json = dict[str, Any]
Sleep = Callable[[float], Awaitable[None]]
Waits = Callable[[str, str], bool]
"""Told (reason, message) of what a container waits for; gives whether to go on waiting."""
CREATING = ("ContainerCreating", "")


@dataclass(slots=True)
class NodeImages:
    """Of one node; `ways` gives the kubelet's present ways, which may change while a container waits."""

    ways: Callable[[], KubeletWays]
    sleep: Sleep = asyncio.sleep
    present: set[str] = field(default_factory=set)
    _pulling: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def prepare(self, containers: Iterable[Json], waits: Waits) -> bool:
        """Wait until all images are there and the containers have started; False if told to give up meanwhile."""
        for container in containers:
            if not await self._have(str(container.get("image") or ""), str(container.get("imagePullPolicy") or ""), waits):
                return False
        if (start_s := self.ways().start_s) and waits(*CREATING):
            await self.sleep(start_s)
        return not start_s or waits(*CREATING)

    async def _have(self, image: str, policy: str, waits: Waits) -> bool:
        pause_s = self.ways().backoff_s[0]
        while True:
            ways = self.ways()
            if image in self.present and not (policy == "Always" and ways.lacks(image)):
                return True
            if policy == "Never":
                reason, again = "ErrImageNeverPull", "ErrImageNeverPull"
                message = f'Container image "{image}" is not present with pull policy of Never'
            elif not ways.lacks(image):
                return await self._pull(image, ways.pull_s, waits)
            else:
                reason, again = "ErrImagePull", "ImagePullBackOff"
                message = f'failed to pull and unpack image "{image}": {image}: not found'
            if not waits(reason, message):
                return False
            await self.sleep(min(1.0, pause_s))
            if not waits(again, message if again == reason else f'Back-off pulling image "{image}": ErrImagePull: {message}'):
                return False
            await self.sleep(pause_s)
            pause_s = min(2 * pause_s, self.ways().backoff_s[1])

    async def _pull(self, image: str, pull_s: float, waits: Waits) -> bool:
        """Pull it once for all containers that wait for it."""
        if pull_s:
            async with self._pulling.setdefault(image, asyncio.Lock()):
                if image not in self.present:
                    if not waits(*CREATING):
                        return False
                    await self.sleep(pull_s)
        self.present.add(image)
        return not pull_s or waits(*CREATING)
