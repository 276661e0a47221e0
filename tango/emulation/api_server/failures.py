"""Failure responses in the form and the words of kube-apiserver: an HTTP status with a `Status` object as body."""

from __future__ import annotations

from typing import Any

import orjson

Json = dict[str, Any]


class Refused(Exception):
    """A failed call; becomes the response. `code` is the HTTP status, `body` the `Status` object."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Json | None = None,
        headers: dict[str, str] | None = None,
        is_plain: bool = False,
    ) -> None:
        """`is_plain`: the body is the message as plain text, as of what stands before the API itself."""
        super().__init__(message)
        self.code = code
        self.is_plain = is_plain
        self.headers = headers or {}
        self.body: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
        if reason:
            self.body["reason"] = reason
        if details:
            self.body["details"] = details
        self.body["code"] = code

    def payload(self) -> bytes:
        """The body: the `Status` object as JSON, or plain text."""
        return str(self.body["message"]).encode() if self.is_plain else orjson.dumps(self.body)


def success(*, code: int = 200, details: Json | None = None) -> bytes:
    """A `Status` object of success as JSON."""
    body: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details:
        body["details"] = details
    if code != 200:
        body["code"] = code
    return orjson.dumps(body)


def not_found(resource: str, name: str, group: str = "") -> Refused:
    """404 NotFound for an object."""
    kind = f"{resource}.{group}" if group else resource
    details = {"name": name, "kind": resource} | ({"group": group} if group else {})
    return Refused(404, "NotFound", f'{kind} "{name}" not found', details=details)


def already_exists(resource: str, name: str, group: str = "") -> Refused:
    """409 AlreadyExists, for a create."""
    kind = f"{resource}.{group}" if group else resource
    details = {"name": name, "kind": resource} | ({"group": group} if group else {})
    return Refused(409, "AlreadyExists", f'{kind} "{name}" already exists', details=details)


def conflict(resource: str, name: str, message: str, group: str = "") -> Refused:
    """409 Conflict, for an update, a binding or a delete with a precondition."""
    kind = f"{resource}.{group}" if group else resource
    return Refused(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {kind} "{name}": {message}',
        details={"name": name, "kind": resource} | ({"group": group} if group else {}),
    )


def stale(resource: str, name: str, group: str = "") -> Refused:
    """409 Conflict for an update with a resource version that is not the current one (optimistic concurrency)."""
    return conflict(
        resource, name, "the object has been modified; please apply your changes to the latest version and try again", group
    )


def bad_request(message: str) -> Refused:
    """400 BadRequest."""
    return Refused(400, "BadRequest", message)


def expired(requested: str, oldest: int) -> Refused:
    """410 Expired for a watch from a resource version older than `oldest`, the oldest in the history."""
    return Refused(410, "Expired", f"too old resource version: {requested} ({oldest})")


def page_expired(token: str) -> Refused:
    """410 Expired for a list page of a version that is out of the history; `token` continues with what there is now."""
    refused = Refused(
        410,
        "Expired",
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue "
        "parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided "
        "token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was "
        "returned and now may show up in the list.",
    )
    refused.body["metadata"] = {"continue": token}
    return refused


def too_new(version: int) -> Refused:
    """504 Timeout for what shall be as new as `version`, which the server cannot be sure to be in time."""
    return Refused(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {version}, current: {version - 1}",
        details={
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
    )


class Causes:
    """Collects the validation errors of one object, in kube-apiserver's words; `raise_if_any` raises them as one 422."""

    def __init__(self, kind: str, name: str, group: str = "") -> None:
        self._kind, self._name, self._group = kind, name, group
        self.causes: list[Json] = []

    def add(self, reason: str, message: str, field: str) -> None:
        """Add a cause; `message` is the text that follows the field's path."""
        self.causes.append({"reason": reason, "message": message, "field": field})

    def invalid(self, field: str, value: str, message: str) -> None:
        """Add an invalid value."""
        self.add("FieldValueInvalid", f'Invalid value: "{value}": {message}', field)

    def forbidden(self, field: str, message: str) -> None:
        """Add a forbidden change."""
        self.add("FieldValueForbidden", f"Forbidden: {message}", field)

    def required(self, field: str, message: str = "") -> None:
        """Add a missing value."""
        self.add("FieldValueRequired", "Required value" + (f": {message}" if message else ""), field)

    def raise_if_any(self) -> None:
        """Raises: Refused 422 with all causes; returns if there are none."""
        if not self.causes:
            return
        texts = [f"{c['field']}: {c['message']}" for c in self.causes]
        listed = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
        details = {"name": self._name, "kind": self._kind, "causes": self.causes} | ({"group": self._group} if self._group else {})
        shown = f"{self._kind}.{self._group}" if self._group else self._kind
        raise Refused(422, "Invalid", f'{shown} "{self._name}" is invalid: {listed}', details=details)
