"""The records of the engine's arrays: one a node, one a request, one for the run as a whole, one for each thing that is written down.

Records, because an event touches many fields of one of them: they lie side by side in memory, and a step passes one array, not ten.
CPU is in millicores, work in CPU-seconds, memory in MiB, time in seconds from the trace's zero.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.sim.codes import ACCEPTED, NOT_SENT

SITE = np.dtype(
    [
        ("up", np.int64),  # 1: the node runs
        ("ready", np.int64),  # 1: Tango takes it to run; an outage is noticed after `Rules.lost_after_s`
        ("lc_limit", np.float64),  # CPU limits of its LC instances, millicores
        ("placed_limit", np.float64),  # CPU limits of the BE pods of `state.Holdings.placed`, millicores
        ("busy_then_s", np.float64),  # CPU-seconds used up to the last publication
        ("then_s", np.float64),  # time of the last publication
        ("used", np.float64),  # CPU in use, millicores: mean from the publication before the last to the last
        ("slack", np.float64),  # least slack of its LC services, 1 where nothing was measured
    ],
    align=True,
)
"""A node's accounts, beside what the node model has of it and what `state.Holdings` has of its resources."""


def new_sites(nodes: int, *, lc_limit_millicores: float) -> NDArray[np.void]:
    """(n,) of SITE: nodes that are up, without BE, each with the same LC instances."""
    sites = np.zeros(nodes, SITE)
    sites["up"] = sites["ready"] = 1
    sites["slack"] = 1.0
    sites["lc_limit"] = lc_limit_millicores
    return sites


PROGRESS = np.dtype(
    [
        ("node", np.int32),  # of the last attempt, -1: none yet
        ("attempts", np.int32),  # begun so far; the number of the last one is its epoch
        ("given_back", np.int32),  # attempts of those that do not count against the most that a request may have
        ("sent_before", np.int32),  # the request that the same cluster sent abroad before this one, -1: none; or NOT_SENT
        ("reason", np.int16),  # why the last attempt or the request ended: a row of `codes.REASONS`
        ("state", np.int8),  # `domain.outcomes.STATE_CODE`
        ("started_s", np.float64),  # start of service of the attempt that counted, NaN: none
        ("finished_s", np.float64),  # when it ended for its user, NaN: it has not
        ("sent_s", np.float64),  # LC: when the last attempt was sent to its node
    ],
    align=True,
)
"""What has become of a request so far."""


def new_progress(requests: int) -> NDArray[np.void]:
    """(m,) of PROGRESS: requests that have not come yet."""
    progress = np.zeros(requests, PROGRESS)
    progress["node"], progress["sent_before"] = -1, NOT_SENT
    progress["started_s"] = progress["finished_s"] = np.nan
    progress["state"] = ACCEPTED
    return progress


CLOCK = np.dtype(
    [
        ("window", np.int64),  # number of the next window to run
        ("phase", np.int64),  # of that window: `engine.DECIDE`, `engine.ASK` or `engine.RUN`
        ("cursor", np.int64),  # row of the next request that arrives
        ("pending", np.int64),  # BE requests that wait for a node
        ("retries", np.int64),  # LC requests to dispatch again
        ("dispatching", np.int64),  # LC requests to dispatch in this window
        ("asked", np.int64),  # cluster whose dispatch is next in this window
        ("answered", np.int64),  # 1: a policy in Python was asked for that cluster and has decided
        ("placing", np.int64),  # pending BE requests that the centre has decided on
        ("placing_starts_s", np.float64),  # when the pods of those that have a node start
        ("terminal", np.int64),  # requests that have ended
        ("in_nodes", np.int64),  # LC requests in the node model
        ("settling", np.int64),  # LC requests that were served and still count as in flight
        ("abroad", np.int64),  # answers under way from other clusters in this window
        ("losses", np.int64),  # rows of `Lists.losses` in use
        ("scalings", np.int64),  # rows of `Lists.scalings` in use
        ("cycles", np.int64),  # rows of `Lists.cycles` in use
        ("events", np.int64),  # whatever moved a node, so far
        ("settled", np.int64),  # `engine.OPEN`, or how far what only BE pods still move need not be computed again
        ("moved", np.int64),  # pods started or ended, LC requests settled, resizes, nodes back: signs of life
        (
            "forbidden",
            np.int64,
        ),  # changes of a request's state that the lifecycle table does not allow; 0 unless the engine is wrong
        ("worst_cpu", np.float64),  # most that a node's use ever exceeded its CPU by, cores (audit only)
        (
            "worst_held",
            np.float64,
        ),  # most that requests ever exceeded a node's memory, pods or an extended resource by, or an instance's memory
    ],
    align=True,
)
"""The run as a whole: where it stands, and how much of each list is in use."""

LOSS = np.dtype(
    [
        ("at_s", np.float64),
        ("request", np.int64),
        ("node", np.int64),
        ("reason", np.int64),  # row of `codes.REASONS`
        ("work_s", np.float64),  # CPU-seconds that the attempt had done
    ]
)
"""An attempt that came to nothing."""
SCALING = np.dtype(
    [
        ("at_s", np.float64),  # when it was decided
        ("kind", np.int64),  # row of `SCALING_KINDS`, or `codes.GAVE_WAY`
        ("node", np.int64),
        ("service", np.int64),
        ("before", np.float64),  # CPU limit, millicores; NaN for an eviction, as the next two
        ("after", np.float64),
        ("slack", np.float64),  # that it was decided on
    ]
)
"""A resize of an LC instance, or an eviction of a BE pod."""
CYCLE = np.dtype(
    [
        ("at_s", np.float64),
        ("considered", np.int64),  # LC requests
        ("placed", np.int64),  # sent to a node
        ("late", np.int64),  # sent although their target cannot be met
        ("shed", np.int64),  # given up on purpose
        ("decide_s", np.float64),  # of the cluster that took longest
    ]
)
"""LC dispatch of all clusters in one window."""
