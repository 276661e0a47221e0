"""Scores of GPU policies on a node that can be reckoned by hand: 8 cores free, one device empty and one with 400 thousandths left."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tango.domain.gpus import MOST_DEVICES
from tango.scheduling.gpu.columns import AFFINITIES, DeviceColumns, KindColumns, TypicalPods
from tango.scheduling.gpu.filling import FillingKinds, filling_score, unusable, update_unusable
from tango.scheduling.gpu.fitting import NOWHERE, fits
from tango.scheduling.gpu.fragmentation import descent_score, fragmentation, update_fragmentation
from tango.scheduling.gpu.published_scores import best_fit_score, clustering_score, dot_product_score, packing_score

LEFT = np.zeros(MOST_DEVICES, np.int64)
PART, HALF, WHOLE, BOTH, NO_DEVICE, OTHER_MODEL = range(6)


def ints(*values: int) -> np.ndarray:
    """An array of them."""
    return np.array(values, np.int64)


def kinds() -> KindColumns:
    """400 thousandths and 1 core; half a device; one device; two devices; no device; half a device of another model."""
    return KindColumns(
        cpu=ints(1000, 1000, 4000, 4000, 2000, 1000),
        memory=ints(1, 1, 1, 1, 1, 1),
        devices=ints(1, 1, 1, 2, 0, 1),
        thousandths=ints(400, 500, 1000, 1000, 0, 500),
        accepted=ints(0b11, 0b11, 0b11, 0b11, 0b11, 0b10),
    )


def node(*free: int, cpu: int = 8000, tenants: tuple[int, ...] = ()) -> DeviceColumns:
    """One node of model 0; each of `tenants` is the row of a pod on it."""
    found = np.zeros((1, MOST_DEVICES), np.int64)
    found[0, : len(free)] = free
    on_it = np.bincount(np.array(tenants, np.int64), minlength=AFFINITIES).astype(np.int64)[None, :]
    return DeviceColumns(ints(cpu), ints(1 << 20), found, ints(len(free)), ints(0), on_it, np.zeros(1))


def typical() -> TypicalPods:
    """Half of all ask for a device and 4 cores, 0.3 for 500 thousandths and 10 cores, the others for no device."""
    return TypicalPods(
        cpu=ints(4000, 10_000, 1000),
        thousandths=ints(1000, 500, 0),
        devices=ints(1, 1, 0),
        accepted=ints(0b11, 0b11, 0b11),
        share=np.array([0.5, 0.3, 0.2]),
    )


def test_a_pod_fits_where_one_device_has_enough() -> None:
    """Not where two have it together, where they are of another model, or where CPU is short."""
    assert fits(node(1000, 400), 0, kinds(), HALF)
    assert not fits(node(400, 400), 0, kinds(), HALF)
    assert not fits(node(1000, 400), 0, kinds(), BOTH)
    assert not fits(node(1000, 400), 0, kinds(), OTHER_MODEL)
    assert not fits(node(1000, 400, cpu=900), 0, kinds(), PART)
    assert fits(node(), 0, kinds(), NO_DEVICE)


def test_fragmentation_is_what_each_typical_pod_cannot_use() -> None:
    """The first can run, but not on the device with 400: 0.5 x 400. The second lacks CPU: 0.3 x 1400. The third counts all: 0.2 x 1400."""
    found = fragmentation(8000, ints(1000, 400), 2, 0, typical())

    assert found == pytest.approx(0.5 * 400 + 0.3 * 1400 + 0.2 * 1400)


def test_devices_of_another_model_are_lost_to_a_pod() -> None:
    """All 1,400 of them, for the half of the pods that ask for model 1."""
    other = typical()._replace(accepted=ints(0b10, 0b11, 0b11))

    assert fragmentation(8000, ints(1000, 400), 2, 0, other) == pytest.approx((0.5 + 0.3 + 0.2) * 1400)


def test_the_descent_fills_the_device_that_is_begun() -> None:
    """On it fragmentation falls from 900 to 0.3 x 1000 + 0.2 x 1000 = 500; on the empty one it rises to 1,000. 400 down: 59."""
    nodes = node(1000, 400)
    update_fragmentation(nodes, 0, typical())
    score, device = descent_score(nodes, 0, kinds(), PART, typical(), LEFT)

    assert nodes.fragments[0] == pytest.approx(900.0)
    assert device == 1
    assert score == math.floor(100 / (1 + math.exp(-0.4))) == 59


def test_a_pod_of_whole_devices_has_no_device_to_choose() -> None:
    """The empty device goes: 0.5 x 400 and 0.3 x 400 and 0.2 x 400 are left of 900."""
    nodes = node(1000, 400)
    update_fragmentation(nodes, 0, typical())

    assert descent_score(nodes, 0, kinds(), WHOLE, typical(), LEFT) == (math.floor(100 / (1 + math.exp(-0.5))), NOWHERE)


def test_best_fit_leaves_least() -> None:
    """100 (1 - (7000 / 128000 + 1000 / 8000) / 2) = 91.02."""
    assert best_fit_score(node(1000, 400), 0, kinds(), PART) == 91


def test_the_dot_product_is_taken_from_one() -> None:
    """100 (1 - (8 / 128 x 1 / 128 + 1400 / 8000 x 400 / 8000) / 2) = 99.54."""
    assert dot_product_score(node(1000, 400), 0, kinds(), PART) == 99


@pytest.mark.parametrize(("tenants", "score"), [((), 45), ((0,), 95), ((0, 1), 70), ((1,), 20)])
def test_clustering_likes_its_own_kind(tenants: tuple[int, ...], score: int) -> None:
    """Alone with its like 75, among others too 50, on an empty node 25, among others alone 0; and 25 x 6600 / 8000 for what is taken."""
    assert clustering_score(node(1000, 400, tenants=tenants), 0, kinds(), PART) == score
    assert clustering_score(node(1000, 400, tenants=tenants), 0, kinds(), NO_DEVICE) == 0


def test_packing_takes_shared_devices_first() -> None:
    """A shared device with 400 left: 100 - 4. An empty device beside it: 50 - 1. An empty node: 33 less its devices."""
    assert packing_score(node(1000, 400), 0, kinds(), PART) == 96
    assert packing_score(node(1000, 400), 0, kinds(), HALF) == 49
    assert packing_score(node(1000, 400), 0, kinds(), WHOLE) == 49
    assert packing_score(node(1000, 1000), 0, kinds(), BOTH) == 31
    assert packing_score(node(1000, 400), 0, kinds(), NO_DEVICE) == 0


def filling(*price: float) -> FillingKinds:
    """Half 400 thousandths and 4 cores, half a device and 2 cores; models cost nothing unless it is said."""
    return FillingKinds(
        cpu=ints(4000, 2000),
        memory=ints(0, 0),
        devices=ints(1, 1),
        thousandths=ints(400, 1000),
        accepted=ints(0b11, 0b11),
        weight=np.array([0.5, 0.5]),
        price=np.array(price or (0.0, 0.0)),
    )


def test_a_node_is_filled_with_one_kind_after_the_other() -> None:
    """CPU is for two of the first, three would fit the devices: 600 remain, and none is on a device too small for one. Of the second one
    fits, 400 remain, and 400 are on a device too small. 0.6 (400 / 2) + 0.4 (600 + 400) / 2.
    """
    assert unusable(8000, 4096, ints(1000, 400), 2, 0, filling()) == pytest.approx(0.6 * 200 + 0.4 * 500)


def test_what_lacks_memory_or_cpu_is_not_filled_at_all() -> None:
    """All 1,400 are lost to a kind of which none fits."""
    hungry = filling()._replace(memory=ints(5000, 5000))

    assert unusable(8000, 4096, ints(1000, 400), 2, 0, hungry) == pytest.approx(1400)
    assert unusable(1000, 4096, ints(1000, 400), 2, 0, filling()) == pytest.approx(1400)


def test_filling_takes_the_begun_device_and_pays_for_its_model() -> None:
    """320 unusable fall to 120 on the begun device, and rise to 620 on the empty one: 0.2 of a device is won. The model costs 0.4 x 0.25
    x 0.4 of a device, and 0.16 is one whole step of 0.1 over the level.
    """
    nodes = node(1000, 400)
    update_unusable(nodes, 0, filling())

    assert nodes.fragments[0] == pytest.approx(320.0)
    assert filling_score(nodes, 0, kinds(), PART, filling(0.25, 0.0), LEFT) == (1001.0, 1)


def test_pods_without_a_device_pay_for_the_cpu_they_take_alone() -> None:
    """2 of 8 cores: of the first kind one fits in place of two, 1,000 remain in place of 600; 0.4 x 200 thousandths are lost."""
    nodes = node(1000, 400)
    update_unusable(nodes, 0, filling(1.0, 1.0))

    assert filling_score(nodes, 0, kinds(), NO_DEVICE, filling(1.0, 1.0), LEFT) == (999.0, NOWHERE)
