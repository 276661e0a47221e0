"""Node and pod lists of the GPU trace, and the order of arrival that is drawn from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tango.domain.gpus import GpuNodes, GpuPods
from tango.errors import BadRows, UsageError
from tango.traces.gpu_arrivals import gpu_arrivals
from tango.traces.gpu_lists import read_gpu_nodes, read_gpu_pods

NODES = "sn,cpu_milli,memory_mib,gpu,model\nn2,64000,2048,2,T4\nn1,96000,4096,8,G2\nn3,8000,1024,0,\n"
PODS = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos\n"
    "p3,4000,1024,1,470,,LS\np1,4000,1024,0,0,,BE\np2,8000,1024,2,1000,T4|A100,LS\np4,4000,1024,1,470,,BE\n"
)


def nodes_of(folder: Path, text: str = NODES) -> GpuNodes:
    """Read from a list of this text."""
    (folder / "nodes.csv").write_text(text)
    return read_gpu_nodes(folder / "nodes.csv")


def pods_of(folder: Path, text: str = PODS) -> GpuPods:
    """Likewise."""
    (folder / "pods.csv").write_text(text)
    return read_gpu_pods(folder / "pods.csv")


def test_nodes_come_in_order_of_their_names(tmp_path: Path) -> None:
    """With devices and the bit of their model; a node without devices has some bit, which nothing asks for."""
    nodes = nodes_of(tmp_path)

    assert nodes.name == ("n1", "n2", "n3")
    assert nodes.devices.tolist() == [8, 2, 0]
    assert nodes.models == ("G2", "T4")
    assert nodes.model[:2].tolist() == [0, 1]
    assert nodes.thousandths == 10_000
    assert nodes.taken(np.array([1, 0])).name == ("n2", "n1")


def test_pods_that_ask_for_the_same_are_one_kind(tmp_path: Path) -> None:
    """Kinds are few and pods many; models that no node has are nobody's, and none at all means any."""
    pods, nodes = pods_of(tmp_path), nodes_of(tmp_path)

    assert pods.name == ("p1", "p2", "p3", "p4")
    assert pods.size.tolist() == [0, 2000, 470, 470]
    assert len(pods.kinds) == 3
    assert pods.kind[2] == pods.kind[3]
    assert pods.kinds.accepted(nodes)[pods.kind].tolist() == [0b11, 0b10, 0b11, 0b11]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (PODS.replace("p2,8000,1024,2,1000", "p2,8000,1024,2,500"), "1000 where num_gpu is above 1"),
        (PODS.replace("p3,4000,1024,1,470", "p3,4000,1024,1,0"), "1 to 1000 where it is 1"),
        (PODS.replace("p3,4000,1024,1,470", "p3,4000,1024,1,1470"), "from 0 to 1000"),
        (PODS.replace("p3,", "p1,"), "name p1 twice"),
        (PODS.replace("num_gpu", "gpus"), "num_gpu"),
    ],
)
def test_what_no_pod_can_ask_for_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    """Where, what was found, what was expected."""
    with pytest.raises(BadRows, match=says):
        pods_of(tmp_path, text)


def test_pods_arrive_until_so_many_devices_have(tmp_path: Path) -> None:
    """Each pod of the list once, shuffled, then more of them, drawn with replacement; the last one more would be too many."""
    pods, nodes = pods_of(tmp_path), nodes_of(tmp_path)
    drawn = gpu_arrivals(pods, nodes, seed=42, tune=1.3)

    assert sorted(drawn.pods[: len(pods)].tolist()) == [0, 1, 2, 3]
    assert 13_000 - 2000 <= pods.size[drawn.pods].sum() <= 13_000 + 1000
    assert sorted(drawn.nodes.tolist()) == [0, 1, 2]


def test_of_a_list_that_asks_for_too_much_pods_are_taken_out(tmp_path: Path) -> None:
    """At random, until no more than so many devices arrive."""
    pods, nodes = pods_of(tmp_path), nodes_of(tmp_path)
    drawn = gpu_arrivals(pods, nodes, seed=42, tune=0.25)

    assert len(set(drawn.pods.tolist())) == len(drawn.pods) < len(pods)
    assert pods.size[drawn.pods].sum() <= 2500


def test_a_list_without_a_device_fills_no_fleet(tmp_path: Path) -> None:
    """Pods would be drawn for ever."""
    text = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np1,4000,1024,0,0\n"

    with pytest.raises(UsageError, match="no pod of this list asks for a GPU"):
        gpu_arrivals(pods_of(tmp_path, text), nodes_of(tmp_path), seed=42)
