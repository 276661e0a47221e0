"""Checkpoints from file to decision on PostgreSQL: the control tick with real networks, and every command."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg2
import pytest
import torch
from click.testing import CliRunner, Result

from tango.bootstrap.clock import SystemClock
from tango.bootstrap.stores import stores
from tango.cli.checkpoint_files import checkpoint_file
from tango.cli.main import cli
from tango.control.be_deciders import BeDeciders, Registry
from tango.control.checkpoint_roles import RolesFollowed
from tango.control.checkpoints import promote, register_checkpoint, shadow
from tango.control.lease_holder import LeaseHolder
from tango.control.place_be import BePlacement
from tango.domain.checkpoints import MOST_BYTES, CheckpointFile, NewCheckpoint
from tango.domain.simulations import ClaimedSimulation
from tango.errors import CheckpointError, DependencyError, RequestRejected, TangoError, UsageError
from tango.experiments.cells import Cell, run_cell
from tango.experiments.cells_on_workers import ClaimedCells
from tango.learning.checkpoint import FORMAT_VERSION, save_checkpoint
from tango.learning.features import SCHEMA
from tango.learning.network import PlacementNetwork
from tango.learning.shipped import shipped_path
from tango.scheduling.be_policies import place_load_greedy
from tango.settings import BeSettings, LeaseSettings, Settings
from tango.store.checkpoints import PostgresCheckpointStore
from tango.store.database import Database
from tango.systems import be_policy, stored_be_policy, system
from tango.traces.workloads import Workload
from tests.conftest import DatabaseUrls
from tests.fakes.cluster_calls import RecordingClusterCalls
from tests.fakes.store_world import BATCH, StoreWorld, cancel_whole, postgres_world


def file_of(path: Path, seed: int, *, known: Mapping[str, Any] = MappingProxyType({}), **changes: Any) -> Path:
    """A small network with weights drawn from the seed; `known` is what its training says of it besides."""
    torch.manual_seed(seed)
    save_checkpoint(PlacementNetwork(8), path, name=path.stem, trained={"seed": seed, "code_version": "0.1.0", **known}, **changes)
    return path


def changed(path: Path, **content: Any) -> bytes:
    """A file with other content under these keys."""
    found = torch.load(path, weights_only=True)
    held = io.BytesIO()
    torch.save({**found, **content}, held)
    return held.getvalue()


def with_weights(path: Path, value: float) -> bytes:
    """A file all of whose weights have this value."""
    found = torch.load(path, weights_only=True)
    return changed(path, weights={name: torch.full_like(weight, value) for name, weight in found["weights"].items()})


@dataclass
class Live:
    """A scheduler on a real database."""

    store: PostgresCheckpointStore
    world: StoreWorld
    database: Database
    clusters: RecordingClusterCalls

    def __post_init__(self) -> None:
        self.own = be_policy("dcg-be", Settings())
        self.roles = RolesFollowed(
            self.store,
            lambda name, content, where: stored_be_policy(name, content, where, Settings()),
            configured=lambda: "own",
        )

    def decided(self, *, requests: int = 3) -> tuple[str, str, str]:
        """Policy, checkpoint and note of the decision over one new run."""
        run_id = self.world.create(*[BATCH] * requests)
        self.world.release(run_id)
        self.world.admit(run_id, range(requests))
        use_case = BePlacement(
            deciders=BeDeciders(
                policy_of=lambda _run: self.roles.live or self.own,
                fallback=place_load_greedy,
                registry=Registry(roles=self.roles, checkpoints=self.store),
            ),
            requests=self.world.requests,
            jobs=self.world.jobs,
            refusals=self.world.refusals,
            snapshot=lambda: self.world.fleet.snapshot(at_s=SystemClock().now_s()),
            clusters=self.clusters,
            holder=LeaseHolder(leases=self.world.leases, owner="scheduler", settings=LeaseSettings()),
            settings=BeSettings(decide_budget_ms=1e6),
        )
        done = use_case.tick()
        assert done["considered"] == requests
        row = self.database.rows("SELECT policy, checkpoint, note FROM decision ORDER BY decision_id DESC LIMIT 1")[0]
        return str(row[0]), str(row[1]), str(row[2])

    def put(self, name: str, content: bytes, policy: str = "dcg-be") -> str:
        """Register whatever bytes, as another version of Tango might have."""
        new = NewCheckpoint(
            name=name,
            policy=policy,
            digest=hashlib.sha256(content).hexdigest(),
            format_version=FORMAT_VERSION,
            feature_schema=SCHEMA,
            path="/elsewhere.pt",
            trained={},
            content=content,
        )
        return self.store.register(new).digest


@pytest.fixture
def live(database_url: str) -> Live:
    """Decides by the shipped checkpoint."""
    database = Database(database_url)
    return Live(PostgresCheckpointStore(database), postgres_world(database_url), database, RecordingClusterCalls())


SHIPPED = hashlib.sha256(shipped_path().read_bytes()).hexdigest()[:12]


def test_promote_is_picked_up_at_the_next_tick_and_demote_goes_back(live: Live, tmp_path: Path) -> None:
    """From a file on this host, by way of the store: the file itself may be gone."""
    files = [file_of(tmp_path / f"{name}.pt", seed) for seed, name in enumerate(("one", "two"))]
    digests = [register_checkpoint(file, store=live.store).digest for file in files]
    for file in files:
        file.unlink()

    seen = [live.decided()[1]]
    for name in ("one", "two"):
        promote(name, store=live.store, actor="me")
        seen.append(live.decided()[1])
    for _ in range(2):
        live.store.demote(actor="me")
        seen.append(live.decided()[1])

    one, two = (digest[:12] for digest in digests)
    assert seen == [SHIPPED, one, two, one, SHIPPED]
    assert live.store.roles().deciding == "own"


def bad_files(good: Path) -> dict[str, tuple[bytes, str]]:
    """Content that the registry might hold, and what is said of it."""
    return {
        "corrupt": (good.read_bytes()[:500], "is damaged"),
        "wrong version": (changed(good, format_version=99), f"has format 99, expected {FORMAT_VERSION}"),
        "wrong schema": (changed(good, feature_schema="0" * 64), "was trained on other features"),
        "other policy": (changed(good, policy="gnn-sac"), "is of policy 'gnn-sac', expected one of 'dcg-be'"),
        "not finite": (with_weights(good, float("nan")), "weights that are not finite"),
        "scores not finite": (with_weights(good, 1e38), "cannot decide"),
        "no weights": (changed(good, weights={}), "weights that do not fit"),
    }


@pytest.mark.parametrize("kind", list(bad_files(shipped_path())))
def test_a_bad_candidate_is_refused_with_its_reason_and_the_live_one_decides(live: Live, tmp_path: Path, kind: str) -> None:
    """By the command before anything changes, and by the scheduler whatever stands in its row."""
    good = file_of(tmp_path / "good.pt", 1)
    content, said = bad_files(good)[kind]
    promote(register_checkpoint(good, store=live.store).name, store=live.store, actor="me")
    before = live.decided()
    bad = live.put("bad", content)

    with pytest.raises(RequestRejected, match=said):
        promote("bad", store=live.store, actor="me")
    (tmp_path / "bad.pt").write_bytes(content)
    if kind != "other policy":
        with pytest.raises(CheckpointError, match=said):
            register_checkpoint(tmp_path / "bad.pt", store=live.store)
    assert live.decided() == before
    live.store.promote(bad, actor="somebody with psql")
    policy, checkpoint, note = live.decided()

    assert (policy, checkpoint) == before[:2]
    assert note.startswith(f"promoted {bad[:12]} refused: ")
    assert said in note
    assert said in live.store.find("bad").refused


def test_files_that_are_too_large_or_lost_are_refused(live: Live, tmp_path: Path) -> None:
    """By size before they are read; by the store, and its own constraint, too."""
    (tmp_path / "large.pt").write_bytes(bytes(MOST_BYTES + 1))

    with pytest.raises(CheckpointError, match=f"{MOST_BYTES + 1} bytes, expected at most {MOST_BYTES}"):
        register_checkpoint(tmp_path / "large.pt", store=live.store)
    with pytest.raises(CheckpointError, match=r"none.pt cannot be read: No such file"):
        register_checkpoint(tmp_path / "none.pt", store=live.store)
    with pytest.raises(TangoError, match="check constraint"):
        live.database.execute("INSERT INTO checkpoint_file VALUES (1, %s)", (bytes(MOST_BYTES + 1),))
    digest = register_checkpoint(file_of(tmp_path / "a.pt", 1), store=live.store).digest
    live.database.execute("DELETE FROM checkpoint_file")
    with pytest.raises(RequestRejected, match=r"has no file in the registry; add it again .*what is live stays"):
        promote("a", store=live.store, actor="me")
    live.store.promote(digest, actor="me")
    assert live.decided()[1] == SHIPPED


def test_whatever_a_file_says_of_its_training_can_be_kept(live: Live, tmp_path: Path) -> None:
    """Nothing in it keeps the row from being written, or moves a terminal's cursor."""
    odd = {
        "text": "a\0b\ud800\x1b[2J",
        "nan": float("nan"),
        "huge": 10**400,
        "weights": torch.ones(2),
        "list": [1, (2.5, None), {"deep": True}],
        7: "seven",
    }
    content = changed(file_of(tmp_path / "a.pt", 1), trained=odd, name="n\0\x1b[31mame")
    (tmp_path / "a.pt").write_bytes(content)

    stored = register_checkpoint(tmp_path / "a.pt", store=live.store)

    assert stored.name == "n[31mame"
    assert stored.trained == {
        "text": "ab?[2J",
        "nan": None,
        "huge": None,
        "weights": "Tensor",
        "list": [1, [2.5, None], {"deep": True}],
        "7": "seven",
    }
    (tmp_path / "b.pt").write_bytes(changed(tmp_path / "a.pt", trained={"text": "x" * 300_000}))
    with pytest.raises(CheckpointError, match="training configuration of more than 262144 characters"):
        register_checkpoint(tmp_path / "b.pt", store=live.store)


