"""The page on settings is what the code says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tango.bootstrap.environment import ADDRESSES, NO_SETTINGS, groups_of, variable
from tango.bootstrap.settings_page import settings_page, texts_of
from tango.settings import Settings

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


def test_the_page_is_printed_from_the_settings() -> None:
    """After a change: `python -m tango.bootstrap.settings_page > docs/settings.md`."""
    assert PAGE.read_text(encoding="utf-8") == settings_page()


def test_every_variable_has_one_line_and_every_setting_says_what_it_is() -> None:
    """In whole sentences, below the field."""
    groups = groups_of(Settings())
    settings = [variable(name, field.name) for name, group in groups.items() for field in dataclasses.fields(group)]

    lines = [line.split("`")[1] for line in settings_page().splitlines() if line.startswith("| `")]

    assert lines == [*ADDRESSES.values(), *settings, *NO_SETTINGS]
    for group in groups.values():
        texts = texts_of(type(group))
        for field in dataclasses.fields(group):
            assert texts[field.name].endswith("."), f"{type(group).__name__}.{field.name}"
