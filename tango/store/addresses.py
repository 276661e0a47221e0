"""URLs of PostgreSQL: read as libpq reads them, and shown without their secrets.

libpq ends a password at the first `@`, so that `#` and `?` may stand in it as they are; generic parsers of URLs end it there, and take
what follows for a host or a fragment, which is what would be shown then.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlencode

import psycopg2
from psycopg2.extensions import parse_dsn

from tango.errors import ConfigError, StoreUnavailable

_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg2")
_SECRET = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
"""Parameters of libpq that are never shown."""
OF_OUR_SERVER = {
    "port": "5432",
    "hostaddr": "",
    "requirepeer": "",
    "sslmode": "disable",
    "gssencmode": "disable",
    "channel_binding": "disable",
    "target_session_attrs": "any",
}
"""What URLs of the stack's own server say: what a URL leaves out, libpq takes from variables such as PGHOSTADDR, which a shell may have of
another server."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_SEARCH_PATH = re.compile(r"(?:-c\s*|--)search[-_]path\b", re.IGNORECASE)
_URL_AT_FAULT = re.compile(r"invalid |definition of service |service file |could not (?:parse|match) |syntax error ")
"""How libpq's messages begin that are about what it was told, and not about a server."""
_SAID = re.compile(r"\bFATAL: +(.*)")
"""What a server says that has answered, in its own language, and lets nobody in."""
_PASSES = re.compile(r"starting up|shutting down|recovery|not (?:yet )?accepting|too many|connection slots")
"""What it says then although user, password and database are right."""


VALUES_AS_THEY_ARE = {
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "intervalstyle": "postgres",
    "standard_conforming_strings": "on",
}
"""Settings of a session that decide how values are written, and may stand otherwise at a server, a database or a role: fewer digits of
floats than they have, text of bytes in two forms, backslashes that are taken away."""
TANGO_S_TABLES = "-c search_path=public"
"""Of a session that names Tango's tables: a role's own path leads to others, or makes them elsewhere."""
ENCODING = "UTF8"
"""Of every session, whatever the role's is: what has no letter for a text could not be sent."""


def libpq_url(url: str) -> str:
    """The URL in libpq's form; `postgresql://`, `postgres://` and SQLAlchemy's `postgresql+psycopg2://` are accepted.

    Raises: ConfigError for any other scheme, for what libpq does not read, without showing any of it, and for a URL that names another
    schema.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in _SCHEMES or not rest:
        # Without a scheme it may begin with a password: USER:PASSWORD@HOST, or libpq's other form, password=….
        begins = f"begins with {scheme[:20]}://" if rest and _SCHEME.fullmatch(scheme) else "is not whole, or has no scheme"
        raise ConfigError(
            f"the database URL {begins}; expected postgresql:// or postgres://, as in postgresql://USER@HOST:PORT/NAME"
        )
    found = f"postgresql://{rest}"
    if _SEARCH_PATH.search(_parts(found).get("options", "")):
        raise ConfigError(
            "the database URL sets search_path in its options, and Tango's tables stand in the schema public: name a database of its own "
            "instead, as `tango database prepare` makes it"
        )
    return found


def own_options(url: str, ours: str) -> str:
    """`options` of a session: those of the URL, and ours after them, which count where both say something. Raises: as `libpq_url`."""
    return f"{_parts(libpq_url(url)).get('options', '')} {ours}".strip()


def not_reached(url: str, error: psycopg2.OperationalError) -> StoreUnavailable | ConfigError:
    """What a connection that was not made is told as: a server that does not answer, one that refuses the login, or a wrong URL."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    words, shown = "; ".join(line.strip() for line in lines), described(url)
    if _URL_AT_FAULT.match(lines[0]):
        return ConfigError(f"the database URL {shown} cannot be used: {words}")
    # Of several hosts each has a line, and what one says that answers is worth more than the silence of others.
    if (said := [found[1] for line in lines if (found := _SAID.search(line))]) and not any(map(_PASSES.search, said)):
        return StoreUnavailable(
            f"PostgreSQL at {shown} refuses the login ({'; '.join(said)}). Check user, password and database of that URL.",
            is_refused=True,
        )
    return StoreUnavailable(
        f"PostgreSQL does not answer at {shown} ({words}). Start the stack with `tango up`, or check TANGO_DATABASE_URL."
    )


def described(url: str) -> str:
    """The URL for messages, with `***` for its password and without other secrets."""
    parts = _parts(libpq_url(url))
    has_password = "password" in parts
    in_query = [
        key for key in parts if key not in ("user", "host", "port", "dbname", *_SECRET) and parts[key] != OF_OUR_SERVER.get(key)
    ]
    host, port = parts.get("host", ""), parts.get("port", "")
    if host.startswith("/"):  # the folder of a socket
        in_query, place = ["host", *in_query], f":{port}" if port not in ("", OF_OUR_SERVER["port"]) else ""
    else:
        ports = port.split(",")
        hosts = host.split(",")
        place = ",".join(
            f"{one}{f':{p}' if p else ''}" for one, p in zip(hosts, ports * (len(hosts) if len(ports) == 1 else 1), strict=False)
        )
    who = f"{parts.get('user', '')}{':***' if has_password else ''}"
    query = "&".join(f"{key}={quote(parts[key], safe='/')}" for key in in_query)
    return f"postgresql://{who}{'@' if who else ''}{place}/{parts.get('dbname', '')}{'?' if query else ''}{query}"


def password_of(url: str) -> str:
    """The URL's password; empty: it has none. Raises: as `libpq_url`."""
    return _parts(libpq_url(url)).get("password", "")


def with_database(url: str, name: str) -> str:
    """The URL for the same server and user and another database. Raises: as `libpq_url`."""
    parts = {key: value for key, value in _parts(libpq_url(url)).items() if key != "dbname"}
    # All in the query, where folders of sockets and several hosts have their place too.
    return f"postgresql:///{quote(name, safe='')}?{urlencode(parts, quote_via=quote)}"


def _parts(url: str) -> dict[str, str]:
    """Parameters by libpq's names. Raises: ConfigError."""
    try:
        parts: dict[str, str] = parse_dsn(url)
    except psycopg2.ProgrammingError as error:
        raise ConfigError(
            "the database URL cannot be read as postgresql://USER:PASSWORD@HOST:PORT/NAME; write / @ % and : of a password as %2F %40 %25 "
            "and %3A"
        ) from error
    ports = parts.get("port", "")
    if "@" in parts.get("dbname", "") or not all(not port or port.isdecimal() for port in ports.split(",")):
        # libpq looks for the user no further than the first slash: what stands before it is a host to it, and would be shown as one.
        raise ConfigError("the database URL has a / in its password, which ends the host there; write it as %2F")
    return parts
