"""The informer and its handler; what a server does to it stands in tests/integration/test_kube_informer.py."""

from __future__ import annotations

import asyncio
from typing import Any

from tango.kube.informer import Informer
from tests.fakes.kube_client import FakeKubeClient

PODS = "/api/v1/namespaces/tango/pods"


async def test_an_object_that_its_handler_cannot_bear_keeps_no_other_from_it() -> None:
    """In the list and in the watch: the error is counted, the event is not repeated, and the next one comes."""
    client, seen = FakeKubeClient(), list[tuple[str, str]]()
    for name in ("bad-listed", "listed"):
        client.put(f"{PODS}/{name}", {})

    def handle(kind: str, pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        if name.startswith("bad"):
            raise KeyError("a label that is not there")
        seen.append((kind, name))

    informer = Informer(client, PODS, on_event=handle)  # type: ignore[arg-type]
    running = asyncio.create_task(informer.run())
    async with asyncio.timeout(5):
        await informer.synced()
        while not client.is_watched(PODS):
            await asyncio.sleep(0)
        for name in ("bad-watched", "watched"):
            client.put(f"{PODS}/{name}", {})
        while len(seen) < 2:
            await asyncio.sleep(0)
    running.cancel()

    assert seen == [("ADDED", "listed"), ("ADDED", "watched")]
    assert informer.broken == 2
    assert informer.objects.keys() == {"bad-listed", "listed", "bad-watched", "watched"}
