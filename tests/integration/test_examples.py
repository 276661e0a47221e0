"""The services of examples/ on a running stack: what their files declare is what runs, and it does real work."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml
from celery import Celery

from tango.client import ClientError, Tango
from tango.kube.api_client import KubeClient
from tango.settings import KubeSettings
from tests.integration.live_stack import ROOT, LiveStack
from tests.waiting import until

pytestmark = [pytest.mark.timeout(300)]

Json = dict[str, Any]
EXAMPLES = ROOT / "examples"
SHOP = "/api/v1/namespaces/shop/pods"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    """The fleet of the examples, with all of their services declared."""
    made = LiveStack(tmp_path_factory.mktemp("examples") / "home")
    try:
        made.start(EXAMPLES / "fleet.yaml")
        for name in ("checkpoint-job", "adopted-deployment"):
            done = made.tango("service", "apply", "-f", str(EXAMPLES / name / "service.yaml"))
            assert done.returncode == 0, done.stderr
        done = made.tango("service", "apply", "-f", str(EXAMPLES / "image-service" / "service.yaml"), "--wait", "--timeout", "120")
        assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "image-info: 2 of 2 instances ready"), done.stderr
        yield made
    finally:
        made.stop()


def ready(stack: LiveStack, service: str) -> list[tuple[str, str, int, int]]:
    """(pod, address, port, CPU limit) of the ready instances of a service, as the centre knows them."""
    query = "SELECT pod, pod_ip, port, cpu_limit_millicores FROM instance WHERE service = %s AND ready ORDER BY pod"
    return [(pod, str(ip), port, limit) for pod, ip, port, limit in stack.rows(query, (service,))]


def inspected(address: str, port: int, image: bytes) -> tuple[int, Json]:
    """Status and answer of an instance of the image service."""
    request = urllib.request.Request(f"http://{address}:{port}/v1/inspect", data=image)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def png(width: int, height: int) -> bytes:
    """A black picture."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 1) * height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def cluster_calls(stack: LiveStack, *calls: tuple[str, str, Json | None]) -> list[Json]:
    """Calls to the cluster's API server as its administrator, one after the other."""

    async def make() -> list[Json]:
        path = str(stack.home / "kubeconfig")
        async with await KubeClient.from_kubeconfig(path, "edge-1-admin", KubeSettings(), cluster="edge-1") as client:
            return [await client.request(method, path, body=body) for method, path, body in calls]

    return asyncio.run(make())


def test_the_image_service_answers_on_every_node(stack: LiveStack) -> None:
    """Real bytes in, real answers out, from each of its instances; a body that is no image is refused by the service itself."""
    instances = until(lambda: found if len(found := ready(stack, "image-info")) == 2 else None)
    assert [pod for pod, *_ in instances] == ["lc-image-info-edge-1-n1-0", "lc-image-info-edge-1-n2-0"]

    for _, address, port, _ in instances:
        status, answer = inspected(address, port, png(31, 17))
        assert (status, answer["format"], answer["width"], answer["height"]) == (200, "png", 31, 17)
        assert inspected(address, port, b"GIF89a" + struct.pack("<HH", 5, 6))[1]["width"] == 5
        assert inspected(address, port, b"no image at all")[0] == 415


def test_the_image_service_answers_through_a_gateway(stack: LiveStack, tmp_path: Path) -> None:
    """As a caller sends it: the service's own path, the picture as body, the service's answer; its own refusal is told as one."""
    until(lambda: len(ready(stack, "image-info")) == 2)
    for name, content in (("picture", png(40, 30)), ("text", b"no image")):
        (tmp_path / name).write_bytes(content)

    def sent(name: str) -> CompletedProcess[str]:
        return stack.tango("request", "image-info", "--path", "/v1/inspect", "--data", f"@{tmp_path / name}", "--timeout", "20")

    # The centre may know a moment before the gateway that an instance is ready: until then it says that none is.
    good = until(lambda: None if "no instance of image-info is ready" in (done := sent("picture")).stderr else done)
    bad = sent("text")

    assert good.returncode == 0, good.stderr
    assert (json.loads(good.stdout)["width"], json.loads(good.stdout)["format"]) == (40, "png")
    assert bad.returncode == 1
    assert "415" in bad.stderr


def test_another_celery_application_sends_a_picture_and_fetches_the_answer(stack: LiveStack) -> None:
    """By the broker alone it gets the id of its request; what is refused comes back as the error, and is no request."""
    until(lambda: len(ready(stack, "image-info")) == 2)
    known = json.loads((stack.home / "stack.json").read_text())
    app = Celery("somebody-elses", broker=known["broker_url"], backend="rpc://")
    app.conf.broker_transport_options = {"global_keyprefix": "tango."}

    def send(**order: Any) -> Any:
        return app.send_task("tango.request", kwargs={"path": "/v1/inspect", **order}, queue="submit.edge-1").get(timeout=30)

    picture = base64.b64encode(png(12, 34)).decode()
    request = send(service="image-info", body_base64=picture)
    with pytest.raises(Exception, match=r"'image-inf', no LC service.*image-info"):
        send(service="image-inf", body_base64=picture)
    url = dict(line.removeprefix("export ").split("=", 1) for line in stack.tango("env").stdout.splitlines())
    headers = {"Authorization": f"Bearer {url['TANGO_TOKEN']}"}
    asked = urllib.request.Request(f"{url['TANGO_GATEWAY_URL']}/requests/{request}/answer", headers=headers)

    def answer() -> Json | None:
        with urllib.request.urlopen(asked, timeout=10) as found:
            return json.loads(found.read()) if found.status == 200 else None

    assert until(answer)["height"] == 34


