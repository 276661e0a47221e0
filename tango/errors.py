"""One tree of errors, branched by who has to act. Exit statuses of the command line stand in parentheses.

    TangoError                    everything Tango raises on purpose
    ├── UsageError                the caller asked for something that does not exist (exit 2)
    ├── ConfigError               the settings, or what was asked to start, are wrong: do not start (exit 2)
    │   └── FileRefused           what stands in a file is refused: a fleet, services, a kubeconfig, a policy, a backup (exit 3)
    ├── CheckpointError           a learned network's file is missing, damaged or of another version: the fallback decides (exit 3)
    ├── ImpossiblePlan            a policy's plan cannot be carried out; nothing of it was applied (exit 1)
    ├── PolicyFailed              a policy raised, returned no plan, or cannot be loaded (exit 1)
    ├── Deadlock                  requests wait in a simulation in which nothing can ever run (exit 1)
    ├── FileUnusable              this machine does not read or write a file: no folder, no permission (exit 2), no space (exit 1)
    ├── RequestRejected           input refused at the door: never retry (exit 3)
    │   ├── BadRows               rows of a file, each with where, found and expected
    │   ├── KeyTaken              an idempotency key that another request or job has
    │   ├── TooManyJobs           a tenant has as many live jobs as it may; one that ends makes room for it
    │   └── NotAdmitted           a tenant asks for a service that is another's and not open to it
    ├── DependencyError           something outside does not answer, or refuses the login (exit 4)
    │   ├── StoreUnavailable      PostgreSQL
    │   ├── BrokerUnavailable     Redis or Valkey
    │   ├── NotOpen               no live run accepts requests of callers just now
    │   └── ClusterUnavailable    a Kubernetes API server
    ├── ClusterError              a Kubernetes API server answered no: retry or re-plan, as the kind says
    │   ├── NotFound  Conflict  Gone  Invalid  Forbidden  BudgetExhausted  Throttled
    │   └── InstanceFailed        an LC instance did not serve a call; `reason` says how
    │       └── CallFailed        the same of a caller's call, with how far it had come
    ├── StoreError                PostgreSQL answered no (a broken query, a constraint)
    │   └── StoreBusy             others hold what a transaction needs, for longer than it may wait
    ├── NotInTime                 what was waited for goes on, and the wait is over (exit 124, as of `timeout`)
    └── Fenced                    a lease or an epoch has a newer holder: drop the result

Outer layers translate foreign errors into these with `raise ... from`, so that no use case catches a library's exception. Messages say
what was found, what was expected and what to do; the data in a message is also available as attributes.
"""

from __future__ import annotations

from dataclasses import dataclass


class TangoError(Exception):
    """Anything Tango raises on purpose; `exit_status` is what the command line exits with."""

    exit_status = 1


class UsageError(TangoError):
    """The caller named something that does not exist; the message lists what does."""

    exit_status = 2


class ConfigError(TangoError):
    """Settings, or what was asked to start, are wrong: nothing is started with them."""

    exit_status = 2


class FileRefused(ConfigError):
    """A file that is there and can be read has something in it that is refused, as rows of a trace are: nothing is started with it.

    A path, or a name of what is in it, that leads nowhere is a `ConfigError` or `UsageError`.
    """

    exit_status = 3


class CheckpointError(TangoError):
    """The file of a learned network cannot be used; the scheduler continues with its fallback policy and records this message."""

    exit_status = 3


class ImpossiblePlan(TangoError):
    """A policy's plan names a node that does not exist, or gives out more than there is. Nothing of the plan has been applied.

    Attributes: `policy`; `cycle`, what was decided and when; `rows`, a text for each offending row, perhaps not all; `total`, their number.
    """

    def __init__(self, *, policy: str, cycle: str, rows: list[str], total: int | None = None) -> None:
        self.policy, self.cycle, self.rows = policy, cycle, rows
        self.total = total if total is not None else len(rows)
        more = f"\n  ... and {self.total - 5} more" if self.total > 5 else ""
        shown = "".join(f"\n  {row}" for row in rows[:5])
        super().__init__(f"policy {policy!r} returned an impossible plan in {cycle}; nothing of it was applied:{shown}{more}")


class PolicyFailed(TangoError):
    """A policy raised an exception, which is this error's `__cause__`, returned something that is not a plan, or cannot be loaded."""


class Deadlock(TangoError):
    """Requests wait in a simulation and nothing can ever run. `at_s` is the simulated time; `waiting` has a text for each kind."""

    def __init__(self, *, at_s: float, waiting: list[str]) -> None:
        self.at_s, self.waiting = at_s, waiting
        super().__init__(f"deadlock at {at_s:g} s: nothing runs and nothing can; waiting:" + "".join(f"\n  {w}" for w in waiting))


class FileUnusable(TangoError):
    """The system refused to read or write a file or folder; the message says why and what to do.

    Attributes: `path`; `is_full`, whether only space is missing, where any other reason is one of the place that was named.
    """

    def __init__(self, message: str, *, path: str, is_full: bool = False) -> None:
        self.path, self.is_full = path, is_full
        self.exit_status = 1 if is_full else 2
        super().__init__(message)


