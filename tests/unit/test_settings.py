"""Every setting says what it means."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tango import settings
from tango.sources import parsed

UNITS = {"_s": r"[Ss]econds", "_ms": r"[Mm]illiseconds", "_millicores": r"[Mm]illicores"}


def described() -> Iterator[tuple[str, str, str]]:
    """(class, field, docstring) of every field of `tango.settings`; an empty docstring where it has none."""
    modules = sorted(Path(settings.__file__).parent.glob("*.py"))
    for group in (node for path in modules for node in parsed(path.read_text(encoding="utf-8")).body):
        if not isinstance(group, ast.ClassDef):
            continue
        for field, following in zip(group.body, [*group.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                text = following.value if isinstance(following, ast.Expr) else None
                said = text.value if isinstance(text, ast.Constant) and isinstance(text.value, str) else ""
                yield group.name, field.target.id, said


FIELDS = list(described())


def test_all_groups_are_looked_at() -> None:
    """What is read from the files are the fields of the dataclasses."""
    groups = {name: getattr(settings, name) for name in settings.__all__}

    own = {(name, f.name) for name, group in groups.items() for f in dataclasses.fields(group) if f.name in group.__annotations__}
    assert own == {f[:2] for f in FIELDS}


@pytest.mark.parametrize(("group", "field", "said"), FIELDS, ids=[f"{group}.{field}" for group, field, _ in FIELDS])
def test_every_setting_says_its_meaning_and_unit(group: str, field: str, said: str) -> None:
    """A docstring follows every field, and names the unit that the field's name carries."""
    unit = next((words for suffix, words in UNITS.items() if field.endswith(suffix) and not field.endswith("_per_s")), "")

    assert len(said.split()) >= 3, f"{group}.{field} has no docstring"
    assert re.search(unit, said), f"{group}.{field}: the unit is missing: {said}"
