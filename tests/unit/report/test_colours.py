"""The colours of pages: text of every colour can be read on every ground, in light and in dark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tango.report

TEXT = ("ink", "soft", "lc", "be", "alert", "bad", "good", "s0", "s1", "s2", "s3", "s4", "s5")
GROUNDS = ("page", "panel")
LEAST = 4.5
"""Contrast of text of any size; WCAG 2.2, success criterion 1.4.3."""

CSS = (Path(tango.report.__file__).parent / "templates" / "colours.css").read_text()
SCHEMES = dict(zip(("light", "dark"), CSS.split("@media"), strict=True))


def _luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("text", TEXT)
def test_text_has_enough_contrast_on_every_ground(scheme: str, ground: str, text: str) -> None:
    """At least 4.5 to 1."""
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})\b", SCHEMES[scheme]))

    assert _contrast(colours[text], colours[ground]) >= LEAST
