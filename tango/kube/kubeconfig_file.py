"""A kubeconfig as it is read: bounded, and each value of the type that it has to have.

The library that connects by it checks nothing: text where a mapping belongs ends in an AttributeError, `insecure-skip-tls-verify: "false"`
switches verification off, and what it does not know it leaves out, such as whom to impersonate. So the parts of a context are checked here
before it sees them. Values are never shown: most are secrets.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
from collections.abc import Mapping
from typing import Any

import yaml

MOST_BYTES = 8 << 20
"""Size of the longest kubeconfig; a thousand clusters with their certificates have 6 MiB."""
MOST_DEPTH = 32
"""Nesting of a kubeconfig, whose own is 8. libyaml's parser overruns the stack of the process at some 50,000."""
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser where it is there, ten times as fast."""
_OPENS = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSES = (yaml.MappingEndEvent, yaml.SequenceEndEvent)

_KEYS: Mapping[str, Mapping[str, type]] = {
    "cluster": {
        "server": str,
        "certificate-authority": str,
        "certificate-authority-data": str,
        "insecure-skip-tls-verify": bool,
        "tls-server-name": str,
        "proxy-url": str,
    },
    "user": {
        "token": str,
        "tokenFile": str,
        "client-certificate": str,
        "client-certificate-data": str,
        "client-key": str,
        "client-key-data": str,
        "username": str,
        "password": str,
        "exec": dict,
        "auth-provider": dict,
    },
    "exec": {"apiVersion": str, "command": str, "args": list, "env": list, "interactiveMode": str, "provideClusterInfo": bool},
}
"""What is read of each part, and its type; null means that it is not given."""
_NOT_DONE = ("as", "as-uid", "as-groups", "as-user-extra")
"""Whom to impersonate: a call that leaves it out is made with other rights than were meant."""
_PROVIDERS = ("oidc", "gcp")
"""What the library asks for tokens."""
_WORDS = {str: "text", bool: "true or false", dict: "a mapping", list: "a list"}
_FOUND = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
    bytes: "binary data",
}

_documents: dict[str, tuple[tuple[object, ...], Any]] = {}
"""Kubeconfigs by path as they were read last, with their stamps: the clusters of a process mostly share one."""


class Misnamed(ValueError):
    """A path or the name of a context that leads to nothing, in place of something that is wrong in a file."""


def document(path: str) -> Any:
    """The content of a kubeconfig, to be read only. Raises: OSError, ValueError with what is wrong, of which Misnamed is one."""
    stamp = stamps([path])
    known = _documents.get(path)
    if known is None or known[0] != stamp:
        known = _documents[path] = stamp, _read(path)
    return known[1]


def stamps(files: list[str]) -> tuple[object, ...]:
    """What changes when a file is written or, as a mounted secret, pointed elsewhere."""
    found = []
    for name in files:
        try:
            at = os.stat(name)
            found.append((name, at.st_ino, at.st_mtime_ns, at.st_size))
        except (OSError, ValueError):  # a path with a null character is none
            found.append((name, 0, 0, 0))
    return tuple(found)


def parts_of(found: Any, context: str) -> dict[str, Mapping[str, Any]]:
    """The `cluster` and the `user` of a context.

    Raises: ValueError with what is missing, or of a wrong type; Misnamed where there is no such context.
    """
    named = _named(found, "contexts", context, "context")
    parts = {}
    for part, keys in (("cluster", _KEYS["cluster"]), ("user", _KEYS["user"])):
        name = named.get(part)
        if not isinstance(name, str) or not name:
            raise ValueError(f"it names no {part}")
        parts[part] = _checked(_named(found, f"{part}s", name, part), keys, f"{part} {name[:60]!r}")
    provider = parts["user"].get("auth-provider")
    if provider is not None and provider.get("name") not in _PROVIDERS:
        raise ValueError("its auth-provider is none of oidc and gcp, which is all that is spoken; use an exec plug-in")
    plugin = parts["user"].get("exec")
    if plugin is not None:
        _checked(plugin, _KEYS["exec"], "its exec plug-in")
        _check_plugin(plugin)
    return parts


def token_ends_at_s(user: Mapping[str, Any]) -> float:
    """Unix time at which a token ends that stands in the kubeconfig itself, where nobody renews it; infinite: unknown, or none.

    Tokens of service accounts say it: they are JSON Web Tokens (RFC 7519, section 4.1.4).
    """
    token = user.get("token")
    payload = token.split(".")[1] if isinstance(token, str) and token.count(".") == 2 and not user.get("tokenFile") else ""
    try:
        ends = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))).get("exp")
    except (ValueError, binascii.Error, AttributeError, RecursionError):
        return math.inf
    is_time = isinstance(ends, int | float) and not isinstance(ends, bool) and 0 <= ends < 1e15
    return float(ends) if is_time else math.inf


def _read(path: str) -> Any:
    if os.pathsep in path and not os.path.exists(path):
        raise Misnamed(
            f"it names several files, expected one: `KUBECONFIG={path} kubectl config view --flatten --minify --context CONTEXT` prints it"
        )
    with open(path, "rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it is longer than {MOST_BYTES >> 20} MiB, which no kubeconfig is")
    depth = 0
    try:
        for event in yaml.parse(content, Loader=_LOADER):
            depth += isinstance(event, _OPENS) - isinstance(event, _CLOSES)
            if depth > MOST_DEPTH:
                at = f" at line {event.start_mark.line + 1}" if event.start_mark is not None else ""
                raise ValueError(f"it is nested deeper than {MOST_DEPTH}{at}")
        return _loaded(content)
    except yaml.YAMLError as error:
        raise ValueError(f"it is no YAML: {' '.join(str(error).split())}") from error


def _loaded(content: bytes) -> Any:
    """Raises: yaml.YAMLError, and ValueError for a tag such as `!!float` or `!!timestamp` at what is none."""
    try:
        return yaml.load(content, Loader=_LOADER)
    except (LookupError, AttributeError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError("it has a value that is not of the type that its tag says") from error


def _named(found: Any, entries: str, name: str, part: str) -> Mapping[str, Any]:
    """What an entry of one of the three lists has under `part`; of equal names the first one counts, as for kubectl.

    Raises: Misnamed where no context has this name, ValueError for anything else.
    """
    listed = found.get(entries) if isinstance(found, dict) else None
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise ValueError(f"it has no list {entries} of mappings")
    one = next((entry for entry in listed if entry.get("name") == name), None)
    if one is None:
        names = ", ".join(repr(entry.get("name"))[:40] for entry in listed[:5])
        kind = Misnamed if part == "context" else ValueError
        raise kind(f"it has no {part} {name[:60]!r}; {entries} are: {names or 'none'}{', …' if len(listed) > 5 else ''}")
    value = one.get(part)
    if value is None and part == "user":  # nobody: for a server that asks for no one
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{part} {name[:60]!r} is {_FOUND.get(type(value), 'nothing')}, expected a mapping")
    return value


def _checked(part: Mapping[str, Any], keys: Mapping[str, type], what: str) -> Mapping[str, Any]:
    for key in _NOT_DONE:
        if part.get(key):
            raise ValueError(f"{what} says {key!r}, which Tango does not do: give it a user of its own")
    for key, wanted in keys.items():
        value = part.get(key)
        if value is None:
            continue
        if not isinstance(value, wanted):
            quotes = " (put it in quotes)" if wanted is str and isinstance(value, bool | int | float) else ""
            raise ValueError(f"{what}: {key} is {_FOUND.get(type(value), 'a date')}, expected {_WORDS[wanted]}{quotes}")
        # A token and base64 may end in a line break, as in files and block scalars.
        if isinstance(value, str) and not key.endswith("-data") and not value.strip().isprintable():
            raise ValueError(f"{what}: {key} has a line break or a control character in it; write it on one line")
    return part


def _check_plugin(plugin: Mapping[str, Any]) -> None:
    if not plugin.get("command"):
        raise ValueError("its exec plug-in names no command")
    if not all(isinstance(word, str) for word in plugin.get("args") or ()):
        raise ValueError("its exec plug-in: args are texts, expected each in quotes")
    for one in plugin.get("env") or ():
        if not isinstance(one, dict) or not isinstance(one.get("name"), str) or not isinstance(one.get("value"), str):
            raise ValueError("its exec plug-in: env is a list of mappings with the texts name and value")
