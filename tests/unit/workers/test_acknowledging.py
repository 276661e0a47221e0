"""Acknowledging where a task has run: the loop is woken where it may have stopped to ask, and not otherwise."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from kombu.transport.virtual import QoS

from workers.acknowledging import at_once


@pytest.mark.parametrize(
    ("under_way", "most", "is_woken"), [(1, 8, False), (6, 8, False), (7, 8, True), (8, 8, True), (9, 0, False)]
)
def test_the_loop_is_woken_where_as_many_messages_as_it_may_have_are_under_way(under_way: int, most: int, is_woken: bool) -> None:
    """By kombu's own account, before the loop has looked at what was acknowledged; 0: any number may be."""
    qos, woken = QoS(SimpleNamespace(do_restore=False), most), list[object]()
    for tag in range(under_way):
        qos.append(SimpleNamespace(), tag)

    at_once(qos, woken.append)(qos.ack, 0)

    assert bool(woken) == is_woken
    assert qos._dirty == {0}
