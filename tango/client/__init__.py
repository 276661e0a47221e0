"""The Python client of Tango's gateways. It imports nothing else of Tango, and is a distribution of its own too
(`pip install ./tango/client`).

    from tango.client import Tango

    with Tango("https://edge-1:8443", token=...) as tango:
        answer = tango.request("my-api", "/v1/detect", body=image, timeout_s=0.4)
        job = tango.submit("transcode", args=["--input", url])
        print(job.wait().exit_code, job.logs())

Everything waits in the thread that calls. One `Tango` may be used by any number of threads at once: they share its connections. A `Job`
is for one thread at a time.
"""

from tango.client.answers import Answer, Streamed
from tango.client.client import Tango
from tango.client.errors import AnswerCut, Busy, CallFailed, ClientError, Refused, TimedOut, Unreachable
from tango.client.jobs import Job

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
]
