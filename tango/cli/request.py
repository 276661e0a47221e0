"""`tango request`: send a request to a service, through a gateway, and print what it answers."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tango.cli import names
from tango.cli.bounds import Real
from tango.cli.output import say

if TYPE_CHECKING:
    from tango.client import ClientError

USAGE, REFUSED, UNREACHABLE, FAILED = 2, 3, 4, 1
"""Exit statuses, as of all commands."""


@click.command()
@click.argument("service", shell_complete=names.LC_SERVICES)
@click.option("--path", default="/", show_default=True, help="Path and query at the service.")
@click.option("--method", help="HTTP method. Default: POST with a body, GET without one.")
@click.option("--data", help="Body: a text, @FILE for that of a file, or - for standard input.")
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header of the request. May be repeated.")
@click.option("--timeout", "timeout_s", type=Real(0.001, 3600), help="Seconds that the answer is waited for.")
@click.option("--target", "target_s", type=Real(0.001, 3600), help="Seconds within which it is wanted.")
@click.option("--key", help="Idempotency key: the same one twice is one request.")
@click.option("--async", "is_async", is_flag=True, help="Do not wait for the answer: print the id of the request.")
@click.option("--url", help="The gateway. Default: TANGO_GATEWAY_URL, else the first of the local stack.")
@click.option("--ca-file", type=click.Path(exists=True, dir_okay=False), help="Certificates by which the gateway's is checked.")
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="State folder of the local stack.")
def request(
    service: str,
    path: str,
    method: str | None,
    data: str | None,
    headers: tuple[str, ...],
    timeout_s: float | None,
    target_s: float | None,
    key: str | None,
    is_async: bool,
    url: str | None,
    ca_file: str | None,
    home: Path | None,
) -> int:
    """Send a request to SERVICE and print the body of its answer; the status goes to stderr.

    The token comes from TANGO_TOKEN, else from the local stack. Exits with 0 for a status of success (1xx to 3xx), 1 for another status and
    for a request that was shed or timed out, 2 for what cannot be sent or a service that there is not, 3 where the gateway refuses it, 4
    where there is no gateway or it takes nothing now.

    \b
        tango request my-api --path /v1/detect --method POST --data @image.jpg
        tango request my-api --target 0.2 --timeout 5
    """
    from tango.client import ClientError, Tango

    where, token = _place(url, home)
    body, given = _body(data), dict(_header(text) for text in headers)
    try:
        with Tango(where, token=token, ca_file=ca_file) as tango:
            if is_async:
                click.echo(
                    tango.send(
                        service, path, method=method, body=body, headers=given, timeout_s=timeout_s, target_s=target_s, key=key
                    )
                )
                return 0

            with tango.stream(
                service, path, method=method, body=body, headers=given, timeout_s=timeout_s, target_s=target_s, key=key
            ) as answer:
                say(f"{answer.status} {answer.headers.get('Content-Type', '')} (request {answer.request})")
                for part in answer.parts():
                    sys.stdout.buffer.write(part)
                    sys.stdout.buffer.flush()
            return 0 if answer.status < 400 else FAILED
    except ClientError as error:
        say(f"Error: {error}")
        return _status(error)


def _place(url: str | None, home: Path | None) -> tuple[str, str]:
    """(address of the gateway, token): what was said, else the environment's, else the local stack's. Raises: UsageError."""
    from tango.errors import UsageError
    from tango.stack.state import read_stack, state_home

    where, token = url or os.environ.get("TANGO_GATEWAY_URL", ""), os.environ.get("TANGO_TOKEN", "")
    if not where or not token:
        info = read_stack(home.expanduser().absolute() if home else state_home(os.environ))
        if info is not None:
            own = list(info.gateways.values())
            # The local token is for the local gateways: it is not sent to whatever address somebody has named.
            if not token and (not where or where.rstrip("/") in own):
                token = info.token
            where = where or next(iter(own), "")
    if not where or not token:
        missing = (
            "gateway: name one with --url or TANGO_GATEWAY_URL" if not where else "token: set TANGO_TOKEN (`tango token create`)"
        )
        raise UsageError(f"there is no {missing}, or start a stack with `tango up --detach`")
    return where, token


def _body(data: str | None) -> bytes | None:
    if data is None:
        return None
    from tango.errors import RequestRejected
    from tango.files import read_bounded, usable
    from tango.settings.callers import MOST_BODY_KIB

    if not data.startswith("@") and data != "-":
        return os.fsencode(data)
    most = MOST_BODY_KIB << 10
    path = Path("standard input" if data == "-" else data[1:])
    with usable(path, "read"):
        content = sys.stdin.buffer.read(most + 1) if data == "-" else read_bounded(path.expanduser(), most)
    if len(content) > most:
        raise RequestRejected(
            f"{path} has more than {MOST_BODY_KIB} KiB, which no gateway takes; send the place of what is larger instead"
        )
    return content


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"--header: found {text!r}, expected NAME:VALUE")
    return name.strip(), value.strip()


def _status(error: ClientError) -> int:
    from tango.client import Busy, ClientError, Refused, Unreachable

    if type(error) is ClientError:  # it could not be sent as it was given
        return USAGE
    match error:
        case Refused(word="unknown-service"):
            return USAGE
        case Refused():
            return REFUSED
        case Unreachable():
            return UNREACHABLE
        case Busy(word=word) if word != "shed":
            return UNREACHABLE
        case _:
            return FAILED
