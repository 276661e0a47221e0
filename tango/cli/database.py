"""`tango database`: the roles and the schema of a PostgreSQL server of one's own, backup and restore.

`tango up` makes roles and schema for the server that it brings."""

from __future__ import annotations

import time
from pathlib import Path

import click

from tango.cli.bounds import Real, Whole
from tango.cli.confirm import dry_run_option, require_yes, would, yes_option
from tango.cli.output import say

RETRY_EVERY_S = 1.0
"""Seconds between two tries to reach a server that does not answer yet."""

url_option = click.option(
    "--url",
    envvar=["TANGO_OWNER_URL", "TANGO_DATABASE_URL"],
    required=True,
    help="URL of the role that owns the schema; TANGO_OWNER_URL or TANGO_DATABASE_URL where not given.",
)
wait_option = click.option(
    "--wait-s",
    type=Real(0, 3600),
    default=0.0,
    show_default=True,
    help="Seconds in which a server that does not answer yet may begin to.",
)


@click.group()
def database() -> None:
    """Prepare a PostgreSQL server of your own, bring its schema to this version or back, back it up and restore it. Short: `tango db`.

    \b
        tango database revision
        tango db backup /var/backups/tango --keep 7
    """


@database.command()
@click.option("--admin-url", envvar="TANGO_ADMIN_URL", required=True, help="URL of a superuser; better in TANGO_ADMIN_URL.")
@click.option("--owner-password", envvar="TANGO_OWNER_PASSWORD", required=True, help="Better in TANGO_OWNER_PASSWORD.")
@click.option("--app-password", envvar="TANGO_APP_PASSWORD", required=True, help="Better in TANGO_APP_PASSWORD.")
@click.option("--reader-password", envvar="TANGO_READER_PASSWORD", required=True, help="Better in TANGO_READER_PASSWORD.")
@wait_option
def prepare(admin_url: str, owner_password: str, app_password: str, reader_password: str, wait_s: float) -> None:
    """Make the database `tango` and its roles `tango_owner`, `tango_app` and `tango_reader`; or give them these passwords.

    Options can be read by every user of the host, variables cannot.

    \b
        TANGO_OWNER_PASSWORD=... TANGO_APP_PASSWORD=... TANGO_READER_PASSWORD=... \\
          tango database prepare --admin-url postgresql://postgres@db/postgres
    """
    import psycopg2

    from tango.store.addresses import not_reached, with_database
    from tango.store.roles import DATABASE, grant_defaults, prepare_database

    until_s = time.monotonic() + wait_s
    while True:
        try:
            prepare_database(admin_url, owner_password=owner_password, app_password=app_password, reader_password=reader_password)
            grant_defaults(with_database(admin_url, DATABASE))
            break
        except psycopg2.OperationalError as error:
            if time.monotonic() >= until_s:
                raise not_reached(admin_url, error) from error
            time.sleep(RETRY_EVERY_S)
    say(f"Database {DATABASE} and its roles are ready. Next: `tango database upgrade` as tango_owner.")


@database.command()
@url_option
@wait_option
@dry_run_option
def upgrade(url: str, wait_s: float, dry_run: bool) -> None:
    """Bring the schema to the newest revision that this version knows; does nothing where that has been done, also by another at once.

    \b
        tango database upgrade --dry-run
        tango database upgrade --wait-s 60
    """
    from tango.errors import StoreUnavailable
    from tango.store.schema import bring_up_to_date, newest_revision, revision_of, revisions_between

    if dry_run:
        found = revision_of(url)
        for number, says in revisions_between(found, newest_revision()):
            say(f"{number}: {says}")
        would(f"bring the schema from revision {found or 'none'} to {newest_revision()}")
        return
    until_s = time.monotonic() + wait_s
    while True:
        try:
            bring_up_to_date(url)
            break
        except StoreUnavailable:
            if time.monotonic() >= until_s:
                raise
            time.sleep(RETRY_EVERY_S)
    say(f"The schema has revision {newest_revision()}.")


