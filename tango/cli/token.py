"""`tango token`: make, list and revoke the tokens by which gateways know who calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tango.cli import names
from tango.cli.bounds import Whole
from tango.cli.confirm import dry_run_option, require_yes, would, yes_option
from tango.cli.output import ListColumn, instant, output_option, print_mapping, print_rows

if TYPE_CHECKING:
    from tango.domain.tokens import Token
    from tango.ports.tokens import TokenStore

COLUMNS = (
    ListColumn("token", justify="right", priority=10),
    ListColumn("tenant", priority=9),
    ListColumn("name", priority=8),
    ListColumn("allows", priority=5),
    ListColumn("ends_with", title="ends with", priority=7),
    ListColumn("created_at_s", title="created", show=instant, priority=4),
    ListColumn("revoked_at_s", title="revoked", show=instant, priority=6),
)


def _tokens() -> TokenStore:
    from tango.bootstrap.stores import stores  # slow libraries: only commands that need them pay for them

    return stores().tokens


@click.group()
def token() -> None:
    """Make, list and revoke the tokens of callers. The database keeps their hashes alone.

    \b
        tango token create --name ci
        tango token list
    """


@token.command()
@click.option("--tenant", default="default", show_default=True, help="Who owns what is sent with it.")
@click.option("--name", default="", help="A name to find it by.")
@click.option(
    "--class",
    "classes",
    type=click.Choice(["lc", "be"]),
    multiple=True,
    help="What may be sent with it: LC requests, BE jobs. May be repeated; both where not given.",
)
@output_option(formats=("table", "json", "yaml"))
def create(tenant: str, name: str, classes: tuple[str, ...], output: str) -> None:
    """Draw a token and print it: the only time that it can be seen. Gateways know it within seconds.

    \b
        tango token create --name ci --class be
    """
    from tango.domain.services import ServiceClass
    from tango.domain.tokens import drawn_token, new_token

    text = drawn_token()
    allows = frozenset(ServiceClass[c.upper()] for c in classes) or frozenset(ServiceClass)
    made = _tokens().create(new_token(text, tenant=tenant, name=name, allows=allows))
    if output == "table":
        click.echo(text)
    else:
        print_mapping({"secret": text, **_row(made)}, output)


@token.command(name="list")
@output_option()
def list_tokens(output: str) -> None:
    """List the tokens, revoked ones too.

    \b
        tango token list
    """
    print_rows([_row(t) for t in _tokens().tokens()], COLUMNS, output, empty="There is no token; make one: tango token create")


@token.command()
@click.argument("number", type=Whole(min=1), metavar="TOKEN", shell_complete=names.TOKENS)
@dry_run_option
@yes_option
def revoke(number: int, dry_run: bool, yes: bool) -> None:
    """Let TOKEN, a number of `tango token list`, be valid no more. Gateways that reach the centre know it within seconds.

    \b
        tango token revoke 4 --dry-run
        tango token revoke 4 --yes
    """
    tokens = _tokens()
    if dry_run:
        would(f"revoke token {number} for good")
        return
    require_yes(yes, f"revoke token {number} for good")
    revoked = tokens.revoke(number)
    click.echo(f"token {number} of tenant {revoked.tenant} is revoked", err=True)


def _row(token: Token) -> dict[str, Any]:
    return {
        "token": token.token_id,
        "tenant": token.tenant,
        "name": token.name,
        "allows": ", ".join(c.label for c in sorted(token.allows)),
        "ends_with": token.tail,
        "created_at_s": token.created_at_s,
        "revoked_at_s": token.revoked_at_s,
    }
