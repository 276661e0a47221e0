"""What queueing theory says, against numbers that others have published, and against each other where two describe one model."""

from __future__ import annotations

import pytest

from tango.validation import formulas


@pytest.mark.parametrize(("load", "published"), [(0.7, 1.357), (0.8, 1.746), (0.9, 2.969)])
def test_four_cores_that_are_shared_take_what_erlangs_c_says(load: float, published: float) -> None:
    """Mean sojourn over mean work, 1 + C(4, 4 rho) / (4 (1 - rho))."""
    assert formulas.shared_sojourn(4, load) == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize(("load", "published"), [(0.8, 1.947), (0.9, 2.614), (0.99, 5.432)])
def test_the_shorter_of_two_queues_takes_what_mitzenmacher_says(load: float, published: float) -> None:
    """Table 1 of his paper has the same numbers."""
    assert formulas.least_of(2, load) == pytest.approx(published, abs=6e-4)


@pytest.mark.parametrize(("staffing", "published"), [(0.5, 0.5045), (1.0, 0.2234), (2.0, 0.0269)])
def test_the_limit_for_many_cores_is_that_of_halfin_and_whitt(staffing: float, published: float) -> None:
    """The probability of waiting."""
    assert formulas.halfin_whitt(staffing) == pytest.approx(published, abs=5e-5)


@pytest.mark.parametrize("staffing", [0.5, 1.0, 2.0])
def test_erlangs_c_comes_near_to_that_limit_as_cores_are_added(staffing: float) -> None:
    """The difference falls with the square root of the cores."""
    limit = formulas.halfin_whitt(staffing)
    off = [abs(formulas.erlang_c(c, formulas.load_at_staffing(c, staffing)) - limit) for c in (100, 2_500, 62_500)]

    assert off[2] < 0.02 * limit
    assert off[1] / off[0] == pytest.approx(0.2, abs=0.03)
    assert off[2] / off[1] == pytest.approx(0.2, abs=0.03)


def test_one_core_is_the_queue_that_everybody_knows() -> None:
    """1 / (1 - rho), whichever of the formulas says it."""
    for load in (0.3, 0.8, 0.95):
        alone = 1.0 / (1.0 - load)
        assert formulas.shared_sojourn(1, load) == pytest.approx(alone)
        assert formulas.least_of(1, load) == pytest.approx(alone)
        assert formulas.preemptive_first(load) == pytest.approx(alone)
        assert 1.0 + formulas.queueing_time_one_core(load, 1.0) == pytest.approx(alone)
        assert 1.0 + formulas.queueing_time(1, load) == pytest.approx(alone)


def test_two_classes_together_are_one_queue() -> None:
    """Little's law over both: r1 and r2 times their sojourns are the requests of a queue of load r1 + r2."""
    first, second = 0.3, 0.4
    together = first * formulas.preemptive_first(first) + second * formulas.preemptive_second(first, second)

    assert together == pytest.approx(0.7 / 0.3)


@pytest.mark.parametrize(("load", "choices"), [(0.5, 2), (0.7, 3)])
def test_a_board_that_is_always_new_is_as_good_as_looking(load: float, choices: int) -> None:
    """The period towards 0 gives the sum of the power of choices."""
    assert formulas.with_bulletin_board(choices, load, 0.05) == pytest.approx(formulas.least_of(choices, load), rel=0.02)


def test_a_board_that_is_old_is_worse_than_no_board_at_all() -> None:
    """At a load of 0.5 and a period of ten works everybody runs to where queues were short: worse than 1 / (1 - 0.5) at random."""
    old = [formulas.with_bulletin_board(2, 0.5, period) for period in (0.1, 1.0, 5.0, 10.0)]

    assert old == sorted(old)
    assert old[1] < 2.0 < old[-1]


def test_with_one_choice_a_board_tells_nothing() -> None:
    """Whatever it says, requests go to each node alike."""
    assert formulas.with_bulletin_board(1, 0.5, 3.0) == pytest.approx(2.0, rel=1e-6)


def test_the_solution_for_the_board_does_not_hang_on_its_steps() -> None:
    """Half the step and longer queues change less than a part in a hundred thousand."""
    fine = formulas.with_bulletin_board(2, 0.5, 2.0, step=0.02, levels=80)

    assert formulas.with_bulletin_board(2, 0.5, 2.0) == pytest.approx(fine, rel=1e-5)


def test_a_fluid_fills_grows_shrinks_and_comes_to_rest() -> None:
    """The parts of the solution meet: no step where one ends, and its slope is offered - min(x, 1) everywhere."""

    def at(t: float) -> float:
        return formulas.fluid_in_system(t, overload=1.5, until=4.0, then=0.5)

    for t in (0.5, 2.0, 3.5, 5.0, 8.0):
        offered = 1.5 if t < 4.0 else 0.5
        assert (at(t + 1e-6) - at(t - 1e-6)) / 2e-6 == pytest.approx(offered - min(at(t), 1.0), abs=1e-5)
    for t in (1.0986, 4.0, 6.9014):
        assert at(t + 1e-9) == pytest.approx(at(t - 1e-9), abs=1e-6)
    assert at(0.0) == 0.0
    assert at(40.0) == pytest.approx(0.5)


def test_loads_that_no_queue_survives_are_refused() -> None:
    """There is no mean to compare with."""
    for bad in (0.0, 1.0, 1.2):
        with pytest.raises(ValueError, match="load"):
            formulas.erlang_c(4, bad)
        with pytest.raises(ValueError, match="load"):
            formulas.least_of(2, bad)
        with pytest.raises(ValueError, match="load"):
            formulas.queueing_time_one_core(bad, 1.0)
    with pytest.raises(ValueError, match="overload"):
        formulas.fluid_in_system(1.0, overload=0.9, until=4.0, then=0.5)
