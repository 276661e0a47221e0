"""The documents are held to the code: paths, names, commands, options, variables, targets and links that they give exist."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
import pytest

from tango.cli.main import cli
from tango.learning import features
from tango.scheduling.lc.dsaco import OFFER_FEATURES
from tango.settings import Settings
from tango.sources import parsed

REPOSITORY = Path(__file__).parent.parent.parent
DOCUMENTS = sorted((REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")))
SOURCE_FOLDERS = ("tango", "tasks", "workers", "models", "migrations", "tests")
TOP = r"(?:tango|tasks|workers|models|migrations|tests|docs|deploy)"


@dataclass(frozen=True, slots=True)
class Said:
    """Something that a document says, and where."""

    text: str
    where: str


def said(pattern: str, *, code_only: bool = False) -> Iterator[Said]:
    """Group 1 of each match in the documents; `code_only`: in code spans and in indented or fenced blocks alone."""
    for document in DOCUMENTS:
        name = str(document.relative_to(REPOSITORY))
        for number, line in lines_of(document):
            for part in code_of(line) if code_only else [line]:
                for match in re.finditer(pattern, part):
                    yield Said(match[1], f"{name}:{number}")


def lines_of(document: Path) -> Iterator[tuple[int, str]]:
    """(number, line) of a document."""
    yield from enumerate(document.read_text(encoding="utf-8").splitlines(), 1)


def code_of(line: str) -> list[str]:
    """The code in a line: all of an indented one, else what stands between backticks."""
    return [line.strip()] if line.startswith("    ") else re.findall(r"`([^`]+)`", line)


@cache
def sources() -> dict[str, str]:
    """Text of every file of ours that a document may name a symbol of, by its path."""
    found = (path for folder in SOURCE_FOLDERS for path in (REPOSITORY / folder).rglob("*.py"))
    return {str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8") for path in found}


def names_in(text: str) -> set[str]:
    """What a module defines at its top and in its classes."""
    names: set[str] = set()
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


@cache
def members() -> dict[str, set[str]]:
    """By class: its methods and fields, with those of the classes it is made from."""
    found: dict[str, set[str]] = {}
    bases: dict[str, list[str]] = {}
    for path, text in sources().items():
        if path.startswith("tests/"):
            continue
        for node in ast.walk(parsed(text)):
            if isinstance(node, ast.ClassDef):
                mine = found.setdefault(node.name, set())
                mine |= {n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
                mine |= {n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
                mine |= {t.id for n in node.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
                bases[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]
    for name, of in bases.items():
        for base in of:
            found[name] |= found.get(base, set())
    return found


def missing(every: Iterator[Said], exists: Callable[[str], bool]) -> list[str]:
    """What does not exist, each with its place. A pattern that finds nothing at all has lost its subject."""
    found = list(every)
    assert found
    return [f"{one.where}: {one.text}" for one in found if not exists(one.text)]


def test_paths_exist() -> None:
    """A path from the top of the repository names a file or folder there; with a `*`, at least one. Labels of Kubernetes look alike."""
    labels = {label for text in sources().values() for label in re.findall(r"[\"{](tango/[a-z0-9]+)[\"=:]", text)}

    def exists(path: str) -> bool:
        trimmed = path.rstrip("./")
        return (REPOSITORY / trimmed).exists() or ("*" in path and any(REPOSITORY.glob(trimmed))) or path in labels

    assert missing(said(rf"(?<![\w./<-])({TOP}/[\w./*-]+)"), exists) == []


def test_modules_named_by_file_exist() -> None:
    """A bare `name.py`, as in a paragraph about one room, is the name of a file of ours, or of one that a document has its reader write."""
    files = {path.name for path in REPOSITORY.rglob("*.py") if ".venv" not in path.parts}
    files |= {one.text for one in said(r"cat > (\S+\.py) <<", code_only=True)}
    files |= {f"{one.text}.py" for one in said(r"tango policy new (\w+)", code_only=True)}

    assert missing(said(r"(?<![\w/.*-])([a-z_0-9]+\.py)\b"), files.__contains__) == []


def test_symbols_named_with_their_file_are_there() -> None:
    """In `file.py: name`, the file defines the name."""

    def defined(text: str) -> bool:
        path, name = text.split(": ")
        files = [text for at, text in sources().items() if at == path or at.endswith(f"/{path}")]
        return any(name in names_in(text) for text in files)

    assert missing(said(r"`([\w/]+\.py: \w+)"), defined) == []


def test_tests_that_are_named_exist() -> None:
    """A promise stands by the test that shows it."""
    tests = {
        name for path, text in sources().items() if path.startswith("tests/") for name in re.findall(r"def (test_\w+)\(", text)
    }

    assert missing(said(r"`(test_\w+)`", code_only=False), tests.__contains__) == []


def test_members_named_with_their_class_are_there() -> None:
    """In `Class.member`, a class of ours has the member. Documents name no classes of others; names in capitals are of files."""

    def has(text: str) -> bool:
        name, member = text.split(".")
        return member in members().get(name, set())

    assert missing(said(r"`([A-Z]\w*[a-z]\w*\.[a-z]\w*)\b"), has) == []


def test_commands_and_their_options_exist() -> None:
    """`tango COMMAND ... --option` is a command of the program, and the option one of its own."""
    lines = said(r"(?:^|[;&|] *)(?:[A-Z_]+=\S+ )*(tango [a-z][^#;&|`]*(?:\|[a-z][^#;&|`]*)*)", code_only=True)
    tables = re.compile(r"\S {2,}\S")  # what a command has printed, not a command
    wrong = [f"{one.where}: {one.text}: {why}" for one in lines if not tables.search(one.text) for why in complaints(one.text)]

    assert wrong == []


def test_commands_that_the_program_tells_exist() -> None:
    """In messages, remedies and docstrings of the code alike: whoever follows them is not told that there is no such command."""
    told = re.compile(r"`(tango [a-z][^`\n,;]*)`|remedy=f?\"(tango [a-z][^\",;:]*)")
    lines = [
        (path, command)
        for path, text in sources().items()
        if not path.startswith("tests/")
        for found in told.findall(text)
        for command in found
        if command
    ]

    assert len(lines) > 100
    assert [f"{path}: {line}: {why}" for path, line in lines for why in complaints(re.sub(r"\{[^}]*\}", "X", line))] == []


def complaints(line: str) -> Iterator[str]:
    """What is wrong with a command line; words in capitals and `...` stand for something."""
    words = line.replace("[", " ").replace("]", " ").split()[1:]
    group: click.Command = cli
    context = click.Context(cli)
    while words and isinstance(group, click.Group) and re.fullmatch(r"[a-z][a-z-|]*", words[0]):
        word = words.pop(0)
        found = [group.get_command(context, one) for one in word.split("|")]
        if None in found:
            yield f"no command {word!r}"
            return
        group = found[0] or group
        if len(found) > 1:
            return
    known = {option for parameter in group.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in itertools.takewhile(lambda word: word != "--", words):  # what follows are somebody else's
        option = word.partition("=")[0].rstrip(".,:)")
        if re.fullmatch(r"--?[a-z][a-z-]*", option) and option not in known | {"--help", "-h"}:
            yield f"no option {option}"


def test_options_in_running_text_exist() -> None:
    """A `--option` alone is an option of some command, of pip, or of a program that the line names."""
    ours = {option for command in commands(cli) for p in command.params for option in (*p.opts, *p.secondary_opts)}
    others = {"--pool", "--require-hashes"}
    others |= set(re.findall(r'"(--[a-z-]+)"', sources()["workers/node_agent.py"]))

    assert missing(said(r"`(--[a-z][a-z-]*)"), (ours | others).__contains__) == []


def commands(command: click.Command) -> Iterator[click.Command]:
    """A command and all below it."""
    yield command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield from commands(found)


def test_variables_are_read_by_the_code() -> None:
    """A `TANGO_*` variable stands in some source file, or is made of the group and field of a setting."""
    known = {name for text in sources().values() for name in re.findall(r"\bTANGO_[A-Z_]+\b", text)}
    groups = {f.name: getattr(Settings(), f.name) for f in dataclasses.fields(Settings)}
    tunables = {
        f"TANGO_{name}_{field.name}".upper()
        for name, group in groups.items()
        if dataclasses.is_dataclass(group)
        for field in dataclasses.fields(group)
    }

    assert missing(said(r"\b(TANGO_[A-Z_]*[A-Z])\b"), (known | tunables).__contains__) == []


def test_make_targets_exist() -> None:
    """`make TARGET` is a rule of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.M))

    assert missing(said(r"\bmake ([a-z-]+)\b", code_only=True), targets.__contains__) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(d.relative_to(REPOSITORY)) for d in DOCUMENTS])
