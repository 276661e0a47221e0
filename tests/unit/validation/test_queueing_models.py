"""Queueing models whose answer is known, with a few thousand requests; the table as a whole takes minutes and is `tango validate`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tango.validation import formulas
from tango.validation.catalogue import Experiment, FormulaCell, experiments
from tango.validation.distributions import DETERMINISTIC, EXPONENTIAL
from tango.validation.estimates import Agreement
from tango.validation.execution import run_experiment
from tango.validation.queueing_models import (
    LeastOf,
    ManyNodes,
    OneNode,
    Overloaded,
    QueueingModel,
    Replication,
    TwoClasses,
    window_begins,
)


def shown(model: QueueingModel, count: int = 8) -> list[Replication]:
    """Some replications; what must hold in every model is looked at here."""
    made = [model.replicate(np.random.default_rng(k)) for k in range(count)]

    assert max(one.work_off for one in made) < 1e-9
    assert max(one.count_off for one in made) == 0
    return made


def mean(made: list[Replication], figure: str) -> float:
    """Over all replications."""
    return float(np.mean([one.figures[figure] for one in made]))


def test_cores_that_are_shared_take_erlangs_time() -> None:
    """Four cores at 0.7: 1.357 times the work, for short requests as for long ones."""
    made = shown(OneNode(cores=4, load=0.7, requests=8_000), 6)

    for figure in ("sojourn", "short", "long"):
        assert mean(made, figure) == pytest.approx(formulas.shared_sojourn(4, 0.7), rel=0.04)
    assert mean(made, "waited") == 0.0


def test_a_node_that_serves_in_turn_lets_others_wait() -> None:
    """Half as long with works that are all equal as with exponential ones; on the way the engine's counts obey Little's law."""
    made = shown(OneNode(cores=1, load=0.5, work=DETERMINISTIC, queue=True, requests=2_000, looks=True), 3)

    assert mean(made, "wait") == pytest.approx(0.5, rel=0.15)
    assert mean(made, "waited") == pytest.approx(0.5, rel=0.08)
    assert mean(made, "little") == pytest.approx(1.0, rel=0.05)


def test_the_less_loaded_of_two_nodes_is_taken() -> None:
    """Far from random, which takes 2 at a load of 0.5, and far above 1."""
    made = shown(ManyNodes(nodes=50, choices=2, load=0.5, requests=3_000), 2)

    assert mean(made, "sojourn") == pytest.approx(formulas.least_of(2, 0.5), rel=0.08)


def test_what_was_published_long_ago_misleads() -> None:
    """With every node a cluster and a publication every ten works, two choices are no better than one."""
    made = shown(ManyNodes(nodes=50, choices=2, load=0.5, period=10.0, requests=1_500), 2)

    assert mean(made, "sojourn") > 1.6


def test_what_goes_before_others_does_not_feel_them() -> None:
    """LC as if it were alone, BE with what it leaves."""
    made = shown(TwoClasses(first=0.3, second=0.2, requests=1_500), 2)

    assert mean(made, "lc") == pytest.approx(formulas.preemptive_first(0.3), rel=0.15)
    assert mean(made, "be") == pytest.approx(formulas.preemptive_second(0.3, 0.2), rel=0.25)


def test_an_overload_fills_a_node_as_a_fluid_does() -> None:
    """A thousand cores are nearly the limit of many."""
    made = shown(Overloaded(cores=300, overload=1.5, until=3.0, then=0.5, looks=(1.0, 3.0)), 6)

    for at in (1.0, 3.0):
        expected = formulas.fluid_in_system(at, overload=1.5, until=3.0, then=0.5)
        assert mean(made, f"at {at:g}") == pytest.approx(expected, rel=0.05)


def test_a_request_reaches_its_node_as_its_window_begins() -> None:
    """The first beginning at or after its due time, also where rounding puts that on either side."""
    window_s = 0.1 / 3
    due_s = np.concatenate(([0.0], np.arange(1, 2000) * window_s, np.random.default_rng(1).uniform(0, 66, 2000)))

    began_s = window_begins(due_s, window_s)

    assert (began_s >= due_s).all()
    assert ((np.round(began_s / window_s) - 1) * window_s < due_s).all()
    np.testing.assert_array_equal(began_s, np.round(began_s / window_s) * window_s)


def test_of_requests_in_one_batch_the_later_sees_the_earlier() -> None:
    """Two nodes, both drawn by everybody: four requests are shared out evenly."""
    policy = LeastOf(8, np.random.default_rng(1))
    snapshot = SimpleNamespace(in_flight=np.array([[0.0, 2.0]]), nodes=("a", "b"))

    plan = policy(cast("Any", range(4)), cast("Any", snapshot), cast("Any", None))

    assert np.bincount(plan.node, minlength=2).tolist() == [3, 1]


class Wrong:
    """A model that shows what it is told to show."""

    text = "wrong"

    def __init__(self, work_off: float = 0.0, count_off: int = 0) -> None:
        self._off = work_off, count_off

    def replicate(self, rng: np.random.Generator) -> Replication:
        """About 1."""
        return Replication(
            figures={"one": 1.0 + 1e-3 * rng.normal()},
            controls=(),
            requests=1,
            work_off=self._off[0],
            count_off=self._off[1],
        )


@pytest.mark.parametrize(("work_off", "count_off", "said"), [(0.0, 0, "holds"), (1e-6, 0, "fails"), (0.0, 1, "fails")])
def test_a_model_that_loses_work_or_requests_agrees_with_nothing(work_off: float, count_off: int, said: str) -> None:
    """However well its figure fits the formula."""
    cell = FormulaCell(figure="one", what="one", source="nobody", expected=lambda: 1.0)
    experiment = Experiment(name="w", group="w", model=Wrong(work_off, count_off), replications=10, cells=(cell,))

    [result] = run_experiment(experiment, seed=1)

    assert result.verdict is Agreement(said)


def test_an_experiment_gives_the_same_figures_again_and_others_for_another_seed() -> None:
    """Its seeds follow from its name."""
    model = OneNode(cores=1, load=0.5, work=EXPONENTIAL, requests=500)
    cell = FormulaCell(figure="sojourn", what="sojourn", source="Erlang C", expected=lambda: 2.0)
    experiment = Experiment(name="again", group="g", model=model, replications=5, cells=(cell,))

    first, again, other = (run_experiment(experiment, seed=seed)[0].measured for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_the_catalogue_has_each_experiment_once_and_enough_replications_for_its_controls() -> None:
    """Four controls at the most, so that six replications are the least for an interval."""
    everything = experiments()
    names = [one.name for one in everything]

    assert len(names) == len(set(names))
    assert min(one.replications for one in everything) >= 7
    assert sum(len(one.cells) for one in everything) >= 50
    assert {one.group for one in everything if one.short} >= {"one node, cores shared", "through an overload (fluid limit)"}
