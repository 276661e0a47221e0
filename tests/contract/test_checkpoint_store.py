"""`CheckpointStore`, on the fake and on PostgreSQL."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import psycopg2
import pytest

from tango.domain.checkpoints import MOST_BYTES, CheckpointRoles, NewCheckpoint, ShadowDecision
from tango.errors import CheckpointError, RequestRejected, UsageError
from tango.ports.checkpoints import CheckpointStore
from tango.ports.leases import Fence, LeaseStore
from tango.store.checkpoints import PostgresCheckpointStore
from tango.store.database import Database
from tango.store.leases import PostgresLeaseStore
from tests.fakes.checkpoints import MemoryCheckpointStore
from tests.fakes.lease_store import MemoryLeaseStore
from tests.fakes.memory_state import MemoryState


def new(name: str, content: bytes | None = None, **changes: object) -> NewCheckpoint:
    """A checkpoint whose file holds these bytes, by default its name."""
    file = name.encode() if content is None else content
    given = NewCheckpoint(
        name=name,
        policy="dcg-be",
        digest=hashlib.sha256(file).hexdigest(),
        format_version=1,
        feature_schema="f" * 64,
        path=f"/{name}.pt",
        trained={"seed": 3, "worlds": ["small", "testbed"]},
        code_version="0.1.0",
        content=file,
        note="first",
    )
    return dataclasses.replace(given, **changes)


@dataclass(frozen=True)
class RegistryUnderTest:
    """A registry, leases, and a way to harm a file."""

    store: CheckpointStore
    leases: LeaseStore
    damage: Callable[[str, bytes | None], None]

    def add(self, name: str) -> str:
        """Register; give the digest."""
        return self.store.register(new(name)).digest


@pytest.fixture(params=["memory", "postgres"])
def registry(request: pytest.FixtureRequest) -> RegistryUnderTest:
    """One implementation after the other."""
    if request.param == "memory":
        state = MemoryState()
        memory = MemoryCheckpointStore(state)
        return RegistryUnderTest(memory, MemoryLeaseStore(state), memory.damage)
    database = Database(request.getfixturevalue("database_url"))

    def damage(digest: str, content: bytes | None) -> None:
        of = "checkpoint_id = (SELECT checkpoint_id FROM checkpoint WHERE digest = %s)"
        if content is None:
            database.execute(f"DELETE FROM checkpoint_file WHERE {of}", (digest,))
        else:
            database.execute(f"UPDATE checkpoint_file SET content = %s WHERE {of}", (content, digest))

    return RegistryUnderTest(PostgresCheckpointStore(database), PostgresLeaseStore(database), damage)


# ---- what there is -------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_with_all_that_was_said_of_it(registry: RegistryUnderTest) -> None:
    """And its file byte for byte."""
    stored = registry.store.register(new("mine"))

    assert registry.store.registered() == [stored]
    assert (stored.name, stored.policy, stored.format_version, stored.feature_schema) == ("mine", "dcg-be", 1, "f" * 64)
    assert (stored.trained, stored.code_version) == ({"seed": 3, "worlds": ["small", "testbed"]}, "0.1.0")
    assert (stored.path, stored.note, stored.size_bytes, stored.refused, stored.scores) == ("/mine.pt", "first", 4, "", [])
    assert registry.store.content(stored.digest) == b"mine"


def test_a_file_is_registered_once_by_its_digest(registry: RegistryUnderTest) -> None:
    """A second registration keeps id, first note and, unless it renames, the name; its path follows the file."""
    first = registry.store.register(new("one"))
    other = registry.store.register(new("two"))

    again = registry.store.register(new("uno", b"one", path="/moved.pt", note="second"))

    assert (again.checkpoint_id, again.name, again.path, again.note) == (first.checkpoint_id, "one", "/moved.pt", "first")
    assert [c.checkpoint_id for c in registry.store.registered()] == [other.checkpoint_id, first.checkpoint_id]
    assert registry.store.register(new("uno", b"one"), rename=True).name == "uno"


def test_a_checkpoint_without_a_file_gets_one_later(registry: RegistryUnderTest) -> None:
    """And keeps it when it is noted again without."""
    noted = registry.store.register(dataclasses.replace(new("one"), content=None))
    with pytest.raises(CheckpointError, match=r"has no file in the registry"):
        registry.store.content(noted.digest)

    registry.store.register(new("one"))
    kept = registry.store.register(dataclasses.replace(new("one"), content=None))

    assert (noted.size_bytes, kept.size_bytes, registry.store.content(noted.digest)) == (None, 3, b"one")


def test_a_file_that_is_too_large_is_refused(registry: RegistryUnderTest) -> None:
    """The limit is that of files on disk."""
    with pytest.raises(RequestRejected, match=f"{MOST_BYTES + 1} bytes, expected at most {MOST_BYTES}"):
        registry.store.register(new("large", bytes(MOST_BYTES + 1)))

    assert registry.store.registered() == []


def test_a_damaged_or_lost_file_is_never_given(registry: RegistryUnderTest) -> None:
    """The digest is checked again at every reading; adding the file again heals it."""
    digest = registry.add("one")

    registry.damage(digest, b"other")
    with pytest.raises(CheckpointError, match="damaged"):
        registry.store.content(digest)
    registry.damage(digest, None)
    with pytest.raises(CheckpointError, match="no file"):
        registry.store.content(digest)
    registry.add("one")

    assert registry.store.content(digest) == b"one"


def test_a_checkpoint_is_found_by_name_and_by_the_first_letters_of_its_digest(registry: RegistryUnderTest) -> None:
    """Not by fewer than four, which might be anything."""
    digest = registry.add("one")
    registry.add("two")

    assert {registry.store.find(named).name for named in ("one", digest, digest[:12], digest[:4].upper())} == {"one"}
    for wrong in (digest[:3], "three", ""):
        with pytest.raises(UsageError, match=r"there is no checkpoint .*registered: two \([0-9a-f]{12}\), one"):
            registry.store.find(wrong)


def test_a_name_that_several_have_is_told_with_their_digests(registry: RegistryUnderTest) -> None:
    """Names are for people and may come twice."""
    digests = [registry.store.register(new("same", content)).digest for content in (b"1", b"2")]

    with pytest.raises(UsageError, match="2 checkpoints are called 'same'") as told:
        registry.store.find("same")

    assert all(digest[:12] in str(told.value) for digest in digests)


def test_scores_are_kept_in_order(registry: RegistryUnderTest) -> None:
    """Each evaluation is one entry."""
    digest = registry.add("one")

    registry.store.add_scores(digest, {"fleet": "testbed", "rows": [{"mean": 0.5, "low": None}]})
    registry.store.add_scores(digest, {"fleet": "paper"})
    registry.store.add_scores("0" * 64, {"fleet": "nobody's"})

    (stored,) = registry.store.registered()
    assert stored.scores == [{"fleet": "testbed", "rows": [{"mean": 0.5, "low": None}]}, {"fleet": "paper"}]


# ---- roles ---------------------------------------------------------------------------------------------------------------------


def test_nothing_is_promoted_at_first(registry: RegistryUnderTest) -> None:
    """The scheduler's own file decides."""
    assert registry.store.roles() == CheckpointRoles()
    assert registry.store.history() == []


