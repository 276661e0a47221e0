"""What the pods of services use, read from metrics."""

from __future__ import annotations

from typing import Any

import pytest

from tango.control.measure_services import ServiceMeter
from tango.domain.observations import PodEnd, ServiceUsage
from tests.fakes.pod_templates import api_service, job_service

Json = dict[str, Any]


def pod(name: str) -> Json:
    """A pod of Tango's."""
    return {"metadata": {"name": name, "namespace": "tango", "uid": f"uid-{name}"}}


def using(name: str, *containers: tuple[str, str]) -> dict[tuple[str, str], Json]:
    """Metrics of a pod: CPU and memory of each container."""
    return {("tango", name): {"containers": [{"usage": {"cpu": cpu, "memory": memory}} for cpu, memory in containers]}}


def end(name: str, *, phase: str = "Succeeded", ran_s: float = 40.0) -> PodEnd:
    """The end of a BE pod that started at 100."""
    return PodEnd(
        run_id=1,
        request_id=1,
        epoch=1,
        pod=name,
        uid=f"uid-{name}",
        phase=phase,
        reason="",
        started_at_s=100.0,
        finished_at_s=100.0 + ran_s,
        cpu_work_done_s=None,
    )


def test_an_instance_s_usage_is_added_up_over_time() -> None:
    """Half a core for ten seconds, of both containers together; the first reading only begins."""
    meter, pods = ServiceMeter(), [(api_service(), pod("a"))]
    usage = using("a", ("400m", "100Mi"), ("100m", "28Mi"))

    meter.read(pods, usage, 0.0)
    meter.read(pods, usage, 10.0)

    assert meter.take() == [ServiceUsage(service="my-api", cpu_s=pytest.approx(5.0), memory_mib=128.0)]
    assert meter.take() == []


def test_of_a_gap_nothing_is_said() -> None:
    """Minutes in which nobody read, as while the cluster was away."""
    meter, pods = ServiceMeter(), [(api_service(), pod("a"))]
    for at_s in (0.0, 300.0, 305.0):
        meter.read(pods, using("a", ("1", "10Mi")), at_s)

    (found,) = meter.take()
    assert found.cpu_s == pytest.approx(5.0)


def test_a_job_s_work_is_its_mean_usage_times_the_time_that_it_ran() -> None:
    """A quarter of a core over forty seconds; it counts once, however often its end is told."""
    meter, pods = ServiceMeter(), [(job_service(), pod("b"))]
    meter.read(pods, using("b", ("200m", "64Mi")), 0.0)
    meter.read(pods, using("b", ("300m", "80Mi")), 10.0)
    meter.read(pods, using("b", ("200m", "70Mi")), 20.0)

    meter.ended("transcode", end("b"))
    meter.ended("transcode", end("b"))

    assert meter.take() == [ServiceUsage(service="transcode", cpu_s=pytest.approx(10.0), memory_mib=80.0, answered=1)]


def test_jobs_that_failed_or_were_never_measured_say_nothing_of_work() -> None:
    """Half a job's work would make the next one look small."""
    meter, pods = ServiceMeter(), [(job_service(), pod("b"))]
    for at_s in (0.0, 10.0):
        meter.read(pods, using("b", ("1", "64Mi")), at_s)

    meter.ended("transcode", end("b", phase="Failed"))
    meter.ended("transcode", end("short"))

    assert meter.take() == [ServiceUsage(service="transcode", memory_mib=64.0)]


def test_what_could_not_be_told_is_told_the_next_time() -> None:
    """Added to what has come since."""
    meter = ServiceMeter()
    meter.give_back([ServiceUsage(service="a", cpu_s=1.0, memory_mib=5.0, answered=2)])
    meter.give_back([ServiceUsage(service="a", cpu_s=2.0, memory_mib=3.0, answered=1)])

    assert meter.take() == [ServiceUsage(service="a", cpu_s=3.0, memory_mib=5.0, answered=3)]


def test_memory_is_a_sample_beside_the_requests_in_flight_of_each_instance() -> None:
    """Two on one node share what it has; a figure that is told again is no new one, and a sidecar is not the instance."""
    api = api_service()
    pods = [(api, {**pod(name), "spec": {"nodeName": node}}) for name, node in (("a", "n1"), ("b", "n1"), ("c", "n2"))]

    def using_at(stamp: str, mib: int) -> dict[tuple[str, str], Json]:
        main, beside = (
            {"name": api.container, "usage": {"cpu": "0", "memory": f"{mib}Mi"}},
            {"name": "proxy", "usage": {"memory": "9Mi"}},
        )
        return {("tango", name): {"timestamp": stamp, "containers": [main, beside]} for name in "abc"}

    meter = ServiceMeter()
    for stamp, mib, n1, n2 in (("t1", 100, 2.0, 0.0), ("t1", 100, 6.0, 6.0), ("t2", 140, 10.0, 4.0)):
        meter.read(pods, using_at(stamp, mib), 0.0, {(api.name, "n1"): n1, (api.name, "n2"): n2})
    meter.read(pods, using_at("t3", 999), 0.0)

    (found,) = meter.take()
    assert (found.by_load.samples, found.by_load.degrees) == (6.0, 3.0)
    assert (found.by_load.loads, found.by_load.memory) == (1.0 + 1.0 + 0.0 + 5.0 + 5.0 + 4.0, 3 * 100.0 + 3 * 140.0)
    assert found.by_load.load_spread == pytest.approx(3 * 4.0**2 / 2)
    assert found.by_load.both_spread == pytest.approx(3 * 4.0 * 40.0 / 2)


def test_of_jobs_no_memory_by_load_is_known() -> None:
    """Their pods are one request each."""
    meter = ServiceMeter()
    meter.read([(job_service(), pod("b"))], using("b", ("1", "64Mi")), 0.0, {})

    assert meter.take()[0].by_load.samples == 0.0
