"""URLs of brokers: checked where they come in, so that everything that connects by them verifies the server and none shows a password.

Celery, kombu, redis-py and Flower each know other forms, and take silently, or fail late on, what they do not know. So there is one form
inside: `redis://`, `rediss://` and kombu's `redis+socket://` for a UNIX socket. Valkey speaks the same protocol.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from tango.errors import ConfigError

VERIFIED = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
"""What a URL of TLS says unless it says something else: kombu else takes any certificate, and older clients any name in it."""
SOCKET = "redis+socket"
TLS = "rediss"
REDIS = ("redis", TLS, SOCKET)
"""Schemes of the form inside, of what speaks Redis's protocol."""
_SAME = {"valkey": "redis", "valkeys": TLS, "valkey+socket": SOCKET, "unix": SOCKET}
"""Other words for them: Valkey's, and redis-py's for a socket."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_AMQP = ("amqp", "amqps", "pyamqp")
_EXPECTED = "expected redis://[:PASSWORD@]HOST:PORT/0, the same with rediss://, valkey:// or valkeys://, or unix:///PATH?db=0"
_OF_TLS = ("ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_NONE = ("none", "CERT_NONE")
"""How a URL says that its server is not verified, which has to be said."""


def broker_address(url: str) -> str:
    """The URL as everything connects by it: with verification of the server's certificate where it is one of TLS.

    Raises: ConfigError for one that names no single Redis or Valkey, and for one whose password has characters that would end it, without
    showing any of it. What is no URL of Redis, RabbitMQ's or kombu's `memory://`, is left as it is.
    """
    scheme, separator, rest = url.partition("://")
    scheme = _SAME.get(scheme, scheme)
    if not url or scheme in _AMQP or url == "memory://":
        return url
    if scheme not in REDIS or not separator:
        # What is no scheme may be a password.
        what = f"begins with {scheme[:20]}://" if separator and _SCHEME.fullmatch(scheme) else "has no scheme"
        why = ": Sentinel is not spoken to; name the primary, or what stands before it" if scheme.startswith("sentinel") else ""
        raise ConfigError(f"the broker's URL {what}{why}; {_EXPECTED}")
    if ";" in rest:
        raise ConfigError(f"the broker's URL names several brokers, separated by a semicolon; {_EXPECTED}")
    user, at, _ = rest.rpartition("@")
    if at and set(user) & set("/?#"):
        raise ConfigError(
            "the broker's URL has / ? or # in its user or password, which ends it there; write them as %2F %3F and %23"
        )
    return _of_socket(rest) if scheme == SOCKET else _of_host(scheme, rest)


def shown_broker(url: str) -> str:
    """Where a broker is, for messages: host and port, or the path of its socket."""
    parts = _parts(broker_address(url))
    return parts.path if parts.scheme == SOCKET else parts.netloc.rpartition("@")[2]


def redis_py_address(url: str) -> str:
    """The URL as redis-py reads it. Raises: as `broker_address`."""
    found = broker_address(url)
    if not found.startswith(f"{SOCKET}://"):
        return found
    parts = _parts(found)
    return f"unix://{parts.netloc}{parts.path}?db={dict(parse_qsl(parts.query))['virtual_host']}"


def _of_host(scheme: str, rest: str) -> str:
    url = f"{scheme}://{rest}"
    said = _query(parts := _parts(url), _OF_TLS if scheme == TLS else ())
    try:
        # Without a host clients connect to their own machine, and whoever answers there gets the password.
        is_good = parts.port != 0 and bool(parts.hostname) and " " not in parts.netloc
    except ValueError:
        is_good = False
    if not is_good or "," in parts.netloc.rpartition("@")[2]:
        raise ConfigError(f"the broker's URL has no host and port that can be read; {_EXPECTED}")
    database = parts.path.removeprefix("/")
    if database and not _is_number(database):
        raise ConfigError(f"the broker's URL names the database {database[:40]!r}, expected a number; {_EXPECTED}")
    if scheme != TLS:
        return url
    missing = "&".join(
        f"{name}={value}" for name, value in VERIFIED.items() if name not in said and said.get("ssl_cert_reqs") not in _NONE
    )
    return f"{url}{'&' if '?' in rest else '?'}{missing}" if missing else url


def _of_socket(rest: str) -> str:
    """`redis+socket://[USER]:PASSWORD@/PATH?virtual_host=N`."""
    parts = _parts(f"unix://{rest}")
    who, at, host = parts.netloc.rpartition("@")
    said = _query(parts, ("db", "virtual_host"))
    database = said.get("virtual_host", said.get("db", "0"))
    if host or len(parts.path) < 2 or not _is_number(database):
        raise ConfigError(f"the broker's URL names no socket by its whole path, or a database that is no number; {_EXPECTED}")
    return f"{SOCKET}://{who}{at}{parts.path}?{urlencode({'virtual_host': database})}"


def _parts(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # brackets that do not close, or hold no address
        raise ConfigError(f"the broker's URL has no host and port that can be read; {_EXPECTED}") from None


def _query(parts: SplitResult, known: tuple[str, ...]) -> dict[str, str]:
    said = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(set(said) - set(known)):
        expected = f"expected {', '.join(known)}" if known else "expected none"
        raise ConfigError(f"the broker's URL has the parameter {unknown[0][:40]!r}, {expected} (timeouts are Tango's own)")
    return said


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()