def test_a_job_that_saves_its_state_goes_on_where_it_was_evicted(stack: LiveStack, tmp_path: Path) -> None:
    """Evicted, it saves within its grace period and loses nothing; the next attempt begins there and counts the same primes."""
    below, primes = 1_800_000, 135_072
    done = stack.tango("job", "submit", "--service", "count-primes", "--", "--below", str(below), "--state", str(tmp_path))
    assert done.returncode == 0, done.stderr
    job = done.stdout.strip()
    run, request = job.split("-")
    row = "SELECT pod, state FROM request WHERE run_id = %s AND request_id = %s"
    (pod, _) = until(lambda: next((r for r in stack.rows(row, (run, request)) if r[1] == "running"), None))
    until(lambda: list(tmp_path.glob("primes-*.json")))

    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    cluster_calls(stack, ("POST", f"/api/v1/namespaces/tango/pods/{pod}/eviction", eviction))

    waited = stack.tango("job", "wait", job, "--timeout", "120")
    assert waited.returncode == 0, waited.stderr
    log = stack.tango("job", "logs", job).stdout
    attempts = stack.rows(
        "SELECT outcome, work_lost_s FROM attempt WHERE run_id = %s AND request_id = %s ORDER BY epoch", (run, request)
    )
    assert f"{primes} primes below {below}" in log
    assert "attempt 2 goes on from" in log
    assert "attempt 2 goes on from 0" not in log
    assert [(outcome, lost) for outcome, lost in attempts] == [("requeued", 0.0), ("succeeded", 0.0)]


def test_what_a_service_uses_stands_beside_what_it_declares(stack: LiveStack) -> None:
    """Memory of a pod as it was measured; CPU work that nobody has declared is said to be assumed."""

    def seen() -> Json:
        shown = stack.json("service", "show", "image-info")
        return {row["figure"]: row for row in shown["figures"]} | {"assumed": shown["assumed"]}

    found = until(lambda: shown if (shown := seen())["pod_memory_mib"]["measured"] else None)
    assert 1.0 < found["pod_memory_mib"]["measured"] < 128.0
    assert (found["cpu_work_s"]["declared"], found["instance_memory_mib"]["declared"]) == (None, 128)
    assert found["assumed"] == ["cpu_work_s", "memory_mib"]


def owner_s_pod(name: str, node: str) -> Json:
    """A pod as the Deployment's controller would make it and a scheduler bind it."""
    template = yaml.safe_load((EXAMPLES / "adopted-deployment" / "deployment.yaml").read_text())["spec"]["template"]
    metadata = {**template["metadata"], "name": name, "namespace": "shop"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**template["spec"], "nodeName": node}}


def pictured(tango: Tango) -> bool:
    """Whether an adopted instance answers through the gateway."""
    try:
        return bool(tango.request("shop-api", "/v1/inspect", body=png(5, 6), timeout_s=5.0).json()["height"] == 6)
    except ClientError:
        return False


def test_pods_of_a_deployment_are_used_as_long_as_their_owner_keeps_them(stack: LiveStack) -> None:
    """They answer once they are ready; scaled down, rolled out, they go; Tango has made and deleted none."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    cluster_calls(stack, ("POST", "/api/v1/namespaces", namespace))

    def names() -> list[str]:
        return [pod for pod, *_ in ready(stack, "shop-api")]

    cluster_calls(
        stack, *(("POST", SHOP, owner_s_pod(name, node)) for name, node in (("api-a", "edge-1-n1"), ("api-b", "edge-1-n2")))
    )
    until(lambda: names() == ["shop/api-a", "shop/api-b"])
    for _, address, port, _ in ready(stack, "shop-api"):
        assert inspected(address, port, png(3, 4))[1]["height"] == 4

    # Callers come: under the system in force an instance may use its whole node, and both are the pods that their owner made.
    before = {pod: uid for pod, uid in stack.rows("SELECT pod, uid FROM instance WHERE service = 'shop-api'")}
    variables = stack.json("env")
    with Tango(variables["TANGO_GATEWAY_URL"], token=variables["TANGO_TOKEN"], retries=0) as tango:
        until(lambda: pictured(tango))
        until(lambda: [limit for *_, limit in ready(stack, "shop-api")] != [1000, 1000] and pictured(tango))
    resized = next(pod for pod, *_, limit in ready(stack, "shop-api") if limit != 1000)
    (of_server,) = cluster_calls(stack, ("GET", f"{SHOP}/{resized.removeprefix('shop/')}", None))
    assert of_server["spec"]["containers"][0]["resources"]["limits"]["cpu"] != "1"
    assert of_server["status"]["containerStatuses"][0]["restartCount"] == 0
    assert {pod: uid for pod, uid in stack.rows("SELECT pod, uid FROM instance WHERE service = 'shop-api'")} == before

    # A rolling update: a new pod, then an old one goes.
    cluster_calls(stack, ("POST", SHOP, owner_s_pod("api-c", "edge-1-n1")))
    until(lambda: names() == ["shop/api-a", "shop/api-b", "shop/api-c"])
    cluster_calls(stack, ("DELETE", f"{SHOP}/api-a", None))
    until(lambda: names() == ["shop/api-b", "shop/api-c"])

    # Withdrawn, the pods stay where they are.
    # Refused while the centre has not been told that its last request has ended.
    until(lambda: stack.tango("service", "delete", "shop-api").returncode == 0)
    until(lambda: names() == [])

    def left() -> list[tuple[str, str]]:
        (found,) = cluster_calls(stack, ("GET", SHOP, None))
        return sorted(
            (p["metadata"]["name"], p["status"]["phase"]) for p in found["items"] if "deletionTimestamp" not in p["metadata"]
        )

    assert left() == [("api-b", "Running"), ("api-c", "Running")]
