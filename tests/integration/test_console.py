"""The console over real HTTP and on a real PostgreSQL: who gets in, what a browser is told, and that figures are those of SQL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tango.bootstrap.console import ConsolePlace, serving
from tango.bootstrap.console_reads import ProcessRows, does_of, reads_of
from tango.bootstrap.stores import Stores
from tango.console.pages import PAGES, Page
from tango.console.session import COOKIE, LASTS_S, ConsoleDoor
from tango.errors import StoreUnavailable
from tango.settings import Settings
from tests.fakes.store_world import BATCH, WEB, StoreWorld, postgres_world

TOKEN = "a-token-of-24-characters"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PROCESSES: list[Mapping[str, Any]] = [
    {"name": "beat", "role": "ticks", "pid": 1, "state": "running", "restarts": 0, "ended_s": None}
]


def shown(page: Page) -> str:
    """A path of the page."""
    return re.sub(r"{(\w+)}", lambda of: {"cluster": "c1", "run": "1", "runs": "1,2"}.get(of[1], "1-0"), page.path)


@dataclass(slots=True)
class Rig:
    """A console that listens, the world behind it, and somebody who calls."""

    url: str
    world: StoreWorld
    here: Stores
    session: aiohttp.ClientSession

    async def get(self, path: str, **of: Any) -> aiohttp.ClientResponse:
        """Read whole, redirects told as they are."""
        async with self.session.get(self.url + path, allow_redirects=False, **of) as answer:
            await answer.read()
            return answer

    async def events(self, query: str, names: Sequence[str]) -> dict[str, Any]:
        """The first event of each name that comes over the stream."""
        found: dict[str, Any] = {}
        async with self.session.get(f"{self.url}/stream?{query}", headers=BEARER) as answer:
            assert answer.status == 200
            name = ""
            async for line in answer.content:
                kind, _, text = line.decode().rstrip("\n").partition(": ")
                if kind == "event":
                    name = text
                elif kind == "data":
                    found.setdefault(name, json.loads(text))
                if set(names) <= set(found):
                    break
        return found


@contextlib.asynccontextmanager
async def rig_on(url: str, **changed: Any) -> AsyncIterator[Rig]:
    """Of this database; `changed` are fields of `Reads`."""
    world, here = postgres_world(url), Stores(Settings(database_url=url))
    reads = replace(reads_of(here, home=Path("/nowhere")), processes=lambda: PROCESSES, **changed)
    async with (
        serving(ConsolePlace(), ConsoleDoor(TOKEN), reads, does_of(here)) as port,
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session,
    ):
        yield Rig(f"http://127.0.0.1:{port}", world, here, session)


async def test_nothing_of_the_stack_is_shown_without_a_login(database_url: str) -> None:
    """Pages lead to the login, everything else is refused; a wrong token stays outside."""
    async with rig_on(database_url) as rig:
        paths = [shown(page) for page in PAGES]
        as_browser = [(await rig.get(path, headers={"Accept": "text/html"})) for path in paths]
        refused = [(await rig.get(path)).status for path in (*paths, "/stream?of=fleet", "/api/runs/1", "/api/whoami")]
        wrong = await rig.get("/", headers={"Authorization": "Bearer another-token-of-24-char"})

        assert {(answer.status, answer.headers["Location"]) for answer in as_browser} == {(303, "/login")}
        assert set(refused) == {401}
        assert wrong.status == 401
        assert (await rig.get("/login")).status == (await rig.get("/static/console.js")).status == 200


async def test_whoever_has_the_token_gets_a_cookie_that_scripts_cannot_read(database_url: str) -> None:
    """It is sent to this console alone, never from another site, and knows the name that was given."""
    async with rig_on(database_url) as rig:
        async with rig.session.post(f"{rig.url}/login", data={"token": "wrong"}) as answer:
            assert (answer.status, answer.cookies.get(COOKIE)) == (401, None)

        form = {"token": TOKEN, "name": "Ada"}
        async with rig.session.post(f"{rig.url}/login", data=form, allow_redirects=False) as answer:
            cookie = answer.cookies[COOKIE]
            assert answer.status == 303
        async with rig.session.get(f"{rig.url}/api/whoami") as answer:
            who = await answer.json()

        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
        assert TOKEN not in cookie.value
        assert who == {"name": "Ada"}
        async with rig.session.post(f"{rig.url}/logout", allow_redirects=False):
            pass
        assert (await rig.get("/api/whoami")).status == 401


def test_a_cookie_is_good_for_a_day_of_work_at_one_console() -> None:
    """Changed, too old, or of a console with another token it is nobody's."""
    now_s = [1000.0]
    door = ConsoleDoor(TOKEN, clock_s=lambda: now_s[0])
    cookie = door.cookie("Ada")
    body, _, signature = cookie.partition(".")

    assert door.visitor(cookie=cookie) is not None
    assert ConsoleDoor(TOKEN[::-1], clock_s=lambda: now_s[0]).visitor(cookie=cookie) is None
    assert door.visitor(cookie=f"{body}x.{signature}") is None
    assert door.visitor(cookie="") is None
    now_s[0] += LASTS_S + 1.0
    assert door.visitor(cookie=cookie) is None


