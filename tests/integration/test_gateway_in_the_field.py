"""A gateway among what people have: nginx before it as docs/gateway.md has it, `hey`, and far too many callers at once."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from tango.client import CallFailed, Tango
from tango.domain.lifecycle import LIVE
from tests.integration.live_stack import ROOT, LiveStack
from tests.integration.odd_stack import FLEET, free_port, goes_on, is_served, row, running
from tests.waiting import until

pytestmark = [pytest.mark.timeout(400)]

CALLERS = 10_000
LIVE_STATES = [str(state) for state in LIVE]


@pytest.fixture(scope="module")
def stack(stack_of: Callable[[str], LiveStack]) -> LiveStack:
    """Running, and a first request has been answered."""
    found = stack_of(FLEET)
    variables = found.json("env")
    with Tango(variables["TANGO_GATEWAY_URL"], token=variables["TANGO_TOKEN"], retries=0) as tango:
        until(lambda: is_served(tango))
    return found


@pytest.fixture(scope="module")
def variables(stack: LiveStack) -> dict[str, str]:
    """What `tango env` prints."""
    return dict(stack.json("env"))


@pytest.fixture
def nginx(tmp_path: Path, variables: dict[str, str]) -> Iterator[str]:
    """The address of nginx as docs/gateway.md has it, with other ports and without a certificate."""
    program = shutil.which("nginx")
    if program is None:
        pytest.skip("nginx is not installed")
    (block,) = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs" / "gateway.md").read_text(), re.S)
    port = free_port()
    gateway = variables["TANGO_GATEWAY_URL"].removeprefix("http://")
    for before, after in (("server 127.0.0.1:8443;", f"server {gateway};"), ("listen 443 ssl;", f"listen 127.0.0.1:{port};")):
        assert block.count(before) == 1
        block = block.replace(before, after)
    temporary = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;\n" if os.geteuid() == 0 else ""
    (tmp_path / "nginx.conf").write_text(
        f"{user}pid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}{block}}}\n"
    )
    with running(
        [program, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path), "-e", "stderr", "-g", "daemon off;"]
    ) as process:
        until((tmp_path / "pid").exists, told=process.poll)
        yield f"http://127.0.0.1:{port}"


@pytest.mark.long
def test_nginx_before_a_gateway_changes_nothing_that_callers_see(stack: LiveStack, variables: dict[str, str], nginx: str) -> None:
    """Answers stream, problems are Tango's own, a caller who hangs up is heard of, and nothing is sent twice."""
    with Tango(nginx, token=variables["TANGO_TOKEN"], retries=0) as tango:
        with tango.stream("odd", "/stream", timeout_s=60.0) as answer:
            parts = answer.parts()
            first = next(parts)
            goes_on(stack)
            rest = b"".join(parts)
        echoed = tango.request("odd", "/echo", body=b"x" * 300_000, method="POST", timeout_s=20.0)
        failed = tango.request("odd", "/error", method="POST")
        with pytest.raises(CallFailed, match="is no service"):
            tango.request("odder", timeout_s=5.0)
        with tango.stream("odd", "/stream", timeout_s=60.0) as left:
            next(left.parts())

    assert (first, rest) == (b"part-0", b"part-1part-2part-3")
    assert b'"bytes": 300000' in echoed.body
    assert (failed.status, failed.body) == (500, b"own error")
    assert until(lambda: row(stack, left.request)[0] in ("cancelled", "failed"))
    run, _, number = failed.request.partition("-")
    assert until(lambda: stack.rows("SELECT epoch FROM attempt WHERE run_id = %s AND request_id = %s", (run, number))) == [(1,)]


@pytest.mark.long
def test_hey_is_answered_as_the_documentation_says(stack: LiveStack, variables: dict[str, str]) -> None:
    """Its command line is that of docs/gateway.md, on this service."""
    if shutil.which("hey") is None:
        pytest.skip("hey is not installed")
    (line,) = re.findall(r"^    (hey .*)$", (ROOT / "docs" / "gateway.md").read_text(), re.M)
    line = line.replace("-n 10000", "-n 2000").replace("my-api", "odd")

    done = subprocess.run(["bash", "-c", line], env=os.environ | variables, capture_output=True, text=True, timeout=200)

    statuses = {int(status): int(count) for status, count in re.findall(r"\[(\d{3})\]\s+(\d+) responses", done.stdout)}
    assert done.returncode == 0, done.stderr
    assert sum(statuses.values()) == 2000, done.stdout
    assert set(statuses) <= {200, 429, 503, 504}
    assert statuses[200] > 500


