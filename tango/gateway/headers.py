"""Headers of callers: what they ask of Tango, which of theirs may be kept on their way to the instance, and which of its come back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from multidict import CIMultiDict, CIMultiDictProxy

from tango.domain.calls import HOP_BY_HOP, SET_ANEW, Headers
from tango.domain.literal_secrets import looks_secret
from tango.domain.near_names import near_name
from tango.gateway.problems import Problem, Trouble

AnyHeaders = CIMultiDict[str] | CIMultiDictProxy[str]
V = TypeVar("V")

TARGET, TIMEOUT, REPEAT, KEY, TOKEN = "Tango-Target-Ms", "Tango-Timeout-Ms", "Tango-Repeat", "Tango-Key", "Tango-Token"
OURS = (TARGET, TIMEOUT, REPEAT, KEY, TOKEN)
"""All that begin with `Tango-` and mean something in a request."""
_PREFIX, _KNOWN = "tango-", frozenset(name.lower() for name in OURS)
LONGEST_MS = 3_600_000.0
"""Milliseconds of the longest target or timeout: an hour, as long as answers are kept."""
LONGEST_KEY = 200
"""Characters of an idempotency key."""
_OWN_ANSWER = HOP_BY_HOP | {"tango-problem", "tango-request"}
_NUMBER = re.compile(r"\d{1,9}(\.\d{1,6})?", re.ASCII)
PRINTABLE = re.compile(r"[!-~]+", re.ASCII)
"""ASCII without spaces and controls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a caller asks by headers; None: he does not say."""

    target_s: float | None
    timeout_s: float | None
    may_repeat: bool | None
    """Whether another instance may get it after the first has begun with it."""
    key: str
    """Idempotency key; empty: none."""
    is_async: bool
    """Whether he does not wait for the answer."""


def wishes_of(headers: AnyHeaders) -> Wishes:
    """What the headers of a request ask for. Raises: Problem for a value without meaning, or a name near to one that has some."""
    for name in headers:
        lower = name.lower()
        if lower.startswith(_PREFIX) and lower not in _KNOWN:
            # Without the prefix that all have: it would make any two of them alike.
            near = near_name(lower.removeprefix(_PREFIX), [ours[len(_PREFIX) :] for ours in OURS], prefix="Tango-")
            raise Problem(Trouble.BAD_HEADER, f"header {name} is none of Tango's{near}", header=name)
    return Wishes(
        target_s=_seconds(headers, TARGET),
        timeout_s=_seconds(headers, TIMEOUT),
        may_repeat=_parsed(headers, REPEAT, {"yes": True, "no": False}.__getitem__, "yes or no"),
        key=_parsed(headers, KEY, _key, f"at most {LONGEST_KEY} printable ASCII characters without spaces") or "",
        is_async=any("respond-async" in _preferences(value) for value in headers.getall("Prefer", ())),
    )


class Sorting:
    """Which headers of callers may be kept beside their row: those that an allow-list names, as `accept, content-*`.

    An entry with `*` does not speak of names that look like a secret's, such as `X-Api-Key`: these have to be named themselves.
    """

    def __init__(self, allowed: str) -> None:
        names = [name.strip().lower() for name in allowed.split(",") if name.strip()]
        self._exact = frozenset(name for name in names if not name.endswith("*"))
        self._prefixes = tuple(name[:-1] for name in names if name.endswith("*"))

    def of(self, headers: AnyHeaders, *, preserve_host: bool = False) -> tuple[Headers, Headers]:
        """(those that may be kept, those that are held) of what goes on to the instance, in order.

        What speaks of one connection and what is meant for Tango does not go on; `Authorization` does where the token came in
        `Tango-Token`, and `Host` with `preserve_host`.
        """
        dropped = SET_ANEW - ({"host"} if preserve_host else set()) | _named_by_connection(headers)
        if TOKEN not in headers:
            dropped = dropped | {"authorization"}
        kept: list[tuple[str, str]] = []
        held: list[tuple[str, str]] = []
        for name, value in headers.items():
            lower = name.lower()
            if lower not in dropped and not lower.startswith(_PREFIX):
                (kept if self._may_be_kept(lower) else held).append((name, value))
        return tuple(kept), tuple(held)

    def _may_be_kept(self, lower: str) -> bool:
        if lower in self._exact or lower == "host":
            return True
        # `x-*` means what programs call their own headers, and not the keys that some of them carry there.
        return lower.startswith(self._prefixes) and not looks_secret(lower)


def forwarded(headers: AnyHeaders, *, scheme: str, peer: str | None) -> CIMultiDict[str]:
    """With what an instance cannot see behind a proxy, as proxies say it: `X-Forwarded-Host`, `-Proto` and `-For`. What one before this
    gateway has said stands; the last address of `-For` is that of who is connected here."""
    found = CIMultiDict(headers)
    if host := headers.get("Host"):
        found.setdefault("X-Forwarded-Host", host)
    found.setdefault("X-Forwarded-Proto", scheme)
    if peer:
        before = found.popall("X-Forwarded-For", [])
        found["X-Forwarded-For"] = ", ".join([*before, peer])
    return found


def given_back(headers: Iterable[tuple[str, str]]) -> CIMultiDict[str]:
    """Headers of an instance's answer as its caller gets them."""
    found = CIMultiDict(headers)
    dropped = _OWN_ANSWER | _named_by_connection(found)
    return CIMultiDict((name, value) for name, value in found.items() if name.lower() not in dropped)


def _named_by_connection(headers: AnyHeaders) -> frozenset[str]:
    return frozenset(name.strip().lower() for value in headers.getall("Connection", ()) for name in value.split(","))


def _preferences(value: str) -> set[str]:
    return {preference.split(";")[0].strip().lower() for preference in value.split(",")}


def _seconds(headers: AnyHeaders, name: str) -> float | None:
    expected = f"milliseconds as a decimal number, above 0 and at most {LONGEST_MS:.0f}"
    milliseconds = _parsed(headers, name, _milliseconds, expected)
    return None if milliseconds is None else milliseconds / 1e3


def _milliseconds(text: str) -> float:
    if not _NUMBER.fullmatch(text) or not 0.0 < float(text) <= LONGEST_MS:
        raise ValueError(text)
    return float(text)


def _key(text: str) -> str:
    if len(text) > LONGEST_KEY or not PRINTABLE.fullmatch(text):
        raise ValueError(text)
    return text


def _parsed(headers: AnyHeaders, name: str, parse: Callable[[str], V], expected: str) -> V | None:
    given = headers.getall(name, ())
    if not given:
        return None
    try:
        (text,) = given
        return parse(text.strip())
    except (ValueError, KeyError):
        found = ", ".join(repr(value[:80]) for value in given[:3])
        raise Problem(Trouble.BAD_HEADER, f"header {name}: found {found}, expected {expected}, once", header=name) from None
