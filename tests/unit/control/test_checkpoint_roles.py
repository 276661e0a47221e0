"""What a scheduler does with the registry: promoted checkpoints decide from the next tick on, refused ones change nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields

import numpy as np
import pytest

from tango.control.be_deciders import BeDeciders, Registry
from tango.control.checkpoint_roles import RolesFollowed
from tango.control.lease_holder import LeaseHolder
from tango.control.place_be import BePlacement
from tango.control.shadow import cpu_share
from tango.domain.checkpoints import NewCheckpoint
from tango.domain.plans import BePlan
from tango.domain.requests import BePending
from tango.domain.snapshot import FleetSnapshot
from tango.errors import CheckpointError, StoreUnavailable
from tango.scheduling.be_policies import place_load_greedy
from tango.settings import BeSettings, LeaseSettings
from tests.fakes.checkpoints import MemoryCheckpointStore
from tests.fakes.control_world import ControlWorld, control_world
from tests.fakes.faulty import Faulty
from tests.fakes.store_world import BATCH

C1_N1, C1_N2, C2_N1, NOWHERE = 0, 1, 2, -1


@dataclass(eq=False)
class Named:
    """A policy whose name and nodes stand in its file: `name:0,1,-1`."""

    name: str
    nodes: tuple[int, ...]
    fails: str = ""
    rests: str = ""
    shown: list[tuple[BePending, FleetSnapshot]] = field(default_factory=list)

    def __call__(self, pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
        """Decide."""
        self.shown.append((pending, snapshot))
        if self.fails:
            raise ValueError(self.fails)
        nodes = np.array([self.nodes[k % len(self.nodes)] for k in range(len(pending))], np.int32)
        return BePlan(node=nodes, policy="dcg-be", checkpoint=self.name, fallback_reason=self.rests)


@dataclass
class Here:
    """A world in memory with its registry and the scheduler's own file, which sends everything to the first node."""

    world: ControlWorld
    store: MemoryCheckpointStore
    own: Named = field(default_factory=lambda: Named("own", (C1_N1,)))
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.roles = self.scheduler()

    def scheduler(self) -> RolesFollowed:
        """One that has just been started."""
        return RolesFollowed(self.store, self._load, configured=lambda: "own")

    def _load(self, policy: str, content: bytes, where: str) -> Named:
        text = content.decode()
        if text.startswith("bad"):
            raise CheckpointError(f"checkpoint {where} is {text}")
        self.loads.append(f"{policy} {where}")
        name, _, nodes = text.partition(":")
        return Named(name, tuple(int(n) for n in nodes.split(",")))

    def add(self, text: str, policy: str = "dcg-be") -> str:
        """Register a file with this text; give its digest."""
        content = text.encode()
        digest = hashlib.sha256(content).hexdigest()
        new = NewCheckpoint(
            name=text.partition(":")[0],
            policy=policy,
            digest=digest,
            format_version=1,
            feature_schema="f",
            path="/x.pt",
            trained={},
            content=content,
        )
        return self.store.register(new).digest

    def tick(self, roles: RolesFollowed | None = None) -> dict[str, int]:
        """One cycle."""
        followed = roles or self.roles
        use_case = BePlacement(
            deciders=BeDeciders(
                policy_of=lambda _run: followed.live or self.own,
                fallback=place_load_greedy,
                registry=Registry(roles=followed, checkpoints=self.store),
            ),
            requests=self.world.requests,
            jobs=self.world.jobs,
            refusals=self.world.refusals,
            snapshot=lambda: self.world.fleet.snapshot(at_s=self.world.clock.now_s()),
            clusters=self.world.clusters,
            holder=LeaseHolder(leases=self.world.leases, owner="scheduler", settings=LeaseSettings()),
            settings=BeSettings(),
        )
        return use_case.tick()

    def decided(self, *, requests: int = 1) -> tuple[str, str]:
        """Checkpoint and note of the decision over one new run."""
        self.world.pending(*[BATCH] * requests)
        self.tick()
        record, _ = self.world.state.decisions[-1]
        return record.checkpoint, record.note


@pytest.fixture
def here() -> Here:
    """Nothing promoted."""
    world = control_world()
    return Here(world, MemoryCheckpointStore(world.state))


