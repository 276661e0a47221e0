"""Parsing of request bodies: objects, patches and delete options. All raise Refused 400 for bad content and 415 for its type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from tango.emulation.api_server.failures import Refused, bad_request
from tango.emulation.api_server.forms import OPTIONS, require_form, whole_number
from tango.emulation.api_server.patches import json_patch, merge_patch, strategic_merge
from tango.emulation.api_server.resources import Resource

Json = dict[str, Any]
PATCHES = {
    "application/merge-patch+json": merge_patch,
    "application/strategic-merge-patch+json": strategic_merge,
    "application/json-patch+json": json_patch,
}


def object_of(raw: bytes, kind: str, resource: Resource | None) -> Json:
    """The object in a JSON body of content type `kind`.

    With `resource` the body must not name another kind or apiVersion; both keys are removed, since `storage` keeps objects without.
    """
    if kind != "application/json":
        raise Refused(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json, "
            "application/yaml, application/vnd.kubernetes.protobuf",
        )
    try:
        body: Json = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error
    require_form(body)
    if resource is not None:
        if (body.get("kind") or resource.kind) != resource.kind or (
            body.get("apiVersion") or resource.api_version
        ) != resource.api_version:
            raise bad_request(
                f'{body.get("kind")} in version "{resource.version}" cannot be handled as a {resource.kind}: the object provided is '
                f"unrecognized (must be of type {resource.kind}): got {body.get('apiVersion')}, Kind={body.get('kind')}"
            )
        if body.get("metadata") is None:
            body["metadata"] = {}
        body.pop("kind", None)
        body.pop("apiVersion", None)
    return body


def change_of(raw: bytes, kind: str) -> Callable[[Json], Json]:
    """The patch in a body of content type `kind`, as a function from the old object to the patched one."""
    apply = PATCHES.get(kind)
    if apply is None:
        raise Refused(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: " + ", ".join(PATCHES),
        )
    try:
        patch = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"error decoding patch: {error}") from error
    if not isinstance(patch, list if apply is json_patch else dict):
        raise bad_request("cannot unmarshal the patch: it has another form than its media type says")

    def change(old: Json) -> Json:
        new: Json = apply(old, patch)
        # What a patch does not name is as it was, and had its form.
        require_form(new if isinstance(patch, list) else {key: new[key] for key in patch if key in new})
        # A resourceVersion in the patch is a precondition of the caller's. The one that `apply` copied from `old` is none, so it goes.
        asked = (patch.get("metadata") or {}).get("resourceVersion") if isinstance(patch, dict) else None
        if not asked and "metadata" in new:
            new = {**new, "metadata": {k: v for k, v in new["metadata"].items() if k != "resourceVersion"}}
        return new

    return change


def delete_options(raw: bytes, query: Mapping[str, str]) -> Json:
    """The DeleteOptions of a body; a `gracePeriodSeconds` of the query replaces the body's."""
    options: Json = {}
    if raw.strip():
        try:
            options = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error
        require_form(options, OPTIONS)
    if (grace := whole_number(query, "gracePeriodSeconds", -1)) >= 0:
        options["gracePeriodSeconds"] = grace
    return options
