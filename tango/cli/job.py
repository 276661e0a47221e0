"""`tango job`: submit best-effort jobs; list, show, follow, wait for and cancel them."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from tango.cli import names
from tango.cli.bounds import Real, Whole
from tango.cli.confirm import dry_run_option, would
from tango.cli.output import ListColumn, instant, output_option, print_mapping, print_rows, say
from tango.cli.publishing import publisher
from tango.cli.tenant_names import TenantName
from tango.domain.jobs import MOST_DEADLINE_S, MOST_PRIORITY, MOST_RETRIES, is_drawn
from tango.domain.requests import RequestState
from tango.errors import NotInTime

if TYPE_CHECKING:
    from tango.bootstrap.stores import Stores
    from tango.control.jobs import Jobs
    from tango.domain.identity import RequestKey
    from tango.domain.jobs import Job

LOOK_S, LONGEST_LOOK_S = 0.1, 1.0
"""Seconds between two looks at a job that is waited for: the first, and the longest, to which they grow by half each time."""

COLUMNS = (
    ListColumn("job", priority=10),
    ListColumn("service", priority=8),
    ListColumn("state", priority=9),
    ListColumn("exit_code", title="exit", justify="right", priority=9),
    ListColumn("attempts", justify="right", priority=6),
    ListColumn("node", priority=5),
    ListColumn("reason", priority=7),
    ListColumn("submitted_at_s", title="submitted", show=instant, priority=4),
    ListColumn("tenant", wide=True),
    ListColumn("priority", justify="right", wide=True),
    ListColumn("retries_used", justify="right", wide=True),
    ListColumn("key", wide=True),
    ListColumn("waiting", wide=True),
)


def _stores() -> Stores:
    from tango.bootstrap.stores import stores  # slow libraries: only commands that need them pay for them

    return stores()


def _jobs() -> Jobs:
    from tango.control.jobs import Jobs

    return Jobs(store=_stores().jobs, publisher=publisher(), refusals=_stores().refusals)


class JobId(click.ParamType["RequestKey"]):
    """RUN-REQUEST."""

    name = "job"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> RequestKey:
        """Raises: UsageError for a text that is none."""
        from tango.domain.identity import RequestKey

        return RequestKey.parsed(str(value))


class Codes(click.ParamType[tuple[int, ...]]):
    """Exit codes with commas between them."""

    name = "codes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Fails for what is no list of numbers."""
        if isinstance(value, tuple):  # the default
            return value
        try:
            codes = tuple(int(code) for code in str(value).split(","))
        except ValueError:
            codes = (0,)
        if not all(1 <= code <= 255 for code in codes):
            self.fail(f"{value!r} is no list of exit codes, expected numbers from 1 to 255 as in 75,137", param, ctx)
        return codes