@pytest.mark.long
def test_ten_thousand_callers_at_once_are_each_told_and_none_that_was_told_well_is_lost(
    stack: LiveStack, variables: dict[str, str]
) -> None:
    """Served, accepted, or told when to come again, and whoever does so is served in the end; what was answered 200 or 202 has its row."""
    before = stack.rows("SELECT count(*) FROM request WHERE service = 'odd'")[0][0]
    burst = asyncio.run(_all_at_once(variables))
    print(burst.figures(), f"gateway {_rss_mib(stack, 'gateway'):.0f} MiB")

    ended = "SELECT run_id || '-' || request_id, state::text FROM request WHERE service = 'odd' AND state::text <> ALL (%s)"
    states = dict(
        until(
            lambda: rows if len(rows := stack.rows(ended, (LIVE_STATES,))) >= before + burst.accepted else None,
            every_s=1.0,
            told=burst.figures,
        )
    )
    assert burst.broken == []
    assert set(burst.first) <= {200, 202, 429, 503}, burst.figures()
    assert burst.first[200] > CALLERS // 20
    assert burst.without_time == []
    assert set(burst.last) <= {200, 202}, burst.figures()
    assert sum(burst.last.values()) == CALLERS
    assert {states.get(request) for request in burst.told_well[200]} == {"succeeded"}
    assert set(burst.told_well[202]) <= states.keys()


@dataclass(slots=True)
class _Burst:
    """What became of callers who all came at once, and came again when they were told to."""

    first: Counter[int] = field(default_factory=Counter)
    """What each was answered at first."""
    last: Counter[int] = field(default_factory=Counter)
    """And in the end."""
    told_well: dict[int, list[str]] = field(default_factory=lambda: {200: [], 202: []})
    """Requests by status."""
    without_time: list[int] = field(default_factory=list)
    """Statuses of refusals that did not say when to come again."""
    broken: list[str] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    """When each was answered in the end, from the beginning."""
    calls: int = 0

    @property
    def accepted(self) -> int:
        """Requests that have rows."""
        return sum(map(len, self.told_well.values()))

    def figures(self) -> str:
        """For people."""
        at_s = sorted(self.at_s) or [math.inf]
        half, most, last = (at_s[int(share * (len(at_s) - 1))] for share in (0.5, 0.9, 1.0))
        return (
            f"first {dict(self.first)}, in the end {dict(self.last)}, {self.calls} calls, {len(self.broken)} broken; half answered after "
            f"{half:.1f} s, nine tenths {most:.1f} s, all {last:.1f} s: {len(at_s) / last:.0f}/s"
        )


async def _all_at_once(variables: dict[str, str]) -> _Burst:
    """Callers with connections of their own. Every tenth does not wait for his answer."""
    found, headers = _Burst(), {"Authorization": f"Bearer {variables['TANGO_TOKEN']}", "Tango-Timeout-Ms": "60000"}
    url, loop = f"{variables['TANGO_GATEWAY_URL']}/s/odd/burst", asyncio.get_running_loop()
    began_s = loop.time()

    async def call(k: int) -> None:
        sent, tries = headers | ({"Prefer": "respond-async"} if k % 10 == 0 else {}), 0
        while True:
            found.calls += 1
            async with session.get(url, headers=sent) as response:
                await response.read()
            if not tries:
                found.first[response.status] += 1
            if response.status not in (429, 503):
                break
            if "Retry-After" not in response.headers:
                found.without_time.append(response.status)
            # As clients are advised to: later with each try, and not all at the same instant.
            again_s, tries = float(response.headers.get("Retry-After", 1.0)), tries + 1
            await asyncio.sleep(again_s * random.uniform(1.0, 1.0 + tries))
        found.last[response.status] += 1
        found.at_s.append(loop.time() - began_s)
        if response.status in found.told_well:
            found.told_well[response.status].append(response.headers["Tango-Request"])

    async def noted(k: int) -> None:
        try:
            await call(k)
        except aiohttp.ClientError as error:
            found.broken.append(repr(error))

    timeout = aiohttp.ClientTimeout(total=200.0)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True), timeout=timeout) as session:
        await asyncio.gather(*map(noted, range(CALLERS)))
    return found


def _rss_mib(stack: LiveStack, name: str) -> float:
    """The most memory that a process of the stack has held."""
    rows = json.loads((stack.home / "run" / "status.json").read_text())["processes"]
    pid = next(row["pid"] for row in rows if row["name"] == name)
    (held,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(held) / 1024
