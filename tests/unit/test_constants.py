"""A constant has one home."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import tango
from tango.domain import pod_marks
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


def is_number(value: ast.expr) -> bool:
    """Whether an expression is a number written out, such as `-1`, `2**20` or `24 * 3600.0`."""
    if isinstance(value, ast.BinOp):
        return is_number(value.left) and is_number(value.right)
    if isinstance(value, ast.UnaryOp):
        return is_number(value.operand)
    return isinstance(value, ast.Constant) and isinstance(value.value, (int, float)) and not isinstance(value.value, bool)


def without_a_meaning(source: str) -> list[str]:
    """Numbers at the top of a module that stand in a block of assignments in which neither a comment before it, nor one beside the number,
    nor a text behind it says what they are."""
    lines, body, found = source.splitlines(), parsed(source).body, []
    for k, statement in enumerate(body):
        if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or statement.value is None or not is_number(statement.value):
            continue
        target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        end = k
        while end + 1 < len(body) and isinstance(body[end + 1], (ast.Assign, ast.AnnAssign)):
            if body[end + 1].lineno != (body[end].end_lineno or 0) + 1:
                break
            end += 1
        told_after = end + 1 < len(body) and isinstance(body[end + 1], ast.Expr)
        first = k
        while first > 0 and isinstance(body[first - 1], (ast.Assign, ast.AnnAssign)):
            if body[first].lineno != (body[first - 1].end_lineno or 0) + 1:
                break
            first -= 1
        told_before = any(line.startswith("#") for line in lines[body[first].lineno - 2 : statement.lineno])
        if not (told_after or told_before or "#" in lines[statement.lineno - 1]):
            found.append(ast.unparse(target))
    return found


def test_every_number_that_has_a_name_says_what_it_is() -> None:
    """Its unit, and why it is as large as it is, where that is not plain: whoever changes it has to know what it holds."""
    silent = {
        path.relative_to(ROOT).as_posix(): names
        for path in sorted(ROOT.rglob("*.py"))
        if (names := without_a_meaning(path.read_text(encoding="utf-8")))
    }

    assert silent == {}
    assert without_a_meaning("A = 1\nB_S = 2.0\n") == ["A", "B_S"]
    assert without_a_meaning('A = 1\nB_S = 2.0\n"""Seconds."""\n# Of bytes.\nC = 2**20\nD = 3  # rows\n') == []


ALIKE: dict[str, str] = {}
"""Why a value may stand under several names, by the value: they mean different things, which may change one without the other."""


def distinct(value: str) -> str | None:
    """A value that nobody writes twice by chance: a path or label, or at least two words; sets and lists alike, whatever their order.

    None for others: numbers and single words mean different things in different places.
    """
    text, _, place = value.rpartition("#")
    expression = ast.parse(text, mode="eval").body
    if place and isinstance(expression, ast.Tuple):
        expression = expression.elts[int(place)]
    if isinstance(expression, ast.Call) and len(expression.args) == 1:  # frozenset({..})
        expression = expression.args[0]
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        return expression.value if "/" in expression.value.strip("/ ") else None
    if isinstance(expression, ast.Tuple | ast.List | ast.Set) and len(expression.elts) > 1:
        words = [part.value for part in expression.elts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        return ", ".join(sorted(words)) if len(words) == len(expression.elts) else None
    return None


def test_no_two_modules_have_the_same_words_under_different_names() -> None:
    """As above; what means something else, and is the same by chance, is written down with its reason."""
    homes: dict[str, set[str]] = defaultdict(set)
    for path in sorted(ROOT.rglob("*.py")):
        for name, value in constants_of(path.read_text()).items():
            if (words := distinct(value)) is not None:
                homes[words].add(f"{path.relative_to(ROOT).as_posix()}: {name}")

    assert {words: sorted(where) for words, where in homes.items() if len(where) > 1 and words not in ALIKE} == {}
    assert {words for words in ALIKE if len(homes[words]) < 2} == set()


def test_labels_and_annotations_of_pods_stand_in_one_module() -> None:
    """In `tango.domain.pod_marks`, and nowhere else as a literal."""
    marks = {value for value in vars(pod_marks).values() if isinstance(value, str) and value.startswith(pod_marks.OWNED)}
    literals = {
        (node.value, path.relative_to(ROOT).as_posix())
        for path in ROOT.rglob("*.py")
        for node in ast.walk(parsed(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.rstrip("=") in marks
    }

    assert len(marks) > 10
    assert {where for _, where in literals} == {"domain/pod_marks.py"}


def test_constants_are_found_with_and_without_types_and_in_tuples() -> None:
    """Private names count; functions, names in small letters and what is made of other names do not."""
    found = constants_of("A = 1\n_B: int = 2\nC, D = range(2)\nlog = 3\nMADE = made(5)\ndef f():\n    E = 4\n")

    assert found == {"A": "1#", "B": "2#", "C": "range(2)#0", "D": "range(2)#1"}
