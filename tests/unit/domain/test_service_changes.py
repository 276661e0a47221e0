"""What a declaration would change, in words."""

from __future__ import annotations

from dataclasses import replace

from tango.domain.service_changes import service_changes
from tests.fakes.store_world import BATCH, CHAT, WEB


def test_new_changed_and_unchanged_services_are_told_apart() -> None:
    """With the fields that change; services that the file does not have are none of its business."""
    slower = replace(WEB, target_ms=250.0, memory_mib=64)

    assert service_changes([slower, CHAT, BATCH], [WEB, CHAT]) == [
        "web: memory_mib 32 -> 64; target_ms 100.0 -> 250.0",
        "chat: stays as it is",
        "batch: new, be",
    ]