class RequestRejected(TangoError):
    """Input was refused when it was read. The same input will be refused again, so it is never retried."""

    exit_status = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """One refused row of a file: its place, what was found there and what was expected instead."""

    file: str
    line: int
    """1-based line in the decompressed file; 0 if the file as a whole is meant."""
    column: str
    """Column name; empty if the row as a whole is meant."""
    found: str
    expected: str

    def __str__(self) -> str:
        where = self.file + (f":{self.line}" if self.line else "")
        column = f" column {self.column}" if self.column else ""
        return f"{where}:{column} found {self.found}, expected {self.expected}"


class BadRows(RequestRejected):
    """Rows of a file were refused. The message has the first five; `rows` has those that were kept, `total` is the number of all."""

    def __init__(self, rows: list[BadRow], *, total: int | None = None, remedy: str = "") -> None:
        self.rows = rows
        self.total = total if total is not None else len(rows)
        lines = [str(row) for row in rows[:5]]
        if self.total > len(lines):
            lines.append(f"and {self.total - len(lines)} more bad rows")
        if remedy:
            lines.append(remedy)
        super().__init__("\n".join(lines))


class KeyTaken(RequestRejected):
    """A request or job was sent under the idempotency key of another one, with other content. `first` is the id of that one."""

    def __init__(self, message: str, *, first: str) -> None:
        self.first = first
        super().__init__(message)


class TooManyJobs(RequestRejected):
    """A tenant has as many live jobs as it may have at a time: the same job can be submitted again when one has ended."""


class NotAdmitted(RequestRejected):
    """A tenant asks for a service that is another's and not open to it."""


class DependencyError(TangoError):
    """A server that Tango depends on does not answer; the message says what was tried and how to start it."""

    exit_status = 4


class StoreUnavailable(DependencyError):
    """PostgreSQL cannot be reached, or `is_refused`: it answers and refuses the login, which no second try changes."""

    def __init__(self, message: str, *, is_refused: bool = False) -> None:
        self.is_refused = is_refused
        super().__init__(message)


class BrokerUnavailable(DependencyError):
    """The Redis or Valkey broker cannot be reached."""


class NotOpen(DependencyError):
    """No live run accepts requests just now: none has been opened, or the centre is away and the last one was closed."""


class ClusterUnavailable(DependencyError):
    """A Kubernetes API server cannot be reached, or answered 5xx until the retries ran out."""

    def __init__(self, message: str, *, cluster: str = "") -> None:
        self.cluster = cluster
        super().__init__(message)


class ClusterError(TangoError):
    """A Kubernetes API server refused a call; `status` is the HTTP status, `reason` the reason of its `Status` object.

    Attributes besides: `refusal`, a value of `tango.domain.refusal_kind.RefusalKind` where the answer is about the cluster, or about the
    service there, and not about this one call (empty: it is about the call); `words`, the server's own message; `retry_after_s`, the
    seconds that it asked to wait; `namespace`, that of the call where it is not Tango's own: what may not be done there is no matter of the
    cluster.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        cluster: str = "",
        refusal: str = "",
        words: str = "",
        retry_after_s: float = 0.0,
        namespace: str = "",
    ) -> None:
        self.status = status
        self.reason = reason
        self.cluster = cluster
        self.refusal = refusal
        self.words = words
        self.retry_after_s = retry_after_s
        self.namespace = namespace
        super().__init__(message)


class NotFound(ClusterError):
    """404: the object does not exist, or no longer."""


class Conflict(ClusterError):
    """409: the object exists already, has been changed since it was read, or is bound already."""


class Gone(ClusterError):
    """410: the resource version is too old to watch or to list from; list again from the beginning."""


class Invalid(ClusterError):
    """400 or 422: the object is invalid; the same call will be refused again."""


class Forbidden(ClusterError):
    """401 or 403: the credentials are wrong, the role may not do this, or a resize exceeds what the node can ever hold."""


class BudgetExhausted(ClusterError):
    """429 with the cause `DisruptionBudget`: the eviction is refused now and may be granted later."""


class Throttled(ClusterError):
    """429 by API priority and fairness, after the retries ran out."""


class InstanceFailed(ClusterError):
    """An LC instance did not serve a call; `reason` is a value of `tango.domain.requests.Reason`."""


class CallFailed(InstanceFailed):
    """An instance did not serve what a caller sent.

    Attributes: `was_sent`, whether the instance may have begun with it; `was_passed_on`, whether a part of an answer has gone on to the
    caller.
    """

    def __init__(self, message: str, *, reason: str, was_sent: bool = True, was_passed_on: bool = False, status: int = 0) -> None:
        super().__init__(message, reason=reason, status=status)
        self.was_sent, self.was_passed_on = was_sent, was_passed_on


class NotInTime(TangoError):
    """What was waited for has not ended within the time that was given for it; it goes on."""

    exit_status = 124


class StoreError(TangoError):
    """PostgreSQL refused a statement."""


class StoreBusy(StoreError):
    """Others have held locks that a transaction needs for longer than it may wait, each time that it was tried; nothing was changed."""


class Fenced(TangoError):
    """A lease or an epoch has a newer holder, which owns the work now, so this result is dropped (a fencing token)."""