def test_demote_goes_back_one_step_each_time(registry: RegistryUnderTest) -> None:
    """In the end to the scheduler's own file, and no further."""
    one, two = registry.add("one"), registry.add("two")
    seen = [registry.store.promote(digest, actor="me") for digest in (one, two, one)]
    for _ in range(4):
        seen.append(registry.store.demote(actor="me"))

    assert [roles.live for roles in seen] == [one, two, one, two, one, "", ""]
    assert [roles.generation for roles in seen] == [1, 2, 3, 4, 5, 6, 6]
    assert registry.store.roles() == seen[-1]


def test_a_promotion_repeated_changes_nothing(registry: RegistryUnderTest) -> None:
    """Else one demote would not go back."""
    one = registry.add("one")

    assert registry.store.promote(one, actor="me") == registry.store.promote(one, actor="you")
    assert len(registry.store.history()) == 1


def test_a_shadow_is_set_replaced_and_cleared(registry: RegistryUnderTest) -> None:
    """Without touching what is live."""
    one, two = registry.add("one"), registry.add("two")
    registry.store.promote(one, actor="me")
    seen = [registry.store.shadow(digest, actor="me") for digest in (two, one, one, "", "")]

    assert [(roles.live, roles.shadow, roles.generation) for roles in seen] == [
        (one, two, 2),
        (one, one, 3),
        (one, one, 3),
        (one, "", 4),
        (one, "", 4),
    ]
    assert [seen[1].of(digest) for digest in (one, two)] == ["live, shadow", ""]


def test_history_tells_who_put_what_in_place_of_what(registry: RegistryUnderTest) -> None:
    """Newest first."""
    one, two = registry.add("one"), registry.add("two")
    registry.store.promote(one, actor="ann")
    registry.store.promote(two, actor="bob")
    registry.store.shadow(one, actor="ann")
    registry.store.demote(actor="eve")
    registry.store.shadow("", actor="ann")

    told = [(e.action, e.digest, e.before, e.actor) for e in registry.store.history()]

    assert told == [
        ("shadow-off", "", one, "ann"),
        ("demote", one, two, "eve"),
        ("shadow", one, "", "ann"),
        ("promote", two, one, "bob"),
        ("promote", one, "", "ann"),
    ]
    assert [e.action for e in registry.store.history(limit=2)] == ["shadow-off", "demote"]


