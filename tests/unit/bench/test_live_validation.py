"""What the requests of a live run say of a queueing model. A run itself is in the long suite."""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import pytest

from tango.bench.live_validation import BATCH_S, MODELS, WORK_S, LiveModel, ServedOnNode, compared
from tango.validation.distributions import DETERMINISTIC, EXPONENTIAL
from tango.validation.estimates import Agreement
from tango.validation.exact_sharing import shared_sojourns_s
from tests.commands import run_tango

BEGINS = tuple(5.0 + BATCH_S * k for k in range(6))


def served(model: LiveModel, times: float, rng: np.random.Generator) -> ServedOnNode:
    """Poisson arrivals on a node that shares its cores, whose sojourns are so many times what that makes them."""
    count = rng.poisson(model.rate_per_s * (BEGINS[-1] + BATCH_S))
    work = model.work.drawn(rng, count)
    due_s = np.sort(rng.uniform(0.0, BEGINS[-1] + BATCH_S, count))
    sojourn = shared_sojourns_s(due_s, work * WORK_S, model.cores) / WORK_S
    return ServedOnNode(due_s=due_s, started_s=due_s, work=work, sojourn=times * sojourn)


@pytest.mark.parametrize(("times", "agreement"), [(1.0, Agreement.HOLDS), (1.3, Agreement.FAILS)])
def test_a_node_that_does_as_theory_says_holds_and_another_fails(times: float, agreement: Agreement) -> None:
    """In the mean of all, of the longest works, and beside exact sharing of the same starts."""
    rng = np.random.default_rng(4)
    model = LiveModel(cores=4, load=0.7, work=EXPONENTIAL, clusters=2)

    results = compared(model, [served(model, times, rng) for _ in range(model.clusters)], BEGINS)

    assert [result.figure for result in results] == [
        "sojourn / work",
        "sojourn / work of the longest fifth",
        "sojourn / that of exact sharing of the same starts",
    ]
    assert {result.verdict for result in results} == {agreement}
    assert {result.replications for result in results} == {len(BEGINS) * model.clusters}


def test_requests_outside_of_the_batches_do_not_count() -> None:
    """Those of the warm-up, and of the end, beside which nobody arrives any more. Equal works have no short and long ones."""
    rng = np.random.default_rng(5)
    model = LiveModel(cores=1, load=0.5, work=DETERMINISTIC, clusters=1)
    one = served(model, 1.0, rng)
    outside = (one.due_s < BEGINS[0]) | (one.due_s >= BEGINS[-1] + BATCH_S)
    other = dataclasses.replace(one, sojourn=np.where(outside, 1e9, one.sojourn))

    assert compared(model, [other], BEGINS) == (results := compared(model, [one], BEGINS))
    assert {result.requests for result in results} == {np.count_nonzero(~outside)}


def test_requests_that_start_together_miss_the_formula_and_not_exact_sharing() -> None:
    """What the way of the requests does is told from what the node does."""
    rng = np.random.default_rng(6)
    model = LiveModel(cores=4, load=0.8, work=DETERMINISTIC, clusters=2)

    def together(one: ServedOnNode) -> ServedOnNode:
        started_s = np.ceil(one.due_s / 0.5) * 0.5
        sojourn = shared_sojourns_s(started_s, one.work * WORK_S, model.cores) / WORK_S
        return dataclasses.replace(one, started_s=started_s, sojourn=sojourn)

    by_formula, by_sharing = compared(model, [together(served(model, 1.0, rng)) for _ in range(model.clusters)], BEGINS)

    assert by_formula.verdict is Agreement.FAILS
    assert by_sharing.verdict is Agreement.HOLDS


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_live_stack_agrees_with_theory() -> None:
    """Ten minutes of requests on a stack of its own; alone on its machine, as all that measures times."""
    done = run_tango(("validate", "--live", "600", "-o", "json"), environment=os.environ, timeout_s=1100.0)

    cells = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert len({cell["model"] for cell in cells}) == len(MODELS)
    assert "fails" not in [cell["verdict"] for cell in cells]
