"""Places of a gateway, and who waits for one at the door."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tango.gateway.door import Door
from tango.gateway.problems import Problem, Trouble
from tango.settings import GatewaySettings

LONG_S = 60.0


def door(*, most: int = 2, of_tenant: int = 2) -> Door:
    """With so many places."""
    return Door(GatewaySettings(max_waiting=most, max_waiting_of_tenant=of_tenant))


async def let_in(of: Door, tenant: str, order: list[str], *, name: str = "") -> None:
    """Come in, say so, and stay until cancelled."""
    async with of.place(tenant, within_s=LONG_S):
        order.append(name or tenant)
        await asyncio.Event().wait()


async def ended(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait for their ends."""
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await asyncio.sleep(0)


async def test_a_place_that_comes_free_goes_to_the_tenants_in_turn() -> None:
    """However many of one tenant came before the first of another."""
    of, order = door(), list[str]()
    first = [asyncio.create_task(let_in(of, "a", order, name=f"a{k}")) for k in range(2)]
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(let_in(of, tenant, order, name=name)) for tenant, name in (("a", "a2"), ("b", "b0"))]
    await asyncio.sleep(0)
    assert (order, of.inside, of.at_door) == (["a0", "a1"], 2, 2)

    await ended(*first)

    assert (order, of.inside, of.at_door) == (["a0", "a1", "a2", "b0"], 2, 0)
    await ended(*waiting)
    assert of.inside == 0


async def test_a_tenant_without_places_keeps_nobody_else_at_the_door() -> None:
    """Places that only others may have go to them."""
    of, order = door(most=3, of_tenant=1), list[str]()
    tasks = [asyncio.create_task(let_in(of, "a", order, name=f"a{k}")) for k in range(2)]
    await asyncio.sleep(0)
    async with of.place("b", within_s=0.0) as has_waited:
        assert not has_waited
        assert (order, of.at_door) == (["a0"], 1)

    await ended(tasks[0])

    assert order == ["a0", "a1"]
    await ended(tasks[1])


async def test_the_door_has_as_many_places_again_and_no_more() -> None:
    """Of one tenant, and of all."""
    of, order = door(most=2, of_tenant=1), list[str]()
    tasks = [asyncio.create_task(let_in(of, tenant, order)) for tenant in ("a", "a", "b", "b")]
    await asyncio.sleep(0)
    for tenant, word in (("a", "tenant a has 1"), ("c", "this gateway has 2")):
        with pytest.raises(Problem, match=word) as problem:
            async with of.place(tenant, within_s=LONG_S):
                raise AssertionError
        assert problem.value.trouble is Trouble.TOO_MANY_REQUESTS

    assert (order, of.at_door) == (["a", "b"], 2)
    await ended(*tasks)
    assert (of.inside, of.at_door) == (0, 0)


async def test_who_waits_too_long_is_told_and_leaves_nothing_behind() -> None:
    """Nor does who hangs up meanwhile."""
    of = door(most=1, of_tenant=1)
    async with of.place("a", within_s=0.0):
        with pytest.raises(Problem) as problem:
            async with of.place("b", within_s=0.01):
                raise AssertionError
        gone = asyncio.create_task(let_in(of, "b", []))
        await asyncio.sleep(0)
        await ended(gone)

        assert problem.value.trouble is Trouble.TOO_MANY_REQUESTS
        assert (of.inside, of.at_door) == (1, 0)
    assert of.inside == 0


async def test_a_place_of_one_who_has_gone_is_the_next_one_s() -> None:
    """Whether he went while he waited, or just as he was let in."""
    of, order = door(most=2, of_tenant=2), list[str]()
    first = [asyncio.create_task(let_in(of, "a", order, name=f"a{k}")) for k in range(2)]
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(let_in(of, "a", order, name=name)) for name in ("gone", "next")]
    await asyncio.sleep(0)
    first[0].cancel()
    await asyncio.sleep(0)  # `gone` is let in by this
    waiting[0].cancel()
    for _ in range(3):
        await asyncio.sleep(0)

    assert order == ["a0", "a1", "next"]
    assert of.inside == 2
    await ended(first[1], waiting[1])
    assert of.inside == 0
