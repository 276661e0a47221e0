"""A gateway among what people have: nginx before it as docs/gateway.md has it, `hey`, and far too many callers at once."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
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
    """Served, accepted, or told to come again: each gets an answer, and what was answered 200 or 202 has its row."""
    before = stack.rows("SELECT count(*) FROM request WHERE service = 'odd'")[0][0]
    found, told_well = asyncio.run(_all_at_once(variables))

    accepted = before + sum(count for status, count in found.items() if status not in (429, 503))
    ended = "SELECT run_id || '-' || request_id, state::text FROM request WHERE service = 'odd' AND state::text <> ALL (%s)"
    states = dict(until(lambda: rows if len(rows := stack.rows(ended, (LIVE_STATES,))) >= accepted else None, every_s=1.0))
    assert sum(found.values()) == CALLERS
    assert set(found) <= {200, 202, 429, 502, 503, 504}, found
    assert found[200] > 100
    assert {states.get(request) for request in told_well[200]} == {"succeeded"}
    assert set(told_well[202]) <= states.keys()


async def _all_at_once(variables: dict[str, str]) -> tuple[Counter[int], dict[int, list[str]]]:
    """(statuses, requests by status where it was good): every tenth caller does not wait."""
    statuses, well = Counter[int](), {200: list[str](), 202: list[str]()}
    headers = {"Authorization": f"Bearer {variables['TANGO_TOKEN']}", "Tango-Timeout-Ms": "60000"}
    url, broken = f"{variables['TANGO_GATEWAY_URL']}/s/odd/burst", list[str]()

    async def call(k: int) -> None:
        sent = headers | ({"Prefer": "respond-async"} if k % 10 == 0 else {})
        try:
            async with session.get(url, headers=sent) as response:
                await response.read()
                statuses[response.status] += 1
                if response.status in well:
                    well[response.status].append(response.headers["Tango-Request"])
        except aiohttp.ClientError as error:
            broken.append(repr(error))

    timeout = aiohttp.ClientTimeout(total=200.0)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        await asyncio.gather(*map(call, range(CALLERS)))
    assert broken == []
    return statuses, well
