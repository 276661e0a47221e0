"""Kubernetes quantities: read exactly, written canonically, refused clearly."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango.domain.quantities import canonical, cpu_millicores, extended_amounts, format_millicores, memory_mib, parse_quantity


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1500m", "1.5"),
        ("0.5", "0.5"),
        (".5", "0.5"),
        ("64Mi", 64 * 2**20),
        ("1e3", 1000),
        ("2k", 2000),
        ("100n", "1e-7"),
        (2, 2),
        ("-1", -1),
        ("1e1000000", 2**63 - 1),
        ("-1e1000000", 1 - 2**63),
        ("1e-1000000", "1e-9"),
        ("0e1000000", 0),
        ("9" * 900, 2**63 - 1),
        ("0." + "0" * 900 + "1", "1e-9"),
        ("1" + "0" * 900 + "e-899", 10),
        ("1" + "0" * 900 + "e-1899", "1e-9"),
        ("20Ei", 2**63 - 1),
        (10**30, 2**63 - 1),
    ],
)
def test_a_quantity_is_an_exact_number(text: str | int, amount: Any) -> None:
    """No float on the way."""
    assert parse_quantity(text) == Decimal(amount)


@pytest.mark.parametrize(
    ("text", "written"),
    [("1000m", "1"), ("0.5", "500m"), ("1024Mi", "1Gi"), ("1536Mi", "1536Mi"), ("0", "0"), ("1.5Gi", "1536Mi"), (2, "2")],
)
def test_it_is_written_as_the_api_server_writes_it(text: str | int, written: str) -> None:
    """The largest suffix that leaves no fraction, in the family it came in."""
    assert canonical(text) == written


@pytest.mark.parametrize(
    "value", ["", "1 core", "1MiB", "--1", "NaN", "1e", "１", float("nan"), float("inf"), "9" * 1001, True, None, {}, [1], ["1"]]
)
def test_what_is_no_quantity_is_refused_with_what_was_found(value: Any) -> None:
    """Any JSON value may come from outside; each refusal is a ValueError that shows it."""
    for read in (parse_quantity, canonical, cpu_millicores, memory_mib):
        with pytest.raises(ValueError, match=r"quantity .*, expected"):
            read(value)


@given(st.integers(0, 10**9))
def test_millicores_survive_writing_and_reading(millicores: int) -> None:
    """What we write for a pod is what a kubelet reads."""
    assert cpu_millicores(format_millicores(millicores)) == millicores


def test_parts_of_a_unit_are_rounded_up() -> None:
    """As the scheduler does: a pod never gets less than it asked for."""
    assert cpu_millicores("0.1m") == 1
    assert memory_mib("1") == 1
    assert memory_mib("1048577") == 2


@given(
    st.from_regex(
        re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{0,40})?([eE][+-]?[0-9]{1,9}|[KMGTPE]i|[numkMGTPE])?", re.ASCII), fullmatch=True
    )
)
def test_every_quantity_can_be_written_and_kept(text: str) -> None:
    """However large or small: what Kubernetes takes as a number may stand in any pod of a cluster."""
    assert abs(parse_quantity(canonical(text))) <= 2**63
    assert cpu_millicores(text) <= 10**9
    assert memory_mib(text) <= 10**9
    assert all(amount <= 2**53 for _, amount in extended_amounts({"example.com/gpu": text}))
