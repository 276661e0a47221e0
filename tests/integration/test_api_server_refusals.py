"""Refusals of every kind, as clusters of others give them: switched on by fault rules, in the words of real servers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tango.domain.refusal_kind import RefusalKind
from tango.kube.refusal_kinds import refusal_kind
from tests.integration.api_server_process import KUBELET, PODS, TANGO, ApiServerProcess, Calls, binding, pod
from tests.waiting import WITHIN_S, until

Json = dict[str, Any]
OWN = "/api/v1/namespaces/tango/pods"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServerProcess]:
    """A server that all tests here share; each clears its rules."""
    made = ApiServerProcess(tmp_path_factory.mktemp("refusals")).start()
    yield made
    made.kill()


@pytest.fixture
async def admin(server: ApiServerProcess) -> AsyncIterator[Calls]:
    """The administrator; clears rules and pods at the end."""
    async with server.calls() as calls:
        await calls.send("POST", "/api/v1/namespaces", {"metadata": {"name": "tango"}})
        yield calls
        await calls.send("DELETE", "/__faults")
        for path in (PODS, OWN):
            await calls.send("DELETE", path, gracePeriodSeconds="0")


async def setting(admin: Calls, *rules: Json) -> None:
    """Put rules in force."""
    await admin.ok("PUT", "/__faults", list(rules))


@pytest.mark.parametrize(
    ("fault", "status", "words", "kind"),
    [
        ("401", 401, "Unauthorized", RefusalKind.CREDENTIALS),
        ("rbac", 403, 'User "tango" cannot create resource "pods" in API group ""', RefusalKind.PERMISSION),
        ("service-account", 403, "error looking up service account tango/default", RefusalKind.NAMESPACE),
        ("webhook", 403, 'admission webhook "policy.example.com" denied the request', RefusalKind.ADMISSION),
        ("webhook-away", 500, "failed calling webhook", RefusalKind.ADMISSION),
        ("policy", 422, "ValidatingAdmissionPolicy 'not-here' with binding 'all' denied request", RefusalKind.ADMISSION),
        ("429", 429, "too many requests", RefusalKind.THROTTLED),
        ("500", 500, "Internal error occurred", None),
        ("503", 503, "currently unable to handle the request", None),
    ],
)
async def test_a_rule_refuses_the_calls_that_it_names(
    server: ApiServerProcess, admin: Calls, fault: str, status: int, words: str, kind: RefusalKind | None
) -> None:
    """By user, verb and path; Tango takes the answer for what it is, and others meet nothing."""
    await setting(admin, {"fault": fault, "user": "tango", "verb": "create", "path": "/pods"})
    async with server.calls(TANGO) as tango:
        found, body = await tango.send("POST", OWN, pod("a"))
        listed, _ = await tango.send("GET", OWN)

    assert (found, listed) == (status, 200)
    assert words in body["message"]
    assert refusal_kind(found, body) is kind
    assert (await admin.send("POST", OWN, pod("b")))[0] == 201


async def test_a_namespace_that_goes_takes_nothing_new(admin: Calls) -> None:
    """It waits for its finalizers, and says what it is."""
    await admin.ok("POST", "/api/v1/namespaces", {"metadata": {"name": "going", "finalizers": ["example.com/wait"]}})
    await admin.ok("DELETE", "/api/v1/namespaces/going")

    status, body = await admin.send("POST", "/api/v1/namespaces/going/pods", pod("a"))

    assert (status, refusal_kind(status, body)) == (403, RefusalKind.NAMESPACE)
    assert body["details"]["causes"][0]["reason"] == "NamespaceTerminating"


async def test_flow_control_answers_in_plain_text_with_a_time_to_wait(server: ApiServerProcess, admin: Calls) -> None:
    """So many times as the rule says; a client that reads JSON alone would fail here."""
    await setting(admin, {"fault": "flow-control", "user": "tango", "seconds": 7, "count": 1})
    async with server.calls(TANGO) as tango:
        async with tango.session.get(OWN) as answer:
            told = (answer.status, answer.headers["Retry-After"], answer.content_type, await answer.text())
        again, _ = await tango.send("GET", OWN)

    assert told == (429, "7", "text/plain", "Too many requests, please try again later.\n")
    assert again == 200


async def test_history_that_is_compacted_away_ends_watches_and_old_pages(admin: Calls) -> None:
    """A 410 in the stream that is open, one to a new watch, and one with a token to go on to a list."""
    for name in ("a", "b", "c"):
        await admin.ok("POST", PODS, pod(name))
    page = await admin.ok("GET", PODS, limit="1")
    version = page["metadata"]["resourceVersion"]
    query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(round(WITHIN_S))}
    async with admin.session.get(PODS, params=query) as stream:
        await admin.ok("POST", PODS, pod("d"))
        assert json.loads(await stream.content.readline())["type"] == "ADDED"
        await setting(admin, {"fault": "compact"})
        last = json.loads(await stream.content.readline())
        assert (last["type"], last["object"]["code"], last["object"]["reason"]) == ("ERROR", 410, "Expired")
        assert await stream.content.readline() == b""
    late = await admin.events(PODS, resourceVersion=version)
    assert (late[0]["type"], late[0]["object"]["code"]) == ("ERROR", 410)
    status, refused = await admin.send("GET", PODS, limit="1", **{"continue": page["metadata"]["continue"]})
    assert (status, refused["reason"]) == (410, "Expired")
    rest = await admin.ok("GET", PODS, **{"continue": refused["metadata"]["continue"]})
    assert [item["metadata"]["name"] for item in rest["items"]] == ["b", "c", "d"]
    assert (await admin.events(PODS, resourceVersion=rest["metadata"]["resourceVersion"])) == []


async def test_bookmarks_come_as_often_as_a_rule_says(admin: Calls) -> None:
    """Those who did not ask for them get none."""
    await setting(admin, {"fault": "bookmarks", "seconds": 0.05})
    version = (await admin.ok("GET", PODS))["metadata"]["resourceVersion"]

    events = await admin.events(PODS, resourceVersion=version, allowWatchBookmarks="true", timeout_s=WITHIN_S, until=2)

    assert {event["type"] for event in events} == {"BOOKMARK"}
    assert await admin.events(PODS, resourceVersion=version) == []


async def test_a_resize_beyond_the_node_is_forbidden_or_left_to_the_kubelet_by_older_servers(admin: Calls) -> None:
    """With the cause that tells it from a lack of permission."""
    await admin.ok("POST", "/api/v1/nodes", {"metadata": {"name": "n1"}})
    await admin.ok(
        "PATCH", "/api/v1/nodes/n1/status", {"status": {"allocatable": {"cpu": "4"}}}, kind="application/merge-patch+json"
    )
    await admin.ok("POST", PODS, pod("big"))
    await admin.ok("POST", f"{PODS}/big/binding", binding("big"))
    body = {"spec": {"containers": [{"name": "work", "resources": {"requests": {"cpu": "5"}, "limits": {"cpu": "6"}}}]}}
    kind = "application/strategic-merge-patch+json"

    status, refused = await admin.send("PATCH", f"{PODS}/big/resize", body, kind=kind)
    await setting(admin, {"fault": "older-resize"})
    taken, _ = await admin.send("PATCH", f"{PODS}/big/resize", body, kind=kind)

    assert (status, taken) == (403, 200)
    assert refused["details"]["causes"][0]["reason"] == "NodeCapacity"
    assert refusal_kind(status, refused) is None


async def test_no_quantity_is_an_error_of_the_server(admin: Calls) -> None:
    """What Kubernetes takes is written as it writes it, and everything else refused, wherever one may stand."""
    most = str(2**63 - 1)
    for k, (text, status, written) in enumerate(
        [
            ("1e1000000", 201, most),
            ("1e-1000000", 201, "1e-9"),
            ("9" * 900, 201, most),
            ("-1e99", 422, ""),
            ("1e", 400, ""),
            ("9" * 2000, 400, ""),
        ]
    ):
        asked = pod(f"p{k}")
        asked["spec"]["containers"][0]["resources"] = {"requests": {"cpu": text}}
        found, body = await admin.send("POST", PODS, asked)
        assert found == status, (text[:20], body)
        if written:
            assert body["spec"]["containers"][0]["resources"]["requests"]["cpu"] == written
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"requests.cpu": "1e1000000"}}}
    status, _ = await admin.send("POST", f"{PODS.rpartition('/')[0]}/resourcequotas", quota)
    assert status == 201
    await admin.ok("DELETE", f"{PODS.rpartition('/')[0]}/resourcequotas/q")


async def test_a_server_that_restarts_forbids_everything_until_it_has_read_its_roles(tmp_path: Path) -> None:
    """All but administrators; afterwards as before."""
    server = ApiServerProcess(tmp_path, "--rbac-after-s", "3600").start()
    try:
        async with server.calls(KUBELET) as kubelet, server.calls() as admin:
            assert (await admin.send("GET", "/api/v1/nodes"))[0] == 200
            status, body = await kubelet.send("GET", "/api/v1/nodes")
            assert (status, refusal_kind(status, body)) == (403, RefusalKind.PERMISSION)

            await admin.ok("DELETE", "/__faults")

            assert (await kubelet.send("GET", "/api/v1/nodes"))[0] == 200
    finally:
        server.kill()


def test_a_token_file_of_one_field_is_told_with_its_line(tmp_path: Path) -> None:
    """The server does not start, and says where, what it found and what it expected."""
    server = ApiServerProcess(tmp_path)
    (tmp_path / "tokens.csv").write_text("# tokens\nalone\n")
    process = server.launch()

    assert until(lambda: process.poll() is not None)
    assert process.returncode != 0
    assert (
        'tokens.csv:2: found 1 field, expected at least 3, as in token,user,uid,"group1,group2"' in (tmp_path / "log").read_text()
    )
