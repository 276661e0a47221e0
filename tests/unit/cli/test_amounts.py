"""Spans and sizes as people type them."""

from __future__ import annotations

import click
import pytest

from tango.cli.amounts import SIZE, SPAN


@pytest.mark.parametrize(
    ("text", "seconds"), [("30d", 2_592_000), ("12h", 43_200), ("90 s", 90), ("1.5min", 90), ("2w", 1_209_600), ("5M", 300)]
)
def test_a_span_has_its_unit(text: str, seconds: float) -> None:
    """In any case, with or without a blank."""
    assert SPAN.convert(text, None, None) == seconds


@pytest.mark.parametrize(("text", "count"), [("20GB", 20 * 10**9), ("512", 512), ("1.5 MiB", 1_572_864), ("3t", 3 * 10**12)])
def test_a_size_may_have_a_unit(text: str, count: int) -> None:
    """Powers of ten, or of two where the unit says so."""
    assert SIZE.convert(text, None, None) == count


@pytest.mark.parametrize("text", ["30", "30 days ago", "-1d", "", "d", "1y"])
def test_a_span_without_a_meaning_is_refused(text: str) -> None:
    """Nobody can tell 30 seconds from 30 days; the message says how spans are written."""
    with pytest.raises(click.BadParameter, match="such as 90s"):
        SPAN.convert(text, None, None)


@pytest.mark.parametrize("text", ["9" * 400, "9" * 30])
def test_an_amount_beyond_all_measure_is_refused(text: str) -> None:
    """What is infinite as a float included."""
    for kind, unit in ((SPAN, "d"), (SIZE, "GB")):
        with pytest.raises(click.BadParameter, match="larger than any"):
            kind.convert(f"{text}{unit}", None, None)


@pytest.mark.parametrize("text", ["20 gigs", "-1", ""])
def test_a_size_without_a_meaning_is_refused(text: str) -> None:
    """Likewise."""
    with pytest.raises(click.BadParameter, match="such as 500MB"):
        SIZE.convert(text, None, None)
