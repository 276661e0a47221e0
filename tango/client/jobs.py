"""Jobs: best-effort work with a pod of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tango.client.answers import Streamed
from tango.client.errors import ClientError

if TYPE_CHECKING:
    from tango.client.client import Tango

ENDED = frozenset({"succeeded", "failed", "shed", "cancelled"})
"""States that do not change any more."""
LOOK_S, LONGEST_LOOK_S = 0.1, 2.0
"""Seconds between two looks at a job that is waited for: the first, and the longest, to which they grow by half each time."""


class Job:
    """A job as it was last looked at; for one thread at a time."""

    def __init__(self, tango: Tango, facts: Mapping[str, Any]) -> None:
        self._tango, self.facts = tango, dict(facts)

    def __repr__(self) -> str:
        return f"Job({self.id}, {self.state})"

    @property
    def id(self) -> str:
        """RUN/REQUEST, by which commands and paths name the job."""
        return str(self.facts["job"])

    @property
    def state(self) -> str:
        """Where it stands, as `docs/lifecycle.md` has it."""
        return str(self.facts.get("state", ""))

    @property
    def has_ended(self) -> bool:
        """Whether it will not change any more."""
        return self.state in ENDED

    @property
    def exit_code(self) -> int | None:
        """What its container exited with; None: it has not, or nobody knows."""
        found = self.facts.get("exit_code")
        return None if found is None else int(found)

    def refresh(self) -> Job:
        """Look at it again; gives itself. Raises: CallFailed, Unreachable."""
        self.facts = dict(self._tango.asked("GET", f"/jobs/{self.id}"))
        return self

    def wait(self, timeout_s: float | None = None) -> Job:
        """Wait until it has ended; gives itself. Raises: TimeoutError; CallFailed, Unreachable."""
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s = LOOK_S
        while not self.has_ended:
            if until_s is not None and time.monotonic() + pause_s > until_s:
                raise TimeoutError(f"job {self.id} is {self.state} after {timeout_s:g} s")
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, LONGEST_LOOK_S)
            self.refresh()
        return self

    def logs(self) -> str:
        """The end of what it has written. Raises: CallFailed, Unreachable, AnswerCut."""
        with Streamed(self._tango.exchanged("GET", f"/jobs/{self.id}/logs")) as answer:
            return b"".join(answer.parts()).decode(errors="replace")

    def cancel(self) -> Job:
        """End it, unless it has ended; gives itself. Raises: CallFailed, Unreachable."""
        self.facts = dict(self._tango.asked("DELETE", f"/jobs/{self.id}"))
        return self


def jobs_as_they_finish(submissions: Iterable[Callable[[], Job]], in_flight: int) -> Iterator[Job]:
    """Each job as it finishes, at most `in_flight` at once. Raises: ClientError for a bound that lets none run."""
    if in_flight < 1:
        raise ClientError(f"in_flight is {in_flight}, expected at least 1")
    waiting, running, pause_s = iter(submissions), list[Job](), LOOK_S
    is_all = False
    while running or not is_all:
        while not is_all and len(running) < in_flight:
            submit = next(waiting, None)
            if submit is None:
                is_all = True
            else:
                running.append(submit())
        ended = [job for job in running if job.has_ended or job.refresh().has_ended]
        running = [job for job in running if job not in ended]
        yield from ended
        pause_s = LOOK_S if ended else min(1.5 * pause_s, LONGEST_LOOK_S)
        if running and not ended:
            time.sleep(pause_s)