def test_only_a_placement_checkpoint_gets_a_role(live: Live) -> None:
    """`dsaco` is registered like the others, and decides elsewhere."""
    register_checkpoint(shipped_path("dsaco"), store=live.store)
    register_checkpoint(shipped_path("gnn-sac"), store=live.store)

    for ask, named in ((promote, "dsaco"), (promote, "gnn-sac"), (shadow, "dsaco")):
        with pytest.raises(UsageError, match=f"checkpoint {named} is of policy '{named}', expected"):
            ask(named, store=live.store, actor="me")
    shadow("gnn-sac", store=live.store, actor="me")
    live.decided()

    (summary,) = live.store.shadow_summaries(live.store.find("gnn-sac").digest)
    assert (summary.ticks, summary.skipped, summary.candidate_placed) == (1, 0, 3)


def test_a_shadow_records_its_differences_and_never_acts(live: Live, tmp_path: Path) -> None:
    """The shipped one beside itself differs in nothing; another one may, and no pod follows it."""
    same = register_checkpoint(shipped_path(), store=live.store)
    other = register_checkpoint(file_of(tmp_path / "other.pt", 3), store=live.store)
    shadow(same.name, store=live.store, actor="me")
    live.decided(requests=4)
    shadow("other", store=live.store, actor="me")
    live.decided(requests=5)

    rows = live.database.rows(
        "SELECT live, candidate, considered, live_placed, different, skipped, live_cpu_share, candidate_cpu_share "
        "FROM shadow_decision ORDER BY shadow_id"
    )
    assert rows[0][:6] == (SHIPPED, same.digest, 4, 4, 0, False)
    assert rows[0][6] == rows[0][7]
    assert rows[1][:4] == (SHIPPED, other.digest, 5, 5)
    assert len(live.clusters.placed) == 9
    assert {row[0] for row in live.database.rows("SELECT checkpoint FROM decision")} == {SHIPPED}
    run_id = max(run.run_id for run in live.world.runs.runs())
    cancel_whole(live.world.runs, run_id)
    live.world.runs.delete(run_id)
    assert len(live.database.rows("SELECT FROM shadow_decision")) == 1


