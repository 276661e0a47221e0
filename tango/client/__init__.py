"""The Python client of Tango's gateways. It imports nothing else of Tango, and is a distribution of its own too
(`pip install ./tango/client`).

    from tango.client import Tango

    with Tango("https://edge-1:8443", token=...) as tango:
        answer = tango.request("my-api", "/v1/detect", body=image, timeout_s=0.4)
        job = tango.submit("transcode", args=["--input", url])
        print(job.wait().exit_code, job.logs())

Everything waits in the thread that calls. One `Tango` may be used by any number of threads at once: they share its connections. A `Job`
is for one thread at a time. On the other side, `is_signed(headers)` tells a service which requests Tango has sent it.

What a name is made of is imported when the name is first asked for: who only checks signatures needs no client, and no urllib3.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tango.client.answers import Answer, Streamed
    from tango.client.client import Tango
    from tango.client.errors import AnswerCut, Busy, CallFailed, ClientError, Refused, TimedOut, Unreachable
    from tango.client.jobs import Job
    from tango.client.signatures import is_signed

__all__ = [
    "Answer",
    "AnswerCut",
    "Busy",
    "CallFailed",
    "ClientError",
    "Job",
    "Refused",
    "Streamed",
    "Tango",
    "TimedOut",
    "Unreachable",
    "is_signed",
]

_HOMES = {
    **dict.fromkeys(("Answer", "Streamed"), "answers"),
    **dict.fromkeys(("AnswerCut", "Busy", "CallFailed", "ClientError", "Refused", "TimedOut", "Unreachable"), "errors"),
    "Job": "jobs",
    "Tango": "client",
    "is_signed": "signatures",
}
"""The module of each name."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