def test_a_refusal_is_noted_once_and_cleared_by_success(registry: RegistryUnderTest) -> None:
    """Every start of a scheduler tries again; the history keeps one line for the same reason."""
    one = registry.add("one")
    for refused in ("damaged", "damaged", "other features"):
        registry.store.used(one, refused=refused)
    (stored,) = registry.store.registered()
    registry.store.used(one, refused="")

    assert (stored.refused, stored.refused_at is not None) == ("other features", True)
    assert [(e.action, e.digest, e.note) for e in registry.store.history()] == [
        ("refuse", one, "other features"),
        ("refuse", one, "damaged"),
    ]
    assert (registry.store.registered()[0].refused, registry.store.registered()[0].refused_at) == ("", None)


def test_a_file_that_comes_again_is_tried_again_where_it_was_refused(registry: RegistryUnderTest) -> None:
    """By whoever has it in a role; all others need not look."""
    one, two = registry.add("one"), registry.add("two")
    registry.store.promote(one, actor="me")
    registry.add("one")
    registry.store.used(two, refused="damaged")
    registry.add("two")
    before = registry.store.roles().generation
    registry.store.used(one, refused="damaged")
    registry.add("one")

    assert (before, registry.store.roles().generation) == (1, 2)


def test_what_decides_is_noted_without_a_new_generation(registry: RegistryUnderTest) -> None:
    """Else the scheduler would answer itself."""
    registry.store.decides(configured="a" * 64, deciding="b" * 64)

    assert registry.store.roles() == CheckpointRoles(configured="a" * 64, deciding="b" * 64)


# ---- candidates ----------------------------------------------------------------------------------------------------------------


def tick(**changes: object) -> ShadowDecision:
    """Four requests, of which the candidate places three, one of them elsewhere."""
    given = ShadowDecision(
        run_ids=(1, 2),
        policy="dcg-be",
        live="a" * 12,
        candidate="c" * 64,
        considered=4,
        live_placed=4,
        candidate_placed=3,
        different=2,
        live_cpu_share=0.5,
        candidate_cpu_share=0.8,
        live_ms=2.0,
        candidate_ms=3.0,
    )
    return dataclasses.replace(given, **changes)


def test_ticks_of_a_candidate_are_summed_up_beside_what_was_live(registry: RegistryUnderTest) -> None:
    """Shares weigh by placements; a skipped tick counts as one and says nothing else."""
    fence = registry.leases.acquire("scheduler", owner="me", ttl_s=30.0)
    assert fence is not None
    skipped = tick(candidate_placed=0, different=0, candidate_cpu_share=None, candidate_ms=None, skipped=True, reason="slow")
    for decision in (tick(), tick(considered=8, live_placed=4, candidate_placed=1, different=3, candidate_cpu_share=0.4), skipped):
        assert registry.store.record_shadow(decision, fence=fence)
    registry.store.record_shadow(tick(candidate="d" * 64), fence=fence)

    (summary,) = registry.store.shadow_summaries("c" * 64)

    assert (summary.ticks, summary.skipped, summary.considered, summary.different) == (3, 1, 12, 5)
    assert (summary.live_placed, summary.candidate_placed) == (8, 4)
    assert summary.share_different == pytest.approx(5 / 12)
    assert (summary.live_cpu_share, summary.candidate_cpu_share) == (pytest.approx(0.5), pytest.approx(0.7))
    assert (summary.live_ms, summary.candidate_ms) == (2.0, 3.0)


def test_an_overtaken_scheduler_records_nothing(registry: RegistryUnderTest) -> None:
    """The lease's epoch fences it off, as with placements."""
    old = registry.leases.acquire("scheduler", owner="old", ttl_s=0.0)
    fence = registry.leases.acquire("scheduler", owner="new", ttl_s=30.0)
    assert old is not None
    assert fence is not None

    assert not registry.store.record_shadow(tick(), fence=old)
    assert not registry.store.record_shadow(tick(), fence=Fence(name="scheduler", owner="new", epoch=old.epoch))
    assert registry.store.shadow_summaries("c" * 64) == []


def test_the_reader_reads_everything_but_needs_no_bytes(database_urls: object) -> None:
    """`tango sql` shows the registry; listings of `checkpoint` hold no file."""
    PostgresCheckpointStore(Database(database_urls.app)).register(new("one"))  # type: ignore[attr-defined]

    with psycopg2.connect(database_urls.reader) as connection, connection.cursor() as cursor:  # type: ignore[attr-defined]
        for relation in ("checkpoint", "checkpoint_role", "checkpoint_event", "shadow_decision", "shadow_summary"):
            cursor.execute(f"SELECT * FROM {relation}")
            assert cursor.description is not None
            assert "content" not in [column.name for column in cursor.description]
        cursor.execute("SELECT name, size_bytes FROM checkpoint")
        assert cursor.fetchall() == [("one", 3)]
    connection.close()