# ---- the commands ----------------------------------------------------------------------------------------------------------------


@dataclass
class Commands:
    """`tango checkpoint` on a database of its own."""

    urls: DatabaseUrls

    def run(self, *line: str) -> Result:
        """A command as the shell would give it; its talk is in `stderr`."""
        return CliRunner().invoke(cli, ["checkpoint", *line])

    def json(self, *line: str) -> Any:
        """What it prints with `-o json`; it must succeed."""
        done = self.run(*line, "-o", "json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def refused(self, *line: str) -> TangoError:
        """The error that it ends with."""
        done = self.run(*line)
        assert isinstance(done.exception, TangoError), done.output
        return done.exception


@pytest.fixture
def commands(database_urls: DatabaseUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """With an empty registry."""
    monkeypatch.setenv("TANGO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TANGO_DATABASE_URL", database_urls.app)
    monkeypatch.setenv("TANGO_BROKER_URL", "redis://127.0.0.1:1/0")
    stores.cache_clear()
    checkpoint_file.cache_clear()
    yield Commands(database_urls)
    stores().database.close()
    stores.cache_clear()
    checkpoint_file.cache_clear()


def test_a_file_is_added_listed_and_shown(commands: Commands, tmp_path: Path) -> None:
    """With what it was trained on; its bytes are in no listing."""
    file = file_of(tmp_path / "mine.pt", 1)

    added = commands.json("add", str(file), "--name", "june", "--note", "longer pods")
    (listed,) = commands.json("list")
    shown = commands.json("show", added["digest"][:8])
    table, wide = commands.run("list").stdout, commands.run("list", "-o", "wide").stdout

    assert listed == added
    assert (listed["name"], listed["policy"], listed["role"], listed["note"]) == ("june", "dcg-be", "", "longer pods")
    assert (listed["trained"], listed["code_version"], listed["size_bytes"]) == (
        {"seed": 1, "code_version": "0.1.0"},
        "0.1.0",
        file.stat().st_size,
    )
    assert {**listed, "scores": [], "history": [], "shadow": []} == shown
    assert "june" in table
    assert SCHEMA[:12] in wide
    assert "trained.seed" in commands.run("show", "june").stdout
    assert commands.run("list", "-o", "yaml").stdout.startswith("- name: june")


def test_roles_change_by_command_and_history_tells(commands: Commands, tmp_path: Path) -> None:
    """promote, shadow, demote, each said in words and shown as data."""
    for seed, name in enumerate(("one", "two")):
        commands.json("add", str(file_of(tmp_path / f"{name}.pt", seed)))

    assert commands.json("promote", "one")["role"] == "live"
    assert commands.json("shadow", "two")["role"] == "shadow"
    assert commands.json("promote", "two")["state"] == "waits for the scheduler"
    assert {row["name"]: row["role"] for row in commands.json("list")} == {"two": "live, shadow", "one": ""}
    assert commands.json("demote")["name"] == "one"
    assert commands.json("shadow", "--off")["digest"] is None
    assert "own file decides from the scheduler's next tick on" in commands.run("demote").stderr
    history = commands.json("show", "two")["history"]
    assert [event["action"] for event in history] == ["shadow-off", "demote", "promote", "shadow"]
    assert "demote" in commands.run("show", "two").stdout
    assert "nothing was in the shadow" in commands.run("shadow", "--off").stderr


@pytest.mark.parametrize(
    ("trained", "warned"),
    [
        ({}, "nothing is known of how well it places"),
        (
            {"validation_gain": 0.3, "validation_margin": 0.4},
            "not known to be better than load-greedy: +0.30 ± 0.40 (training's reward)",
        ),
        ({"validation_gain": 0.9, "validation_margin": 0.4}, ""),
    ],
)
def test_promote_says_what_is_not_known(commands: Commands, tmp_path: Path, trained: dict[str, float], warned: str) -> None:
    """A network that may be no better than none is for the user to decide."""
    commands.json("add", str(file_of(tmp_path / "one.pt", 1, known=trained)))

    done = commands.run("promote", "one")

    assert done.exit_code == 0
    assert warned in done.stderr
    assert ("warning" in done.stderr) is bool(warned)


def test_a_network_that_is_known_to_be_worse_is_promoted_only_by_force(commands: Commands, tmp_path: Path) -> None:
    """By its training, or by an evaluation, which is later and counts more."""
    worse = {"validation_gain": -1.27, "validation_margin": 0.42, "validation_reference": "load-greedy"}
    digest = commands.json("add", str(file_of(tmp_path / "one.pt", 1, known=worse)))["digest"]

    refused = commands.refused("promote", "one")

    assert refused.exit_status == 3
    assert "is worse than load-greedy: -1.27 ± 0.42 (training's reward)" in str(refused)
    assert [row["score"] for row in commands.json("list")] == ["-1.27 ± 0.42 (training's reward)"]
    assert commands.run("promote", "one", "--force").exit_code == 0
    stores().checkpoints.add_scores(
        digest,
        {
            "kind": "simulated",
            "rows": [
                {
                    "figure": "be_cpu_seconds_per_s",
                    "differences": {"load-greedy": {"value": 50.0, "mean": 1.0, "low": 0.5, "high": 1.5}},
                }
            ],
        },
    )
    again = commands.run("promote", "one")
    assert (again.exit_code, "warning" in again.stderr) == (0, False)
    assert [row["score"] for row in commands.json("list")] == ["+2.00 ± 1.00 % of BE throughput"]


@pytest.mark.parametrize("name", ["", " ", "-x", "a/b", "a b", "x" * 64])
def test_a_name_is_one_that_commands_can_take(commands: Commands, tmp_path: Path, name: str) -> None:
    """It is checked before the file is read."""
    refused = commands.refused("add", str(tmp_path / "not-there.pt"), f"--name={name}")

    assert refused.exit_status == 2
    assert "expected 1 to 63 letters" in str(refused)


def test_a_new_name_and_a_name_that_another_has_are_told(commands: Commands, tmp_path: Path) -> None:
    """Both are allowed, and neither happens without a word."""
    for seed, name in enumerate(("one", "two")):
        commands.json("add", str(file_of(tmp_path / f"{name}.pt", seed)))

    renamed = commands.run("add", str(tmp_path / "one.pt"), "--name", "two")

    assert "was registered as one; its name is two from now on" in renamed.stderr
    assert "has the same name; say which one you mean by its digest" in renamed.stderr


@pytest.mark.parametrize("verb", ["show", "promote", "shadow", "evaluate"])
def test_a_wrong_name_is_told_with_those_that_exist(commands: Commands, tmp_path: Path, verb: str) -> None:
    """Exit status 2."""
    commands.json("add", str(file_of(tmp_path / "mine.pt", 1)))

    error = commands.refused(verb, "yours")

    assert error.exit_status == 2
    assert "there is no checkpoint 'yours'" in str(error)
    assert "registered: mine (" in str(error)


def test_bad_usage_and_bad_files_are_told_apart(commands: Commands, tmp_path: Path) -> None:
    """Usage 2, refused input 3; nothing is registered."""
    (tmp_path / "text.pt").write_text("no network")

    assert commands.refused("demote").exit_status == 2
    assert commands.refused("shadow").exit_status == 2
    assert commands.refused("shadow", "mine", "--off").exit_status == 2
    for file, said in (("text.pt", "is damaged"), ("none.pt", "cannot be read")):
        error = commands.refused("add", str(tmp_path / file))
        assert (error.exit_status, said in str(error)) == (3, True)
    assert commands.refused("add", str(file_of(tmp_path / "a.pt", 1)), "--name", " ").exit_status == 2
    assert commands.refused("evaluate", str(tmp_path / "text.pt")).exit_status == 3
    assert commands.refused("evaluate", str(tmp_path / "a.pt"), "--pattern", "p9").exit_status == 2
    assert commands.refused("evaluate", str(tmp_path / "a.pt"), "--load", "much").exit_status == 2
    assert "expected one that places BE" in str(commands.refused("evaluate", str(shipped_path("dsaco"))))
    assert "No checkpoint is registered" in commands.run("list").stderr


def test_a_database_that_is_away_is_a_dependency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 4."""
    monkeypatch.setenv("TANGO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TANGO_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/tango")
    monkeypatch.setenv("TANGO_BROKER_URL", "redis://127.0.0.1:1/0")
    stores.cache_clear()
    try:
        done = CliRunner().invoke(cli, ["checkpoint", "list"])
    finally:
        stores.cache_clear()

    assert isinstance(done.exception, DependencyError)


SMALL = ("--fleet", "demo", "--pattern", "p1,p3", "--load", "0.5", "--duration", "6", "--seeds", "2")


def test_an_evaluation_is_paired_and_kept_with_a_registered_checkpoint(commands: Commands, tmp_path: Path) -> None:
    """Beside `load-greedy` and the shipped one; each entry names seeds, fleet and code."""
    file = file_of(tmp_path / "mine.pt", 1)
    only_printed = commands.json("evaluate", str(file), *SMALL)
    commands.json("add", str(file))
    file.unlink()

    kept = commands.json("evaluate", "mine", *SMALL)
    table = commands.run("evaluate", "mine", *SMALL).stdout

    assert (only_printed["kept"], kept["kept"]) == (False, True)
    assert only_printed["rows"] == kept["rows"]
    assert (kept["fleet"], kept["seeds"]) == ("demo", [3_000_000, 3_000_001])
    rows = {(row["scenario"], row["figure"]): row for row in kept["rows"]}
    assert {scenario for scenario, _ in rows} == {"p1@0.5", "p3@0.5"}
    to = rows["p3@0.5", "be_cpu_seconds_per_s"]["differences"]
    assert set(to) == {"load-greedy", "shipped"}
    assert to["shipped"]["low"] <= to["shipped"]["mean"] <= to["shipped"]["high"]
    assert "load-greedy" in table
    shown = commands.json("show", "mine")
    assert [entry["rows"] for entry in shown["scores"]] == [kept["rows"]] * 2
    assert shown["score"].endswith(" % of BE throughput")
    assert "p3@0.5" in commands.run("show", "mine").stdout


def test_the_shipped_checkpoint_is_as_good_as_itself(commands: Commands) -> None:
    """The measure has a zero."""
    scores = commands.json("evaluate", str(shipped_path()), *SMALL)

    assert {row["differences"]["shipped"]["mean"] for row in scores["rows"]} == {0.0}


def test_a_registered_checkpoint_is_simulated_by_name(commands: Commands, tmp_path: Path) -> None:
    """`simulate --checkpoint NAME` takes its file from the store."""
    digest = commands.json("add", str(file_of(tmp_path / "mine.pt", 1)))["digest"]
    (tmp_path / "mine.pt").unlink()
    line = ["simulate", "p3", "--fleet", "demo", "--duration", "5", "--no-bound", "--checkpoint", "mine"]

    done = CliRunner().invoke(cli, [*line, "-o", "json"])
    wrong = CliRunner().invoke(cli, [*line, "--system", "load-greedy"])

    assert json.loads(done.stdout)["checkpoint"] == digest[:12]
    assert isinstance(wrong.exception, UsageError)
    assert "by which none of these systems places BE: load-greedy (load-greedy)" in str(wrong.exception)


def test_a_worker_on_another_host_takes_the_file_from_the_registry(commands: Commands, tmp_path: Path) -> None:
    """It has none under the command's path; the result is under the same key."""
    file = file_of(tmp_path / "mine.pt", 1)
    digest = commands.json("add", str(file))["digest"]
    used = CheckpointFile(path=str(file), digest=digest, policy="dcg-be")
    cell = Cell(
        workload=Workload(lc=("p3",), be=("p3",), duration_s=5.0, load=0.5),
        fleet="demo",
        system=system("tango"),
        seed=1,
        bound=False,
        checkpoint=used,
    )
    here = run_cell(cell)
    file.unlink()
    claim = ClaimedSimulation(run_id=1, epoch=1, key=cell.key(), cell=cell.as_dict(), record=False)

    there = ClaimedCells(checkpoints=stores().checkpoints)(claim, lambda: None).result

    assert (there.key, there.figures["digest"], there.figures["checkpoint"]) == (here.key, here.figures["digest"], digest[:12])


def test_the_reader_may_read_roles_and_summaries(commands: Commands, tmp_path: Path) -> None:
    """What docs/sql.md shows works for the role that only reads."""
    commands.json("add", str(file_of(tmp_path / "mine.pt", 1)))
    commands.json("promote", "mine")
    with psycopg2.connect(commands.urls.reader) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT c.name FROM checkpoint_role r JOIN checkpoint c ON c.digest = r.live")
        assert cursor.fetchall() == [("mine",)]
        cursor.execute("SELECT action, actor IS NOT NULL FROM checkpoint_event")
        assert cursor.fetchall() == [("promote", True)]
    connection.close()
