"""Help: every command has examples that could be typed, topics say what the documents say, exit codes are those of the errors."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tango.bootstrap.environment import ADDRESSES, NO_SETTINGS
from tango.cli.failures import EXIT_CODES
from tango.cli.main import ALIASES, cli
from tango.cli.topics import TOPICS
from tango.errors import FileUnusable, TangoError
from tango.settings import Settings

DOCS = Path(__file__).parents[3] / "docs"
_END = re.compile(r"\s(#|\||[<>]|&&|\|\|).*")


def commands(command: click.Command = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command and group by its words."""
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, (*path, name))


COMMANDS = dict(commands())


def examples(text: str) -> list[str]:
    """Lines of a text that are set apart and call Tango, as one types them."""
    lines = re.findall(r"^ {4,}(\S.*)$", text.replace("\\\n", " "), re.MULTILINE)
    found = []
    for line in lines:
        inner = re.search(r"\$\((tango [^)]*)\)", line)
        call = inner[1] if inner else line
        call = re.sub(r"^((sudo|[A-Z_]+=\S+)\s+)*", "", call)
        if call.startswith("tango "):
            found.append(_END.sub("", f"{call} ").strip())
    return found


def parsed(line: str) -> str:
    """The words of the command that a line calls, with its options and arguments parsed. Raises: click.UsageError for what there is not."""
    words = shlex.split(line)[1:]
    context, path = click.Context(cli, info_name="tango"), []
    while isinstance(context.command, click.Group) and words and not words[0].startswith("-"):
        name = ALIASES.get(words[0], words[0])
        found = context.command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"no command {' '.join([*path, name])}")
        path.append(name)
        words = words[1:]
        context = click.Context(found, info_name=name, parent=context)
    asks_help = "--help" in words
    values, left, _ = context.command.make_parser(context).parse_args(words)
    if left:
        raise click.UsageError(f"{line}: too many arguments: {left}")
    for param in context.command.params:
        value = values.get(param.name)
        if isinstance(value, str) and isinstance(param.type, (click.Choice, click.types.IntParamType, click.types.FloatParamType)):
            param.type.convert(value, param, context)
        if isinstance(param, click.Argument) and param.required and not isinstance(value, (str, tuple)) and not asks_help:
            raise click.UsageError(f"{line}: {param.name} is missing")
    return " ".join(path)


@pytest.mark.parametrize("name", COMMANDS, ids=lambda name: name or "tango")
def test_every_command_has_examples_that_could_be_typed(name: str) -> None:
    """Of itself or, in the help of a group, of its commands; each option, argument and choice is there."""
    lines = examples(COMMANDS[name].help or "")

    called = [parsed(line) for line in lines]

    assert lines, f"tango {name} --help has no example"
    assert any(call == name or call.startswith(f"{name} ".lstrip()) for call in called) or name in ("env", "report"), called


@pytest.mark.parametrize(
    "line", ["tango run shwo 3", "tango run show 3 --figure-s", "tango run show 3 4", "tango completion csh", "tango run show"]
)
def test_an_example_that_could_not_be_typed_is_found(line: str) -> None:
    """The check itself can fail."""
    with pytest.raises(click.UsageError):
        parsed(line)


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_says_what_the_documents_say(name: str) -> None:
    """Its words are the glossary's, its commands there, its page too, and it fits a terminal."""
    topic = TOPICS[name]
    glossary = {}
    for line in (DOCS / "glossary.md").read_text().splitlines():
        if line.startswith("| **"):
            _, words, meaning, _ = line.split(" | ") if line.count(" | ") == 3 else ("", *line.strip("| ").split(" | ", 1), "")
            word = re.match(r"\*\*(.+?)\*\*", words)
            assert word
            glossary[word[1]] = re.sub(r"\*\*|`| \(`?[a-z-]+\.md`?\)| \(\[.*?\]\(.*?\)\)", "", meaning)

    text = topic.rendered()

    assert {word: glossary.get(word) for word in topic.words} == dict(topic.words)
    for line in examples(text):
        parsed(line)
    assert (DOCS / topic.page).is_file()
    assert max(map(len, text.splitlines())) <= 120
    assert CliRunner().invoke(cli, ["help", name]).output.strip() == text.strip()


def test_every_variable_that_is_read_has_its_line() -> None:
    """Addresses, settings and what is none."""
    groups = {f.name: getattr(Settings(), f.name) for f in dataclasses.fields(Settings)}
    settings = {
        f"TANGO_{name}_{field.name}".upper()
        for name, group in groups.items()
        if dataclasses.is_dataclass(group)
        for field in dataclasses.fields(group)
    }

    said = {line.partition("=")[0] for topic in ("settings", "environment") for line in TOPICS[topic].rendered().splitlines()}

    assert settings | {*ADDRESSES.values(), *NO_SETTINGS} <= said


def test_exit_codes_are_those_of_the_errors() -> None:
    """None is without its line."""

    def statuses(error: type[TangoError]) -> set[int]:
        return {error.exit_status, *(status for sub in error.__subclasses__() for status in statuses(sub))}

    assert statuses(TangoError) | {FileUnusable("", path="", is_full=True).exit_status} <= set(EXIT_CODES)
    for code, words in EXIT_CODES.items():
        assert f"{code}  {words}" in TOPICS["exit-codes"].rendered()


def test_topics_are_listed_and_help_is_also_that_of_a_command() -> None:
    """By its words."""
    run = CliRunner()

    listed, of_command = run.invoke(cli, ["help"]), run.invoke(cli, ["help", "run", "prune"])

    assert all(topic.about in listed.output for topic in TOPICS.values())
    assert "--older-than" in of_command.output
