"""ConfigMaps and Secrets: their form, what a write of `stringData` means, and those that are immutable.

Source: kubernetes, pkg/apis/core/validation, ValidateConfigMap, ValidateSecret and their updates; Kubernetes documentation, "Secrets".
"""

from __future__ import annotations

import base64
import re
from typing import Any

from tango.emulation.api_server.failures import Causes
from tango.emulation.references import is_base64

Json = dict[str, Any]
MOST_BYTES = 1 << 20
"""Of the values of one object together."""
_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_KEY_WORDS = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', "
    "regex used for validation is '[-._a-zA-Z0-9]+')"
)
KINDS = ("ConfigMap", "Secret")


def fill_in(kind: str, item: Json) -> None:
    """Give a Secret its type, and take over `stringData`, in place; the caller must own the item."""
    if kind != "Secret":
        return
    written = item.pop("stringData", None) or {}
    if written:
        item["data"] = {**(item.get("data") or {}), **{k: base64.b64encode(v.encode()).decode() for k, v in written.items()}}
    item.setdefault("type", "Opaque")


def check(causes: Causes, kind: str, item: Json) -> None:
    """Add a cause for each key and value that is not valid."""
    total = 0
    for part in ("data", "binaryData") if kind == "ConfigMap" else ("data",):
        for key, value in (item.get(part) or {}).items():
            if not _KEY.fullmatch(key) or len(key) > 253:
                causes.invalid(f"{part}[{key}]", key, _KEY_WORDS)
            elif (kind == "Secret" or part == "binaryData") and not is_base64(value):
                causes.invalid(f"{part}[{key}]", "<omitted>", "expected base64")
            total += len(value)
    if total > MOST_BYTES * (4 / 3 if kind == "Secret" else 1):
        causes.add("FieldValueTooLong", f"Too long: may not be more than {MOST_BYTES} bytes", "data" if kind == "Secret" else "")


def check_update(causes: Causes, kind: str, old: Json, new: Json) -> None:
    """Add a cause where an update changes what may not change."""
    if kind == "Secret" and new.get("type") != old.get("type"):
        causes.invalid("type", str(new.get("type")), "field is immutable")
    if old.get("immutable"):
        for part in ("immutable", "data", "binaryData"):
            if new.get(part) != old.get(part):
                causes.forbidden(part, "field is immutable when `immutable` is set")
