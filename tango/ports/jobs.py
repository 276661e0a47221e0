"""The store of jobs: BE requests of callers, with what each has beside its request."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from tango.domain.identity import RequestKey
from tango.domain.jobs import ContainerLog, Job, JobEnd, NewJob, SubmittedJob


class JobStore(Protocol):
    """Jobs of the open live run and of those before it. Raises: StoreUnavailable, StoreError."""

    def submit(self, job: NewJob) -> SubmittedJob:
        """Give the job its rows, in one transaction, in the open live run; its request is `released` from then on.

        `job.key` is not empty. The same tenant and key again: nothing happens, and the job that came first is given.
        Raises: KeyTaken where that one has other content; NotOpen while no live run accepts anything; UsageError for a service or cluster
        that does not exist; RequestRejected for one that takes no jobs; NotAdmitted for one that is not open to its tenant; TooManyJobs
        where its tenant has as many live jobs as it may.
        """
        ...

    def check(self, job: NewJob) -> SubmittedJob | None:
        """What `submit` would give, without doing it: the job that came first under its key; None: it would be a new one.

        Raises: as `submit`, but for NotOpen, which only an attempt tells.
        """
        ...

    def job(self, key: RequestKey) -> Job:
        """Raises: UsageError if there is no such job."""
        ...

    def jobs(
        self, *, tenant: str | None = None, service: str | None = None, state: str | None = None, limit: int = 50
    ) -> list[Job]:
        """The latest, newest first; of one tenant, of one service, in one state, or all."""
        ...

    def withdraw(self, key: RequestKey) -> bool:
        """Its caller wants it no more: a live job is `cancelled`; gives whether it was live. Its pod goes when its agent sees that.

        Raises: UsageError if there is no such job.
        """
        ...

    def in_flight(self, attempts: Collection[tuple[int, int, int]]) -> set[tuple[int, int, int]]:
        """Of these (run, request, epoch) those whose request is in flight under that epoch: the pods of all others are not wanted."""
        ...

    def end(self, ends: Sequence[JobEnd]) -> int:
        """Keep logs, exit codes and messages of attempts, and end those that are in flight under their epoch; gives how many ended now.

        What happens to a request is decided on its locked row (`JobEnd.event`). A second call ends none. An attempt that ended
        otherwise meanwhile, as by its job's withdrawal, still has its log and its exit code kept.
        """
        ...

    def note_waiting(self, why: Mapping[tuple[int, int, int], str]) -> None:
        """Why the pods of these (run, request, epoch) have not started, in Kubernetes' words; empty: they have.

        Shown with the job while that attempt is placed; what is told of another epoch is dropped.
        """
        ...

    def log(self, key: RequestKey) -> list[tuple[int, ContainerLog]]:
        """What is kept of the job's logs, with their epochs: all containers of all attempts, in order of epochs."""
        ...

    def drop_logs(self, *, older_than_s: float, most_bytes: int) -> int:
        """Forget logs that are older, and the oldest beyond so many bytes in all; gives how many."""
        ...
