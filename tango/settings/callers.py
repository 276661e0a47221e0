"""What is taken from callers: requests and jobs, through gateways."""

from __future__ import annotations

from dataclasses import dataclass

from tango.settings.bounds import LONGEST_S, within

MOST_BODY_KIB = 1 << 20
"""Largest body in KiB that a gateway can be told to take, 1 GiB: it is held in memory whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettings:
    """Requests of callers: what is kept of them, and how much."""

    keep_s: float = 3600.0
    """Seconds that an answer can be fetched after its request has ended, and that an idempotency key is known."""
    kept_answer_kib: int = 64
    """KiB of each answer that are kept to be fetched; most answers of latency-critical services are smaller."""
    kept_mib: int = 256
    """MiB of calls and answers that a journal keeps; beyond it the oldest answers go first. At 4 KiB an answer 65,000 of them."""
    tries: int = 2
    """Instances that a call which may be repeated is sent to, one after the other, where the first ones fail. A third rarely does better,
    and doubles what a broken service costs."""
    instance_ca: str = ""
    """Path of a file with the certificates of who may have signed those of instances that speak TLS; empty: the system's."""
    give_up_after_targets: float = 2.0
    """Targets after which a request of a caller who waits is given up, where neither the caller nor the service says when. An answer
    that comes later than twice its target is of little use, and under overload it costs others theirs."""

    def __post_init__(self) -> None:
        within(self, 0.0, LONGEST_S, "keep_s", "give_up_after_targets", above=True)
        within(self, 0, 1 << 20, "kept_answer_kib", "kept_mib")
        within(self, 1, 10, "tries")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """Jobs: how their pods are watched, and what is kept of them."""

    look_every_s: float = 1.0
    """Seconds between two looks for pods of jobs that nobody wants any more, and for those that cannot start: a cancelled job gives its
    node's resources back this much later than it could. One read of the centre for all pods of a cluster."""
    image_within_s: float = 120.0
    """Seconds after which a pod whose image cannot be pulled, or whose container cannot be made, fails for good. The kubelet tries again
    after 10, 20, 40 and 80 s, so that a registry that is away for a minute costs no job."""
    log_within_s: float = 10.0
    """Seconds for reading the end of the logs of one pod; what has not come by then is not kept. A kubelet that answers sends 10 MiB, where
    it rotates a log, in less; a job that has ended waits this long at the most to be settled."""
    log_lines: int = 2000
    """Lines of the end of a log that are asked for. Kubernetes counts lines only; of these the last `LOG_TAIL_BYTES` are kept."""
    log_keep_s: float = 7 * 86_400.0
    """Seconds that logs are kept after their pods have gone: over a weekend and a holiday."""
    log_total_mib: int = 1024
    """MiB of logs that the store keeps; beyond it the oldest go first. At 64 KiB each 16,000 containers."""
    drop_every_s: float = 60.0
    """Seconds between two rounds of dropping logs: what is beyond the limits stays no longer than this."""
    priority_s: float = 60.0
    """Seconds of waiting that one step of priority is worth, so that no job of a tenant waits for ever behind others of its own."""
    look_ahead: int = 2048
    """Waiting jobs of a run, the oldest first, among which priority counts: eight times what a placement considers."""

    def __post_init__(self) -> None:
        within(self, 0.0, 3600.0, "look_every_s", "image_within_s", "log_within_s", "drop_every_s", above=True)
        within(self, 0.0, LONGEST_S, "log_keep_s", "priority_s")
        within(self, 1, 1_000_000, "log_lines", "log_total_mib", "look_ahead")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """A gateway: what it takes from callers, how long it waits for them, and how many it serves at once."""

    accept_window_s: float = 0.005
    """Seconds between the beginnings of two transactions in the journal: what arrives meanwhile is accepted together and shares a message.
    Much of it is added to latencies once requests come denser than that; a message costs some milliseconds of a worker's CPU."""
    accept_limit: int = 256
    """Requests that one transaction accepts at the most, so that it keeps the journal's other writers waiting for some milliseconds."""
    body_kib: int = 1024
    """KiB of a request's body at the most; a longer one is answered 413. Bodies go into the journal, which is no place for films."""
    bodies_mib: int = 256
    """MiB that the bodies of all requests under way may take; beyond it newcomers are answered 429."""
    line_bytes: int = 8190
    """Bytes of the first line of a request, and of each of its headers, at the most; what other HTTP servers allow."""
    head_lines: int = 100
    """Headers of a request at the most; what Apache allows too."""
    head_within_s: float = 10.0
    """Seconds in which the head of a request has to come, and that a connection may be idle between two of them."""
    body_within_s: float = 10.0
    """Seconds in which a request's body has to come: 1 MiB at less than 1 Mbit/s."""
    taken_within_s: float = 30.0
    """Seconds in which a caller has to take each part of his answer, and an instance to send the next one."""
    max_waiting: int = 2000
    """Requests under way in one gateway at the most; beyond it newcomers wait at the door. Twice what a worker has in flight."""
    max_waiting_of_tenant: int = 1000
    """The same for each tenant: one whose client runs wild leaves half of the places to others. As many again may wait at the door."""
    place_within_s: float = 5.0
    """Seconds that a caller without a place waits at the door for one, where he is as patient; then he is answered 429. Of callers who come
    all at once so many more are served as places come free meanwhile; whoever balances load tries another gateway soon enough."""
    max_connections: int = 4000
    """Connections of callers beyond which requests are answered 503 and their connection closed."""
    retry_after_s: float = 1.0
    """Seconds after which callers are asked to try again when there was no place for them: most queues have moved on by then."""
    look_every_s: float = 0.1
    """Seconds between two looks in the journal at how those stand who wait; so much later they hear of what no worker tells."""
    view_every_s: float = 0.25
    """Seconds between two readings of services, instances and tokens from the journal; as often as an agent observes its cluster."""
    view_idle_s: float = 1.0
    """Seconds; the same while nobody calls: a gateway may serve fifty clusters, and the first caller after a pause is served by what was so
    a second ago. Tokens come into the journal every two seconds then (`JournalSettings.publish_idle_s`)."""
    drain_s: float = 5.0
    """Seconds that a gateway which is told to stop waits for the answers of those who wait, and takes nobody new."""
    kept_headers: str = (
        "accept, accept-*, content-*, user-agent, range, if-*, cache-control, pragma, origin, referer, priority, prefer, idempotency-key, "
        "traceparent, tracestate, baggage, b3, forwarded, via, x-*"
    )
    """Headers of callers that may lie in the journal until their request has ended; `*` stands for any end of a name that does not look
    like a secret's. All others, among them `Authorization`, `Cookie` and `X-Api-Key`, which have secrets, are held in the gateway's memory,
    and the worker asks for them there."""
    answer_address: str = ""
    """`http://HOST:PORT` at which workers on other hosts reach this gateway with answers; empty: a UNIX socket in the state folder."""
    access_log: bool = True
    """Whether each request is logged: method, service, status, milliseconds, tenant, id; no body, token or query."""

    def __post_init__(self) -> None:
        within(self, 0.0, 1.0, "accept_window_s")
        within(self, 1, 100_000, "accept_limit", "head_lines", "max_waiting", "max_waiting_of_tenant", "max_connections")
        within(self, 1, MOST_BODY_KIB, "body_kib")
        within(self, 1, 1 << 20, "bodies_mib", "line_bytes")
        within(self, 0.0, 3600.0, "head_within_s", "body_within_s", "taken_within_s", above=True)
        within(self, 0.0, 3600.0, "look_every_s", "view_every_s", "view_idle_s", above=True)
        within(self, 0.0, 3600.0, "retry_after_s", "drain_s", "place_within_s")