def test_a_promoted_checkpoint_decides_at_the_next_tick_and_demote_goes_back(here: Here) -> None:
    """Without a restart, in the end to the scheduler's own file."""
    one, two = here.add("one:1"), here.add("two:2")
    seen = [here.decided()]
    for digest in (one, two):
        here.store.promote(digest, actor="me")
        seen.append(here.decided())
    for _ in range(2):
        here.store.demote(actor="me")
        seen.append(here.decided())

    assert seen == [("own", ""), ("one", ""), ("two", ""), ("one", ""), ("own", "")]
    assert [p.node for p in here.world.clusters.placed] == ["c1-n1", "c1-n2", "c2-n1", "c1-n2", "c1-n1"]


def test_a_checkpoint_is_loaded_once_and_on_an_idle_tick(here: Here) -> None:
    """So that no decision waits for it; a tick looks at one row."""
    one = here.add("one:1")
    here.store.promote(one, actor="me")

    here.tick()
    looks = here.store.looks
    here.tick()
    here.store.shadow(one, actor="me")
    here.decided()

    assert here.loads == [f"dcg-be one ({one[:12]})"] * 2
    assert here.store.looks == looks + 2
    assert here.store.roles().deciding == one


def test_a_refused_checkpoint_leaves_what_decides_and_the_reason_stands_everywhere(here: Here) -> None:
    """In the decision row, the registry and its history, until something else is promoted."""
    one, bad = here.add("one:1"), here.add("bad weights")
    here.store.promote(one, actor="me")
    here.decided()
    here.store.promote(bad, actor="me")

    checkpoint, note = here.decided()

    assert checkpoint == "one"
    assert note == f"promoted {bad[:12]} refused: checkpoint bad weights ({bad[:12]}) is bad weights"
    assert here.store.find(bad).refused.endswith("is bad weights")
    assert here.store.history()[0].action == "refuse"
    assert (here.store.roles().live, here.store.roles().deciding) == (bad, one)
    here.store.demote(actor="me")
    assert here.decided() == ("one", "")


@pytest.mark.parametrize(
    ("harm", "told"), [(b"other bytes", "is damaged"), (None, "has no file in the registry")], ids=["damaged", "lost"]
)
def test_a_file_that_the_store_lost_or_damaged_is_refused(here: Here, harm: bytes | None, told: str) -> None:
    """And tried again when it was added again."""
    one = here.add("one:1")
    here.store.damage(one, harm)
    here.store.promote(one, actor="me")

    checkpoint, note = here.decided()
    here.add("one:1")

    assert (checkpoint, told in note) == ("own", True)
    assert here.decided() == ("one", "")
    assert here.store.find(one).refused == ""


def test_a_digest_that_nobody_registered_is_refused(here: Here) -> None:
    """Whatever wrote the row."""
    here.store.promote("0" * 64, actor="me")

    checkpoint, note = here.decided()

    assert checkpoint == "own"
    assert "there is no checkpoint" in note


def test_a_scheduler_that_starts_with_a_refused_checkpoint_goes_back_as_demote_would(here: Here) -> None:
    """Not to the shipped one, when something better was live before."""
    one, bad = here.add("one:1"), here.add("bad weights")
    here.store.promote(one, actor="me")
    here.store.promote(bad, actor="me")

    here.roles = here.scheduler()

    checkpoint, note = here.decided()
    assert checkpoint == "one"
    assert "refused" in note


def test_a_store_that_is_away_is_asked_again(here: Here) -> None:
    """What was not loaded is not taken for seen."""
    one = here.add("one:1")
    here.store.promote(one, actor="me")
    faulty = Faulty(here.store, content=[StoreUnavailable("away")])
    roles = RolesFollowed(faulty, here._load, configured=lambda: "own")  # type: ignore[arg-type]

    with pytest.raises(StoreUnavailable):
        roles.follow()
    roles.follow()

    assert roles.live is not None


def test_the_registry_names_what_the_holder_of_the_lease_decides_by(here: Here) -> None:
    """A second scheduler that starts says nothing; one that takes over does."""
    here.tick()
    other = RolesFollowed(here.store, here._load, configured=lambda: "other")

    other.follow(noting=False)
    before = here.store.roles()
    other.follow()

    assert (before.configured, before.deciding) == ("own", "own")
    assert (here.store.roles().configured, here.store.roles().deciding) == ("other", "other")


# ---- the shadow ------------------------------------------------------------------------------------------------------------------


