"""`tango console`: where the console of a stack is, and how to get in."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import click

from tango.cli.output import print_mapping, say


@click.command()
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="State folder; TANGO_HOME where not given.")
@click.option("--open", "opens", is_flag=True, help="Open it in this desktop's browser.")
@click.option("-o", "--output", type=click.Choice(["url", "json"]), default="url", show_default=True, help="How to print.")
def console(home: Path | None, opens: bool, output: str) -> None:
    """Print the address of the stack's console; opened in a browser, it logs in by itself. It holds the token: treat it as a password.

    The console is one of the processes of `tango up` and is reached from this machine alone; from another one by a tunnel:
    ssh -L 8080:127.0.0.1:PORT HOST.

    \b
        tango console --open
        tango console -o json
    """
    from tango.errors import DependencyError
    from tango.stack.state import read_stack, state_home

    folder = home.expanduser().absolute() if home else state_home(os.environ)
    info = read_stack(folder)
    if info is None or not info.console_url:
        raise DependencyError(f"no stack with a console runs in {folder}; start one with `tango up --detach`")
    # What follows # stays in the browser: it is in no request, and so in no log.
    address = f"{info.console_url}/login#{quote(info.console_token, safe='')}"
    if output == "json":
        print_mapping({"url": info.console_url, "token": info.console_token, "login": address}, "json")
    else:
        click.echo(address)
    if opens and click.launch(address) != 0:
        say("no browser could be opened here; open the address above in one")
