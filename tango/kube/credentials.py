"""How to reach an API server and as whom: read from a kubeconfig by the official library, and read again when that has changed.

Tokens of service accounts live for an hour and are renewed in their files, client certificates are renewed in theirs, plug-ins (`exec`)
give tokens that expire. The library reads all of them once. Here the files are looked at by age, which costs a `stat` each, and everything
is read again after a 401.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import ipaddress
import os
import re
import ssl
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from kubernetes.aio import client as official
from kubernetes.aio import config as official_config
from kubernetes.aio.config.exec_provider import ExecProvider
from kubernetes.aio.config.kube_config import ConfigNode

from tango.errors import ConfigError, FileRefused
from tango.kube.http_exchange import Origin, Proxy
from tango.kube.kubeconfig_file import Misnamed, document, parts_of, stamps

EXPIRES_SOON_S = 60.0
"""Seconds before its end at which a plug-in's token is renewed, more than one call with all its retries takes."""
PLUGIN_WITHIN_S = 30.0
"""Seconds for a plug-in, which may ask a cloud: one that waits for somebody to type would keep the agent waiting for ever."""
MOST_NAMED_BYTES = 1 << 20
"""Size of the longest token, key or file of certificates that a kubeconfig may name; all authorities of a system have 220 KiB."""
_SERVER_NAME = re.compile(r"([A-Za-z0-9_:][A-Za-z0-9_.:-]{0,252})?")
_FILES = (("user", "tokenFile"), ("user", "client-certificate"), ("user", "client-key"), ("cluster", "certificate-authority"))


@dataclass(frozen=True, slots=True)
class Access:
    """What a kubeconfig says at one time."""

    base: str
    """URL of the server, without a slash at its end."""
    origin: Origin
    host: str
    """Value of the header `Host`."""
    prefix: str
    """Path before every path, as managers of many clusters have it."""
    authorization: str
    """Value of the header `Authorization`; empty: none."""
    expires_at_s: float
    """Unix time at which a plug-in's token ends; infinite: unknown."""
    tls_files: tuple[object, ...]
    """What the TLS context was made of."""
    proxy_url: str = ""
    """Of an HTTP proxy, as the kubeconfig says it; empty: none."""


