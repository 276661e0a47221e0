"""What `tango compare` makes of its command line, before anything is simulated."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from tango.cli.main import cli
from tango.errors import UsageError


@pytest.mark.parametrize(
    ("line", "scenario"),
    [
        ("p3 p3", "p3@0.8"),
        ("p3 --load 0.6 --load 0.8 --load 0.6", "p3@0.6"),
        ("p3 --beta 1 --beta 1.0", "p3@0.8 beta=1"),
    ],
)
def test_a_scenario_that_is_there_twice_is_refused(line: str, scenario: str) -> None:
    """Before the cells are simulated, since two results of one cell cannot be compared."""
    done = CliRunner().invoke(cli, ["compare", "--fleet", "paper", "--duration", "86400", *line.split(" ")])

    assert isinstance(done.exception, UsageError)
    assert f"the scenario {scenario!r} is there twice" in str(done.exception)


@pytest.mark.parametrize("systems", ["tango", "k8s-native,load-greedy"])
def test_a_judged_system_needs_others_beside_it(systems: str) -> None:
    """Known before the simulations begin."""
    done = CliRunner().invoke(cli, ["compare", "p3", "--fleet", "paper", "--systems", systems, "--judge", "tango"])

    assert isinstance(done.exception, UsageError)
    assert "the system 'tango' to be judged needs others beside it" in str(done.exception)


def test_simulate_takes_one_load() -> None:
    """Where the last one would win without a word, it says which command makes many."""
    done = CliRunner().invoke(cli, ["simulate", "p3", "--load", "0.6", "--load", "0.8"])

    assert isinstance(done.exception, UsageError)
    assert "`tango compare` makes many" in str(done.exception)