def test_a_shadow_never_acts_and_its_differences_are_recorded(here: Here) -> None:
    """It sees what the live policy saw; pods go where that one said."""
    candidate = here.add("candidate:0,1,-1")
    here.store.shadow(candidate, actor="me")

    assert here.decided(requests=3) == ("own", "")

    assert [p.node for p in here.world.clusters.placed] == ["c1-n1"] * 3
    (row,) = here.store.shadows
    assert (row.policy, row.live, row.candidate, row.skipped, row.reason) == ("dcg-be", "own", candidate, False, "")
    assert (row.considered, row.live_placed, row.candidate_placed, row.different) == (3, 3, 2, 2)
    assert row.candidate_ms is not None
    assert row.candidate_ms >= 0
    assert here.roles.candidate is not None
    shown = here.roles.candidate.policy.shown  # type: ignore[union-attr]
    for beside, live in zip(shown[0], here.own.shown[0], strict=True):
        for column in fields(live):
            np.testing.assert_array_equal(getattr(beside, column.name), getattr(live, column.name))


def test_the_same_checkpoint_in_the_shadow_differs_in_nothing(here: Here) -> None:
    """The measure of a difference has a zero."""
    one = here.add("one:1,2")
    here.store.promote(one, actor="me")
    here.store.shadow(one, actor="me")

    here.decided(requests=4)

    (row,) = here.store.shadows
    assert (row.different, row.live_placed, row.candidate_placed) == (0, 4, 4)
    assert row.live_cpu_share == row.candidate_cpu_share


def test_a_shadow_decides_after_the_pods_were_made(here: Here) -> None:
    """A slow candidate delays nothing that was decided."""
    here.store.shadow(here.add("candidate:1"), actor="me")
    here.roles.follow()
    then: list[int] = []
    assert here.roles.candidate is not None
    here.world.clusters.on_call = lambda name: then.append(len(here.roles.candidate.policy.shown))  # type: ignore[union-attr]

    here.decided()

    assert then == [0]
    assert len(here.store.shadows) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"fails": "no idea"}, "ValueError: no idea"), ({"rests": "slower than 250 ms, rests"}, "slower than 250")],
)
def test_a_shadow_that_fails_or_rests_is_skipped_and_counted(here: Here, changes: dict[str, str], reason: str) -> None:
    """With its reason; the live decision stands."""
    candidate = here.add("candidate:1")
    here.store.shadow(candidate, actor="me")
    here.roles.follow()
    assert here.roles.candidate is not None
    for name, value in changes.items():
        setattr(here.roles.candidate.policy, name, value)

    assert here.decided() == ("own", "")

    (row,) = here.store.shadows
    assert (row.skipped, row.candidate_ms, row.candidate_placed) == (True, None, 0)
    assert reason in row.reason
    (summary,) = here.store.shadow_summaries(candidate)
    assert (summary.ticks, summary.skipped, summary.considered) == (1, 1, 0)


def test_a_refused_shadow_says_why_in_its_rows(here: Here) -> None:
    """And in the registry; what is live has no remark for it."""
    bad = here.add("bad schema")
    here.store.shadow(bad, actor="me")

    assert here.decided() == ("own", "")

    assert "bad schema" in here.store.shadows[0].reason
    assert "bad schema" in here.store.find(bad).refused


def test_no_shadow_no_rows(here: Here) -> None:
    """`--off` ends it at the next tick."""
    here.store.shadow(here.add("candidate:1"), actor="me")
    here.decided()
    here.store.shadow("", actor="me")
    here.decided()

    assert len(here.store.shadows) == 1


def test_a_share_of_cpu_counts_what_lc_leaves_and_what_the_plan_adds(here: Here) -> None:
    """Two limits of 2 cores on a node beside one alone elsewhere: by hand."""
    here.world.pending(BATCH, BATCH)
    here.tick()
    pending, snapshot = here.own.shown[0]
    leaves = snapshot.cpu_allocatable - snapshot.lc_cpu_in_use

    both = cpu_share(pending, snapshot, np.array([C1_N1, C1_N1], np.int32))
    spread = cpu_share(pending, snapshot, np.array([C1_N1, C2_N1], np.int32))

    assert both == pytest.approx(min(1.0, leaves[C1_N1] / (snapshot.be_cpu_limit[C1_N1] + 4000)))
    assert spread == pytest.approx(np.mean([min(1.0, leaves[n] / (snapshot.be_cpu_limit[n] + 2000)) for n in (C1_N1, C2_N1)]))
    assert cpu_share(pending, snapshot, np.array([NOWHERE, NOWHERE], np.int32)) is None