class Credentials:
    """A context of a kubeconfig.

    Raises: from `load` ConfigError for a file that cannot be read or has no such context; FileRefused for what is wrong in it, and for a
    plug-in that fails.
    """

    def __init__(self, path: str, context: str) -> None:
        self._path, self._context = path, context
        self._what = f"kubeconfig {path}, context {context!r}"
        self._files: list[str] = []
        """What was last read, the kubeconfig first."""
        self._stamps: tuple[object, ...] = ()
        self._last: Access | None = None

    async def load(self) -> Access:
        """Read everything now; the TLS context stays the same object while its files do."""
        try:
            parts = parts_of(document(self._path), self._context)
        except (OSError, Misnamed) as error:
            raise ConfigError(f"{self._what}: {error}") from error
        except ValueError as error:
            raise self._wrong(str(error)) from error
        files = self._named_files(parts)
        self._require_small(files[1:])
        stamped = stamps(files)
        configuration = official.Configuration()
        try:
            async with asyncio.timeout(PLUGIN_WITHIN_S):
                # The library would read the file by itself, which takes a tenth of a second for fifty clusters.
                loader = await official_config.load_kube_config_from_dict(
                    config_dict=ConfigNode(self._path, copy.deepcopy(document(self._path)), self._path),
                    context=self._context,
                    client_configuration=configuration,
                )
            await self._require_plugin(parts["user"].get("exec"), configuration)
            tls, tls_files = await self._tls(configuration)
        except TimeoutError as error:
            raise self._wrong(f"its plug-in did not end within {PLUGIN_WITHIN_S:g} s") from error
        # What is wrong with certificates, files that are named and plug-ins surfaces as any of these, depending on where.
        except (
            official_config.ConfigException,
            OSError,
            TypeError,
            ValueError,
            LookupError,
            AttributeError,
        ) as error:
            raise self._wrong(str(error)) from error
        try:
            proxy = _proxy(str(configuration.proxy or ""))
        except ValueError as error:
            raise self._wrong(str(error)) from error
        authorization = str(configuration.api_key.get("BearerToken", "")).strip()  # a token file ends with a line break
        if not (authorization.isascii() and authorization.isprintable()):
            raise self._wrong("the token has a line break or another character in it that no token has")
        if not _SERVER_NAME.fullmatch(configuration.tls_server_name or ""):
            raise self._wrong(f"tls-server-name is {str(configuration.tls_server_name)[:60]!r}, expected a name or an address")
        expiry = getattr(loader, "exec_plugin_expiry", None)
        base = configuration.host.rstrip("/")
        self._require_server(base, has_token=bool(authorization))
        origin, host, prefix = _place(base, tls, configuration.tls_server_name or "", proxy)
        expires_at_s = expiry.timestamp() if expiry is not None else float("inf")
        self._files, self._stamps = files, stamped
        self._last = Access(base, origin, host, prefix, authorization, expires_at_s, tls_files, str(configuration.proxy or ""))
        return self._last

    def has_changed(self) -> bool:
        """Whether a file has been written since the last `load`, or a token ends soon."""
        if self._last is None or time.time() > self._last.expires_at_s - EXPIRES_SOON_S:
            return True
        return os.path.exists(self._path) and stamps(self._files) != self._stamps  # away while it is replaced: what was read stands

    async def _tls(self, configuration: official.Configuration) -> tuple[ssl.SSLContext | None, tuple[object, ...]]:
        """The TLS context, and what it was made of; the one before where that is the same. None for a server without TLS: to make one reads
        all certificates that the system trusts."""
        named = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
        tls_files = (*named, configuration.verify_ssl, *stamps([str(name) for name in named if name]))
        if not configuration.host.startswith("https"):
            return None, tls_files
        if self._last is not None and self._last.origin.tls is not None and self._last.tls_files == tls_files:
            return self._last.origin.tls, tls_files
        api = official.ApiClient(configuration)
        tls: ssl.SSLContext = api.rest_client.ssl_context
        await api.close()
        return tls, tls_files

    def _named_files(self, parts: Mapping[str, Mapping[str, Any]]) -> list[str]:
        folder = os.path.dirname(os.path.abspath(self._path))
        named = [parts[part].get(key) for part, key in _FILES]
        return [self._path, *(os.path.join(folder, str(name)) for name in named if name)]

    def _require_small(self, files: list[str]) -> None:
        """The library reads what a kubeconfig names to its end, which a device has not. Raises: FileRefused."""
        for name in files:
            with contextlib.suppress(OSError):  # one that is not there is told by the library
                at = os.stat(name)
                if not stat.S_ISREG(at.st_mode) or at.st_size > MOST_NAMED_BYTES:
                    raise self._wrong(
                        f"{name} is no file of at most {MOST_NAMED_BYTES >> 20} MiB, expected a token, a key or certificates"
                    )

    async def _require_plugin(self, plugin: Mapping[str, Any] | None, configuration: official.Configuration) -> None:
        """The library only logs a plug-in that fails, and calls as nobody then. Raises: FileRefused with what the plug-in says."""
        if plugin is None or configuration.api_key.get("BearerToken") or configuration.cert_file:
            return
        try:
            await ExecProvider(ConfigNode("exec", plugin, self._path)).run()
        except Exception as error:
            raise self._wrong(f"its plug-in {plugin.get('command')!r} failed: {error}") from error
        raise self._wrong(f"its plug-in {plugin.get('command')!r} gave neither a token nor a certificate")

    def _require_server(self, base: str, *, has_token: bool) -> None:
        """Raises: FileRefused for a server of which nobody could say where it is, so that a token would go to somebody else, and for one to
        which a token would go in the clear."""
        try:
            url = urlsplit(base)
            is_good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and not (url.query or url.fragment)
            is_good = is_good and base.isascii() and " " not in base
        except ValueError:  # a port that is no number
            is_good = False
        if "@" in base:  # which is not sent, and would be shown
            raise self._wrong("its server has a user or password in it, expected https://HOST:PORT; they belong to its user")
        if not is_good:
            raise self._wrong(f"its server is {base[:200]!r}, expected https://HOST:PORT")
        if has_token and url.scheme == "http" and not _is_loopback(url.hostname or ""):
            raise self._wrong(f"its token would go to {base[:200]!r} in the clear; expected https://HOST:PORT")

    def _wrong(self, why: str) -> FileRefused:
        return FileRefused(f"{self._what}: {why}")


def current_context(path: str) -> str:
    """The context that a kubeconfig names as its current one.

    Raises: ConfigError if it names none, or cannot be read; FileRefused for what is wrong in it.
    """
    try:
        found = document(path)
    except (OSError, Misnamed) as error:
        raise ConfigError(f"kubeconfig {path}: {error}") from error
    except ValueError as error:
        raise FileRefused(f"kubeconfig {path}: {error}") from error
    named = found.get("current-context") if isinstance(found, dict) else None
    if not isinstance(named, str) or not named:
        raise ConfigError(f"kubeconfig {path} has no current-context; name a context with --context")
    return named


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _proxy(url: str) -> Proxy | None:
    """Of a `proxy-url`; None for none. Raises: ValueError for a kind of proxy that is not spoken."""
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        shown = f"{parts.scheme}://{parts.hostname}" if parts.hostname else url.rpartition("@")[2]
        raise ValueError(f"proxy-url is {shown}, expected http://HOST:PORT: other proxies are not spoken to")
    authorization = ""
    if parts.username is not None:
        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(words.encode()).decode()
    return Proxy(parts.hostname, parts.port or 80, authorization)


def _place(base: str, tls: ssl.SSLContext | None, server_name: str, proxy: Proxy | None) -> tuple[Origin, str, str]:
    """(origin, value of the Host header, path prefix of every call) of a server's URL."""
    url = urlsplit(base)
    secure = url.scheme == "https"
    assert url.hostname, "checked when it was read"
    port = url.port or (443 if secure else 80)
    return Origin(url.hostname, port, tls if secure else None, server_name, proxy), url.netloc.rpartition("@")[2], url.path