class Variable(click.ParamType[tuple[str, str]]):
    """NAME=VALUE."""

    name = "variable"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Fails where there is no `=`."""
        name, equals, content = str(value).partition("=")
        if not equals or not name:
            self.fail(f"{value!r} is no variable, expected NAME=VALUE", param, ctx)
        return name, content


@click.group()
def job() -> None:
    """Submit best-effort jobs; list, show, follow, wait for and cancel them.

    \b
        tango job submit --service transcode -- --input s3://a/b
        tango job wait 17-250004
    """


@job.command()
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option("--service", required=True, help="The BE service whose pod template it runs in.", shell_complete=names.BE_SERVICES)
@click.option("--command", multiple=True, help="A word of the command, in place of the template's; may be repeated.")
@click.option("--cluster", default="", help="The cluster that it enters; it may run in another.", shell_complete=names.CLUSTERS)
@click.option("--env", multiple=True, type=Variable(), metavar="NAME=VALUE", help="A variable of its own; may be repeated.")
@click.option("--allow-literal", multiple=True, metavar="NAME", help="This variable is no secret, though it looks like one.")
@click.option(
    "--deadline",
    "deadline_s",
    type=Real(1, MOST_DEADLINE_S),
    default=None,
    metavar="SECONDS",
    help="Longest time that an attempt may run.",
)
@click.option(
    "--retries",
    type=Whole(0, MOST_RETRIES),
    default=0,
    show_default=True,
    help="Failures of its own after which it is tried again.",
)
@click.option("--retry-on", type=Codes(), default=(), metavar="CODES", help="Only for these exit codes, as in 75,137.")
@click.option(
    "--priority",
    type=Whole(-MOST_PRIORITY, MOST_PRIORITY),
    default=0,
    show_default=True,
    help="Among jobs of its tenant, the higher first.",
)
@click.option("--tenant", type=TenantName(), default="default", show_default=True, help="Whose job it is.")
@click.option("--key", default="", help="Idempotency key: the same one twice is one job; with other content it is refused.")
@click.option("--wait", is_flag=True, help="Wait until it has ended, as `tango job wait` does, and print its exit code too.")
@click.option("--timeout", "timeout_s", type=Real(min=0), default=None, metavar="SECONDS", help="With --wait: no longer than this.")
@dry_run_option
@output_option()
def submit(output: str, wait: bool, timeout_s: float | None, dry_run: bool, **asked: Any) -> int:
    """Submit a job with ARGS, which come after `--`, and print its id. With --wait exits as `tango job wait`.

    \b
        tango job submit --service transcode -- --input s3://a/b --preset fast
        tango job submit --service transcode --env PRESET=fast --retries 2 --retry-on 75
        tango job submit --service transcode --wait --timeout 3600 -- --input s3://a/b
    """
    from tango.domain.jobs import NewJob

    if asked["retry_on"] and not asked["retries"]:
        raise click.UsageError("--retry-on is for --retries above 0; give both, or neither")
    if timeout_s is not None and not wait:
        raise click.UsageError("--timeout is for --wait; give both, or neither")
    asked["args"] = asked["args"] or None
    asked["command"] = asked["command"] or None
    new = NewJob(**asked, by_local_user=True)
    if dry_run:
        known = _jobs().check(new)
        would(f"submit a job of service {new.service}" if known is None else f"give job {known.key}, which has this key")
        return 0
    submitted = _jobs().submit(new)
    if not submitted.is_new:
        say(f"job {submitted.key} was submitted before under this key")
    if output in ("table", "wide"):
        click.echo(str(submitted.key))
    else:
        print_mapping({"job": str(submitted.key), "is_new": submitted.is_new}, output)
    return _waited([submitted.key], timeout_s, output) if wait else 0


@job.command(name="list")
@click.option("--tenant", default=None, help="Only jobs of this tenant.", shell_complete=names.TENANTS)
@click.option("--service", default=None, help="Only jobs of this service.", shell_complete=names.BE_SERVICES)
@click.option("--state", type=click.Choice([str(state) for state in RequestState]), default=None, help="Only jobs in this state.")
@click.option("--limit", type=Whole(min=1), default=50, show_default=True, help="Jobs at the most.")
@output_option(formats=("table", "wide", "json", "yaml", "csv"))
def list_jobs(tenant: str | None, service: str | None, state: str | None, limit: int, output: str) -> None:
    """List the latest jobs, newest first.

    \b
        tango job list --state running
        tango job list --service transcode -o json
    """
    from tango.domain.job_json import shown_job

    rows = [shown_job(found) for found in _stores().jobs.jobs(tenant=tenant, service=service, state=state, limit=limit)]
    is_part = (tenant, service, state) != (None, None, None)
    print_rows(rows, COLUMNS, output, empty="No such jobs." if is_part else "No jobs yet; `tango job submit` makes one.")


@job.command()
@click.argument("key", metavar="JOB", type=JobId(), shell_complete=names.JOBS)
@output_option()
def show(key: RequestKey, output: str) -> None:
    """Show a JOB: where it stands, why it waits, how it ended, what it asked for.

    \b
        tango job show 17-250004
    """
    here = _stores()
    found = here.jobs.job(key)
    waits = here.explainer.request(key).explanation.words if found.state is RequestState.PENDING else None
    _show(found, output, waits=waits)


def _show(found: Job, output: str, *, waits: str | None = None) -> None:
    """`waits`: why it waits for a node, where more is known of that than the job itself tells."""
    from tango.domain.job_json import shown_job

    shown = shown_job(found)
    if waits is not None:
        shown["waiting"] = waits
    if output == "table":
        shown = _in_words(shown)
        shown |= {name: instant(shown[name]) for name in ("submitted_at_s", "started_at_s", "ended_at_s") if name in shown}
    print_mapping(shown, output)


def _in_words(shown: dict[str, Any]) -> dict[str, Any]:
    """What a shown job says, as people write it: words as a shell takes them, no key that nobody gave, nothing that is empty."""
    said = {name: value for name, value in shown.items() if value not in (None, [], {}, "")}
    if is_drawn(shown["key"]):
        del said["key"]
    words: dict[str, Callable[[Any], str]] = {
        "command": shlex.join,
        "args": shlex.join,
        "env": lambda env: shlex.join(f"{name}={value}" for name, value in env.items()),
        "retry_on": lambda codes: ", ".join(map(str, codes)),
        "containers": lambda ends: ", ".join(
            f"{end['name']}: {'-' if end['exit_code'] is None else end['exit_code']}{' ' if end['reason'] else ''}{end['reason']}"
            for end in ends
        ),
    }
    return {name: words[name](value) if name in words else value for name, value in said.items()}


@job.command()
@click.argument("key", metavar="JOB", type=JobId(), shell_complete=names.JOBS)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended, through all its attempts.")
@click.option("--container", default="", help="Another container than the service's own.")
def logs(key: RequestKey, follow: bool, container: str) -> None:
    """Print what a JOB has written: from its pod while that runs, afterwards the end of it, which is kept.

    \b
        tango job logs 17-250004
        tango job logs 17-250004 --follow
    """
    from tango.bootstrap.job_logs import JobLogs

    def write(block: bytes) -> None:
        sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()

    JobLogs(_stores(), write=write, say=say).show(key, container=container, follow=follow)


@job.command()
@click.argument("key", metavar="JOB", type=JobId(), shell_complete=names.JOBS)
@output_option()
def cancel(key: RequestKey, output: str) -> None:
    """Cancel a JOB; a pod of it has its grace and is gone some seconds later.

    \b
        tango job cancel 17-250004
    """
    before = _stores().jobs.job(key)
    found = _jobs().cancel(key)
    if before.has_ended:
        say(f"job {key} has {found.state} already")
    else:
        say(f"job {key} is cancelled")
    if output in ("json", "yaml"):
        _show(found, output)


@job.command()
@click.argument("keys", metavar="JOB...", nargs=-1, required=True, type=JobId(), shell_complete=names.JOBS)
@click.option("--timeout", "timeout_s", type=Real(min=0), default=None, metavar="SECONDS", help="Wait no longer than this.")
@output_option()
def wait(keys: Sequence[RequestKey], timeout_s: float | None, output: str) -> int:
    """Wait until each JOB has ended and print its exit code. The exit status is 0 if all succeeded, 1 if one did
    not, 124 if one has not ended in time.

    \b
        tango job wait 17-250004
        tango job wait 17-250004 17-250005 --timeout 3600
    """
    return _waited(keys, timeout_s, output)


def _waited(keys: Sequence[RequestKey], timeout_s: float | None, output: str) -> int:
    """Wait for jobs and print how they ended; gives the exit status."""
    until_s = None if timeout_s is None else time.monotonic() + timeout_s
    ended = [_ended(key, until_s) for key in keys]
    if output in ("table", "wide"):
        for found in ended:
            click.echo("-" if found.exit_code is None else str(found.exit_code))
            if found.reason:
                say(f"job {found.key} {found.state}: {found.reason}{f': {found.message}' if found.message else ''}")
    else:
        from tango.domain.job_json import shown_job

        rows = [shown_job(found) for found in ended]
        print_mapping(rows[0], output) if len(rows) == 1 else print_rows(rows, COLUMNS, output)
    return int(any(str(found.state) != "succeeded" for found in ended))


def _ended(key: RequestKey, until_s: float | None) -> Job:
    """Raises: NotInTime if it has not ended by then."""
    from tango.domain.job_waiting import waiting_words

    store, pause_s = _stores().jobs, LOOK_S
    while not (found := store.job(key)).has_ended:
        if until_s is not None and time.monotonic() + pause_s > until_s:
            waits = f" ({words})" if (words := waiting_words(found)) else ""
            raise NotInTime(f"job {key} is {found.state}{waits} and has not ended in time; it goes on: `tango job wait {key}`")
        time.sleep(pause_s)
        pause_s = min(1.5 * pause_s, LONGEST_LOOK_S)
    return found
