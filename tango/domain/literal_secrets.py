"""Secrets that stand in plain sight: names of environment variables whose literal value would be stored and shown as it is.

A declaration and a submitted job are kept in the database, shown by `tango service show`, and copied to every cluster's journal. So a
secret has to come by `secretKeyRef` or `envFrom`, which name it and do not have it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SECRET = _words(
    "password passwords passwd passphrase passcode pwd secret secrets token tokens credential credentials apikey jwt bearer"
)
_KEY_OF = _words("api access private secret signing encryption auth account storage master ssh license")
"""Words before `key` that make it one that opens something."""
_ABOUT = _words(
    "file path dir url uri name id header prefix ttl expiry expires expiration timeout lifetime max min num count limit size length "
    "per budget enabled required"
)
"""Words of names that say something about a secret and not the secret: `TOKEN_FILE`, `MAX_TOKENS`."""


def looks_secret(name: str) -> bool:
    """Whether a variable of this name is likely to hold a secret: `DB_PASSWORD`, `apiKey`, but not `TOKEN_FILE` or `MAX_TOKENS`."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if len(words) < 2 and words[:1] == ["pwd"]:
        return False  # the shell's working directory
    if _ABOUT & set(words):
        return False
    if _SECRET & set(words):
        return True
    return any(word == "key" and words[k] in _KEY_OF for k, word in enumerate(words[1:]))


def literal_secrets(env: Iterable[Mapping[str, Any]], allowed: Collection[str] = ()) -> list[int]:
    """Places in a list of environment variables, as Kubernetes has them, with a literal value under a name that looks like a secret's.

    `allowed`: names that whoever declares them has said to be none. An empty value is no secret.
    """
    return [
        k
        for k, variable in enumerate(env)
        if variable.get("value") and str(variable.get("name", "")) not in allowed and looks_secret(str(variable.get("name", "")))
    ]
