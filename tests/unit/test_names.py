"""What is read most of a program: its names, and what a function asks for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
ROOMS = ("tango", "workers", "tasks", "models")
MOST_PARAMETERS = 9
"""Beyond that, what belongs together comes together, as one value with a name."""


@cache
def modules() -> tuple[tuple[str, ast.Module], ...]:
    """Each module of the product, by its path."""
    paths = [path for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py"))]
    return tuple((str(path.relative_to(REPOSITORY)), ast.parse(path.read_text(encoding="utf-8"))) for path in paths)


def names_in(module: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, name) of all that a module names or uses."""
    for node in ast.walk(module):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.Name():
                yield node.lineno, node.id
            case ast.Attribute():
                yield node.lineno, node.attr
            case ast.arg():
                yield node.lineno, node.arg


def is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether its parameters are the options of a command, which click hands over one by one."""
    return any(ast.unparse(decorator).split("(")[0].endswith("command") for decorator in function.decorator_list)


def test_functions_take_few_enough_parameters_to_be_read() -> None:
    """A call of thirteen arguments is read by counting; commands are as their options are, and `tango.api` has options likewise, which
    each call names."""
    crowded, seen = list[str](), 0
    for path, module in modules():
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                seen += 1
                given = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                count = len([name for name in given if name not in ("self", "cls")])
                if path.startswith("tango/api/"):
                    count -= sum(default is not None for default in node.args.kw_defaults)
                if count > MOST_PARAMETERS and not is_command(node):
                    crowded.append(f"{path}:{node.lineno} {node.name} takes {count}")

    assert seen > 5000
    assert crowded == []


MAY_SHARE = {
    **dict.fromkeys(
        ("Answer", "CallFailed", "Job", "Refused"),
        "tango/client is a distribution of its own, which imports nothing of ours: its users know one of them alone",
    ),
    **dict.fromkeys(
        ("BeRequests", "LcRequests", "JournalFleet"),
        "a part of a store is named as the port whose calls it answers",
    ),
}
"""Names that two classes of the product have, and why a reader takes neither for the other."""


def test_no_two_classes_have_one_name() -> None:
    """A reader need not look at the imports to know which is meant. Private classes are known in their module alone."""
    found: dict[str, list[str]] = {}
    for path, module in modules():
        for node in module.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(path)

    assert len(found) > 500
    assert {name: paths for name, paths in found.items() if len(paths) > 1 and name not in MAY_SHARE} == {}
    assert [name for name in MAY_SHARE if len(found.get(name, [])) != 2] == []


ONE_MEANING = {
    r"(?<!head)room(?!y)": ((), "a package; what a node has free is headroom"),
    r"judg": (
        ("tango/analysis/verdicts.py", "tango/api/comparisons.py", "tango/cli/compare.py", "tango/report/"),
        "to give a verdict in a comparison; networks are validated, plans are checked, a kubelet decides",
    ),
    r"world$": (
        (
            "tango/bench/",
            *(f"tango/sim/{name}.py" for name in ("views", "simulate", "records", "outcomes", "tenancy", "candidates")),
        ),
        "live or simulated; what is simulated is a `SimulationState`",
    ),
}
"""Words of docs/glossary.md that once meant several things: by their pattern, where they are right, and what they mean."""


def test_words_of_the_glossary_name_one_thing() -> None:
    """A name in code says what the glossary says; prose may use the words as everybody does."""
    wrong = list[str]()
    words = [(re.compile(pattern, re.IGNORECASE), *rule) for pattern, rule in ONE_MEANING.items()]
    for path, module in modules():
        for line, name in names_in(module):
            for word, places, meaning in words:
                if word.search(name) and not path.startswith(places):
                    wrong.append(f"{path}:{line} {name}: {meaning}")

    assert wrong == []
