"""Answers of services, whole or as they come."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from urllib3 import BaseHTTPResponse, HTTPHeaderDict
from urllib3.exceptions import HTTPError

from tango.client.errors import AnswerCut

PART_BYTES = 64 << 10
"""Bytes of a part of a streamed answer at the most."""


@dataclass(frozen=True)
class Answer:
    """What a service answered, whatever its status."""

    status: int
    headers: HTTPHeaderDict
    """By name in any case."""
    body: bytes
    request: str
    """Id of the request."""

    @property
    def is_ok(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON. Raises: ValueError."""
        return json.loads(self.body)


class Streamed:
    """An answer whose body comes as it is read. To be used in a `with` block, and by one thread."""

    def __init__(self, response: BaseHTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = response.headers
        self.request = response.headers.get("Tango-Request", "")

    def __enter__(self) -> Streamed:
        return self

    def __exit__(self, *_: object) -> None:
        # What was not read is not wanted: to close cancels the request, and the connection cannot be used again.
        self._response.close()
        self._response.release_conn()

    def parts(self) -> Iterator[bytes]:
        """The body, part by part, as they come. Raises: AnswerCut."""
        try:
            while part := self._response.read1(PART_BYTES):
                yield part
        except (HTTPError, OSError) as error:
            raise AnswerCut(f"the answer of request {self.request} broke off in the middle: {error}") from error