async def test_a_page_runs_no_script_and_asks_no_host_but_the_console(database_url: str) -> None:
    """By its policy; and no page has a script or a style inside that the policy would stop."""
    async with rig_on(database_url) as rig:
        answers = [await rig.get(shown(page), headers=BEARER) for page in PAGES]
        answers.append(await rig.get("/login"))

        for answer in answers:
            policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
            text = await answer.text()
            assert (policy["default-src"], policy["script-src"], policy["frame-ancestors"]) == ("'none'", "'self'", "'none'")
            assert "unsafe" not in answer.headers["Content-Security-Policy"]
            assert (answer.headers["X-Content-Type-Options"], answer.headers["Cache-Control"]) == ("nosniff", "no-store")
            assert "<style" not in text
            assert " style=" not in text
            assert "http://" not in text
            assert "https://" not in text
            assert text.count("<script") == text.count('<script type="module" src="/static/')


async def test_a_page_of_another_site_can_neither_reach_nor_change_anything(database_url: str) -> None:
    """Not under a name of its own that leads here, and not by sending a form."""
    async with rig_on(database_url) as rig:
        renamed = await rig.get("/", headers={**BEARER, "Host": "evil.example"})
        async with rig.session.post(f"{rig.url}/login", data={"token": TOKEN}, headers={"Origin": "http://evil.example"}) as answer:
            foreign = answer.status

        assert (renamed.status, foreign) == (421, 403)


async def test_figures_of_the_stream_are_those_of_sql(database_url: str) -> None:
    """Nodes and CPU by cluster, what waits, runs with their counts, services with their shares."""
    async with rig_on(database_url) as rig:
        run_id = rig.world.create(BATCH, BATCH, WEB)
        rig.here.database.execute("UPDATE run SET started_at = now() - interval '60 s'")
        rig.world.release(run_id)

        found = await rig.events("of=fleet,lately,processes,runs", ["fleet", "lately", "processes", "runs"])

        fleet = found["fleet"]["value"]
        rows = rig.here.database.rows(
            "SELECT cluster, count(*)::int, sum(cpu_allocatable_millicores)::int FROM node GROUP BY 1 ORDER BY 1"
        )
        [(waiting,)] = rig.here.database.rows("SELECT count(*)::int FROM queue_position WHERE run_id = %s", (run_id,))
        assert [(c["name"], c["nodes"], c["cpu_millicores"]) for c in fleet["clusters"]] == rows
        assert sum(q["requests"] for q in fleet["queue"]) == waiting == 2
        assert [(r["run_id"], r["accepted"], r["waiting"]) for r in fleet["runs"]] == [(run_id, 3, 2)]
        assert fleet["maps"]["c1"]["name"] == ["c1-n1", "c1-n2"]
        assert found["processes"]["value"] == PROCESSES
        assert [r["run"] for r in found["runs"]["value"]] == [run_id]
        assert {event["trouble"] for event in found.values()} == {""}


