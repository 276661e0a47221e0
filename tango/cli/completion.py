"""`tango completion`: completion scripts for bash, zsh and fish."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script, e.g. `eval "$(tango completion bash)"`.

    \b
        eval "$(tango completion bash)"                  # in ~/.bashrc
        eval "$(tango completion zsh)"                   # in ~/.zshrc, after compinit
        tango completion fish > ~/.config/fish/completions/tango.fish
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(found(ctx.find_root().command, {}, "tango", "_TANGO_COMPLETE").source())
