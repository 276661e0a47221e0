"""The list of rooms in docs/ARCHITECTURE.md is the tree, and its order is that of the import contract."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
ROOM = re.compile(r"([a-z_]+(?:/[a-z_]+)?(?:\.py|/))(?: {2,}|$)")
NO_LAYER = {"migrations", "tango.__init__"}
"""What imports of ours do not lead to or from by layers: revisions, which import nothing, and the version."""


def lines_of_rooms() -> list[list[str]]:
    """The rooms that stand on each line of the list, from the top, as paths."""
    text = (REPOSITORY / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    block = text.split("## The rooms", 1)[1].split("\nLibraries are fenced", 1)[0]
    found = []
    for line in block.splitlines():
        rooms, at = list[str](), 4
        while line.startswith("    ") and (room := ROOM.match(line, at)):
            rooms.append(room[1])
            at = room.end()
        if rooms:
            found.append(rooms)
    return found


def module_of(room: str) -> str:
    """The name under which it is imported."""
    return room.removesuffix("/").removesuffix(".py").replace("/", ".")


def test_every_room_is_in_the_list_and_everything_in_the_list_is_there() -> None:
    """Whatever lies at the top of the program, a folder or a module, has its line, which says what it is for."""
    listed = [room for line in lines_of_rooms() for room in line]
    top = [
        *(path for path in (REPOSITORY / "tango").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()),
        *(REPOSITORY / name for name in ("tasks", "workers", "models", "migrations")),
    ]
    there = {f"{path.relative_to(REPOSITORY)}{'/' if path.is_dir() else ''}" for path in top} - {"tango/__init__.py"}

    assert len(listed) == len(set(listed))
    assert set(listed) == there


def test_the_lines_are_the_layers_of_the_import_contract() -> None:
    """In the same order from the top, so that the picture is what `lint-imports` holds."""
    contracts = configparser.ConfigParser()
    contracts.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    layers = [
        {module.strip() for module in line.split("|")}
        for line in contracts["importlinter:contract:layers"]["layers"].splitlines()
        if line.strip()
    ]
    drawn = [{module_of(room) for room in line} - NO_LAYER for line in lines_of_rooms()]

    assert [line for line in drawn if line] == layers