async def test_a_cluster_s_page_gets_its_own_nodes_alone(database_url: str) -> None:
    """And nothing for a cluster that there is not; a subject that there is not is refused."""
    async with rig_on(database_url) as rig:
        one = await rig.events("of=cluster&cluster=c2", ["cluster"])
        none = await rig.events("of=cluster&cluster=c9", ["cluster"])

        assert one["cluster"]["value"]["nodes"]["name"] == ["c2-n1"]
        assert none["cluster"]["value"] is None
        refused = await rig.get("/stream?of=secrets", headers=BEARER)
        assert (refused.status, "there are actions, " in await refused.text()) == (400, True)


async def test_a_run_has_its_figures(database_url: str) -> None:
    """As `run_metric` has them; for a run that there is not the answer says so."""
    async with rig_on(database_url) as rig:
        run_id = rig.world.create(WEB)
        rig.here.database.execute("INSERT INTO run_metric (run_id, name, value) VALUES (%s, 'lc_qos_rate', 0.98)", (run_id,))

        async with rig.session.get(f"{rig.url}/api/runs/{run_id}", headers=BEARER) as answer:
            run = await answer.json()
        missing = await rig.get("/api/runs/99", headers=BEARER)

        assert (run["run"], run["accepted"], run["figures"]) == (run_id, 1, {"lc_qos_rate": 0.98})
        assert missing.status == 404
        assert "there is no run 99" in await missing.text()


async def test_many_who_look_cost_one_reading_and_nobody_costs_none(database_url: str) -> None:
    """Within the interval of the subject."""
    looks: list[float] = []

    def processes() -> list[Mapping[str, Any]]:
        looks.append(time.monotonic())
        return PROCESSES

    world, here = postgres_world(database_url), Stores(Settings(database_url=database_url))
    reads = replace(reads_of(here, home=Path("/nowhere")), processes=processes)
    async with serving(ConsolePlace(), ConsoleDoor(TOKEN), reads, does_of(here)) as port, aiohttp.ClientSession() as session:
        several = Rig(f"http://127.0.0.1:{port}", world, here, session)
        assert looks == []
        await asyncio.gather(*(several.events("of=processes", ["processes"]) for _ in range(8)))

    assert 1 <= len(looks) <= 2


async def test_pages_say_when_the_database_is_away_and_go_on_with_the_rest(database_url: str) -> None:
    """Processes of this machine are told by the supervisor's file."""

    class Away:
        def now(self) -> Any:
            raise StoreUnavailable("PostgreSQL does not answer at /run")

        def lately(self) -> Any:
            raise StoreUnavailable("PostgreSQL does not answer at /run")

    async with rig_on(database_url, view=Away()) as rig:
        found = await rig.events("of=fleet,processes", ["fleet", "processes"])

        assert found["fleet"] == {"trouble": "PostgreSQL does not answer at /run", "value": None}
        assert found["processes"]["value"] == PROCESSES


