"""`tango help`: pages about topics, and the help of commands under another name."""

from __future__ import annotations

import click

from tango.cli import names
from tango.cli.topics import TOPICS
from tango.domain.near_names import near_name
from tango.errors import UsageError


@click.command(name="help")
@click.argument("words", metavar="[TOPIC|COMMAND...]", nargs=-1, shell_complete=names.TOPICS)
@click.pass_context
def show_help(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Explain a topic, or show the help of a command.

    \b
        tango help                  # the topics
        tango help runs
        tango help environment      # every variable that is read
        tango help run submit       # as `tango run submit --help`
    """
    if not words:
        click.echo("Topics, as in `tango help runs`:\n")
        for topic in TOPICS.values():
            click.echo(f"  {topic.name:<12} {topic.about}")
        click.echo("\n`tango --help` lists the commands, and `tango COMMAND --help` has examples of each.")
    elif len(words) == 1 and words[0] in TOPICS:
        click.echo(TOPICS[words[0]].rendered())
    else:
        click.echo(_of_command(ctx.find_root(), words))


def _of_command(root: click.Context, words: tuple[str, ...]) -> str:
    """The help of a command. Raises: UsageError for what is neither a command nor a topic."""
    here = root
    for depth, word in enumerate(words):
        group = here.command
        found = group.get_command(here, word) if isinstance(group, click.Group) else None
        if found is None:
            known = [*(TOPICS if not depth else ()), *(group.list_commands(here) if isinstance(group, click.Group) else ())]
            raise UsageError(
                f"there is no topic or command {' '.join(words)!r}{near_name(word, known)}; `tango help` lists the topics"
            )
        here = click.Context(found, info_name=found.name, parent=here, **found.context_settings)
    return here.get_help()
