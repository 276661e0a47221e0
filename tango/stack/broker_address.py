"""URLs of brokers: checked where they come in, so that everything that connects by them verifies the server and none shows a password."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from tango.errors import ConfigError

VERIFIED = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
"""What a URL of TLS says unless it says something else: kombu else takes any certificate, and older clients any name in it."""
_TLS = ("rediss", "valkeys")


def broker_address(url: str) -> str:
    """The URL as everything connects by it: with verification of the server's certificate where it is one of TLS.

    Raises: ConfigError for one whose password has characters that would end it, without showing any of it.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url  # such as `memory://`, or what the client refuses itself
    user, at, _ = rest.rpartition("@")
    if at and set(user) & set("/?#"):
        raise ConfigError(
            "the broker's URL has / ? or # in its user or password, which ends it there; write them as %2F %3F and %23"
        )
    if scheme not in _TLS:
        return url
    said = dict(parse_qsl(urlsplit(url).query))
    missing = "&".join(
        f"{name}={value}" for name, value in VERIFIED.items() if name not in said and said.get("ssl_cert_reqs") not in _NONE
    )
    return f"{url}{'&' if '?' in rest else '?'}{missing}" if missing else url


_NONE = ("none", "CERT_NONE")
"""How a URL says that its server is not verified, which has to be said."""


def shown_broker(url: str) -> str:
    """Where a broker is, for messages: host and port."""
    return urlsplit(broker_address(url)).netloc.rpartition("@")[2]
