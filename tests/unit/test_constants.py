"""A constant has one home."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import tango
from tango.sources import parsed

ROOT = Path(tango.__file__).parent


def constants_of(source: str) -> dict[str, str]:
    """Names in capitals that a module binds at its top to plain values, and the values; members of tuples with their place."""
    found: dict[str, str] = {}
    for statement in parsed(source).body:
        if isinstance(statement, ast.Assign):
            target, value = statement.targets[0], statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target, value = statement.target, statement.value
        else:
            continue
        if any(isinstance(part, ast.Name) and part.id not in ("range", "float", "bytes") for part in ast.walk(value)):
            continue
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        for place, name in enumerate(names):
            if isinstance(name, ast.Name) and name.id.isupper():
                found[name.id.lstrip("_")] = f"{ast.unparse(value)}#{place if len(names) > 1 else ''}"
    return found


def test_no_two_modules_define_the_same_constant() -> None:
    """The same name with the same value twice is one constant with two homes: an edit of the one would leave the other behind."""
    homes: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for name, value in constants_of(path.read_text()).items():
            homes[name, value].append(path.relative_to(ROOT).as_posix())

    assert {name: where for (name, _), where in homes.items() if len(where) > 1} == {}


def test_constants_are_found_with_and_without_types_and_in_tuples() -> None:
    """Private names count; functions, names in small letters and what is made of other names do not."""
    found = constants_of("A = 1\n_B: int = 2\nC, D = range(2)\nlog = 3\nMADE = made(5)\ndef f():\n    E = 4\n")

    assert found == {"A": "1#", "B": "2#", "C": "range(2)#0", "D": "range(2)#1"}