def test_a_process_that_was_started_anew_says_how_long_ago(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is back before anybody looked."""
    now_s, rows = [100.0], [{"name": "beat", "state": "running", "restarts": 2, "pid": 5, "role": "ticks"}]
    monkeypatch.setattr("tango.bootstrap.console_reads.supervisor_pid", lambda _: 1)
    monkeypatch.setattr("tango.bootstrap.console_reads.read_status", lambda _: {"processes": rows})
    told = ProcessRows(tmp_path, clock_s=lambda: now_s[0])

    first = told.rows()[0]["ended_s"]
    rows[0] = {**rows[0], "restarts": 3}
    second = told.rows()[0]["ended_s"]
    now_s[0] += 7.0

    assert (first, second, told.rows()[0]["ended_s"]) == (None, 0.0, 7.0)


async def test_a_request_is_told_with_its_way_and_its_attempts(database_url: str) -> None:
    """As the view `request_phases` has it."""
    async with rig_on(database_url) as rig:
        run_id = rig.world.create(BATCH)
        rig.world.release(run_id)

        async with rig.session.get(f"{rig.url}/api/requests/{run_id}-0", headers=BEARER) as answer:
            found = await answer.json()
        missing = await rig.get(f"/api/requests/{run_id}-7", headers=BEARER)

        assert (found["service"], found["state"], found["attempts"]) == ("batch", "released", [])
        assert found["explanation"]["reason"]
        assert missing.status == 404


async def test_runs_side_by_side_have_the_figures_that_they_kept(database_url: str) -> None:
    """In the order that was asked for; one run, or one that there is not, is refused."""
    async with rig_on(database_url) as rig:
        one, two = rig.world.create(WEB, name="a"), rig.world.create(WEB, name="b")
        kept = "INSERT INTO run_metric (run_id, name, value) VALUES (%s, 'lc_qos_rate', 0.9), (%s, 'lc_qos_rate', 0.95)"
        rig.here.database.execute(kept, (one, two))

        async with rig.session.get(f"{rig.url}/api/compare/{two},{one}", headers=BEARER) as answer:
            found = await answer.json()
        refused = [(await rig.get(f"/api/compare/{of}", headers=BEARER)).status for of in (str(one), f"{one},99")]

        assert [run["name"] for run in found["runs"]] == ["b", "a"]
        assert [(row["values"], row["better"]) for row in found["figures"]] == [([0.95, 0.9], 1)]
        assert refused == [404, 404]


async def test_what_is_no_number_is_refused_by_what_was_found(database_url: str) -> None:
    """A path that no answer could be for is the caller's mistake; a number too large for any run is one that there is not."""
    async with rig_on(database_url) as rig:
        paths = [f"/api/{path}" for path in ("runs/nan", "runs/-inf", "runs/1e5", "runs/٣", "runs/1234567890", "compare/1,NaN")]
        paths += [f"/api/{path}" for path in ("requests/nan-1", "requests/1-inf", "jobs/1", "jobs/1-1.5")]

        refused = [await rig.get(path, headers=BEARER) for path in paths]
        missing = await rig.get("/api/requests/999999999-9999999999", headers=BEARER)

        assert {answer.status for answer in refused} == {400}
        for path, answer in zip(paths, refused, strict=True):
            wrong = path.rpartition("/")[2].rpartition(",")[2]
            assert repr(wrong) in (await answer.json())["error"]
        assert missing.status == 404


async def test_a_defect_is_answered_in_words_that_a_page_can_tell(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON with what went wrong, where a page would wait for ever for anything else."""

    def broken(*_: object) -> object:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("tango.bootstrap.console_reads._compared", broken)
    async with rig_on(database_url) as rig:
        answer = await rig.get("/api/compare/1,2", headers=BEARER)

        assert (answer.status, (await answer.json())["error"]) == (500, "a defect in Tango: division by zero")


async def test_what_is_changed_is_recorded_with_who_did_it(database_url: str) -> None:
    """Also what was refused."""
    async with rig_on(database_url) as rig:
        run_id = rig.world.create(BATCH)
        form = {"token": TOKEN, "name": "Ada"}
        async with rig.session.post(f"{rig.url}/login", data=form, allow_redirects=False):
            pass

        statuses = []
        for _ in range(2):
            async with rig.session.post(f"{rig.url}/api/runs/{run_id}/cancel", headers={"Origin": rig.url}) as answer:
                statuses.append(answer.status)
        async with rig.session.post(f"{rig.url}/api/runs/{run_id}/cancel", headers={"Origin": "http://evil.example"}) as answer:
            statuses.append(answer.status)

        recorded = [(a["actor"], a["action"], a["subject"]) for a in rig.here.operator_actions.latest()]
        assert statuses == [200, 409, 403]
        assert rig.world.runs.run(run_id).status == "cancelling"
        assert recorded == [("Ada", "cancel run", str(run_id))] * 2
        assert rig.here.operator_actions.latest()[0]["outcome"].startswith("refused: ")