@database.command()
@click.argument("revision")
@url_option
@click.option("--yes", is_flag=True, help="Do it; data that the older schema has no place for is lost.")
@dry_run_option
def downgrade(revision: str, url: str, yes: bool, dry_run: bool) -> None:
    """Bring the schema back to REVISION, with the version that made it newest: stop everything first, then downgrade, then install.

    \b
        tango database downgrade 0032 --dry-run
        tango database downgrade 0032 --yes
    """
    from tango.errors import UsageError
    from tango.store.addresses import described
    from tango.store.migrate import migrate_back
    from tango.store.schema import revision_of, revisions_between

    if dry_run:
        found = revision_of(url)
        for number, says in reversed(revisions_between(None if revision == "base" else revision, found)):
            say(f"undoes {number}: {says}")
        would(f"bring the schema from revision {found or 'none'} back to {revision}")
        return
    if not yes:
        raise UsageError(
            f"going back to {revision} at {described(url)} drops what that schema has no place for: back the database up, then say --yes"
        )
    migrate_back(url, revision)
    say(f"The schema has revision {revision}.")


bin_option = click.option(
    "--pg-bin",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of PostgreSQL's client programs; else those that Tango brings, then those in PATH.",
)
stack_url_option = click.option(
    "--url",
    envvar=["TANGO_OWNER_URL"],
    help="URL of the role that owns the schema; TANGO_OWNER_URL where not given, or else the local stack's database.",
)


@database.command()
@click.argument("file", type=click.Path(path_type=Path))
@stack_url_option
@bin_option
@click.option("--keep", type=Whole(1), help="Where FILE is a folder: remove all but the newest KEEP backups there.")
def backup(file: Path, url: str | None, pg_bin: Path | None, keep: int | None) -> None:
    """Write a backup to FILE, as everything goes on, and to FILE.json what a restore of it must have. Prints the recovery point.

    Where FILE is a folder, the backup is named for the time. It is of pg_dump's custom format, and has what jobs were given and their
    logs, so keep it as you keep the database.

    \b
        tango database backup /var/backups/tango --keep 7
    """
    from tango.stack.owned_database import owned_database, pg_folders
    from tango.store.backup import back_up, drop_older, named_for_now

    folder = file if file.is_dir() else None
    if keep is not None and folder is None:
        raise click.UsageError(f"--keep is for a folder of backups, which {file} is not")
    file = named_for_now(file) if folder else file
    with owned_database(url) as found:
        made = back_up(found, file, folders=pg_folders(pg_bin), told=say)
    say(f"{file}: {made.bytes:,} bytes, {made.rows:,} rows, schema revision {made.revision}")
    for old in drop_older(folder, keep=keep) if folder and keep else ():
        say(f"removed {old}")
    click.echo(f"recovery point {made.taken_at}")


@database.command()
@click.argument("file", type=click.Path(path_type=Path))
@stack_url_option
@bin_option
@dry_run_option
@yes_option
def restore(file: Path, url: str | None, pg_bin: Path | None, dry_run: bool, yes: bool) -> None:
    """Make the database what it was when FILE was written, with everything of Tango stopped; then bring its schema to this version.

    What is there stays until the restored rows have been counted, and comes back if anything fails. Journals of clusters that have shipped
    since then go on by themselves when their agents are started: `tango cluster list` tells what is lost.

    \b
        tango database restore /var/backups/tango/tango-20261130T040000Z.dump --dry-run
        tango database restore /var/backups/tango/tango-20261130T040000Z.dump --yes
    """
    from tango.stack.owned_database import owned_database, pg_folders
    from tango.store.backup import read_manifest
    from tango.store.backup import restore as restored

    if dry_run:
        manifest = read_manifest(file)
        say(f"{file}: {manifest.rows:,} rows of schema revision {manifest.revision}, Tango {manifest.tango}")
        would(f"make the database what it was at {manifest.taken_at}, {manifest.age_s / 60:,.0f} minutes ago")
        return
    with owned_database(url, alone=True) as found:
        made = restored(found, file, allowed=lambda what: require_yes(yes, what), folders=pg_folders(pg_bin), told=say)
    say(f"What was recorded in the last {made.age_s / 60:,.0f} minutes is not there any more, but for what journals still have.")
    click.echo(f"recovery point {made.taken_at}")


@database.command()
@url_option
def revision(url: str) -> int:
    """Print the schema's revision and the newest one that this version knows; exits with 1 where they differ.

    \b
        tango database revision
    """
    from tango.store.schema import newest_revision, revision_of

    found, newest = revision_of(url), newest_revision()
    click.echo(f"{found or 'none'} of {newest}")
    return 0 if found == newest else 1