def test_links_lead_somewhere(document: Path) -> None:
    """A link into the repository leads to a file, and its anchor to a heading there."""
    wrong = []
    for number, line in lines_of(document):
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            led = document.parent / path if path else document
            if not led.exists() or (anchor and anchor not in anchors(led)):
                wrong.append(f"{number}: {target}")
    assert wrong == []


def anchors(document: Path) -> set[str]:
    """Anchors that a page gives to its headings."""
    headings = (line.lstrip("#").strip() for _, line in lines_of(document) if line.startswith("#"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_network_has_the_features_that_are_told() -> None:
    """docs/learning.md counts the features of each kind as the code lists them."""
    told = (REPOSITORY / "docs" / "learning.md").read_text(encoding="utf-8")
    counts = tuple(
        len(kind)
        for kind in (
            features.NODE_FEATURES,
            features.CLUSTER_FEATURES,
            features.KIND_FEATURES,
            features.PAIR_FEATURES,
            features.EDGE_FEATURES,
        )
    )

    assert "per node {}, per cluster {}, per pod size {}, per (pod size, node) {}, per edge {}".format(*counts) in told
    assert f"{len(OFFER_FEATURES)} features of an offer" in told


@pytest.mark.parametrize("document", [*DOCUMENTS, REPOSITORY / "CHANGELOG.md"], ids=lambda d: str(d.relative_to(REPOSITORY)))
def test_lines_are_short(document: Path) -> None:
    """No line of a document is longer than 100 characters; tables, code and what a command prints keep their own."""
    fenced, long = False, []
    for number, line in lines_of(document):
        fenced ^= line.startswith("```")
        if len(line) > 100 and not (fenced or line.startswith("    ") or line.lstrip().startswith("|")):
            long.append(f"{number}: {len(line)} characters")
    assert long == []
