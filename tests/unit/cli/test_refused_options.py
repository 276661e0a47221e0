"""Options out of their bounds are a matter of usage: exit status 2, and nothing is read, written or started."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tango.cli.bounds import Real, Whole
from tango.cli.main import cli
from tango.errors import UsageError
from tests.unit.cli.test_help import commands


@pytest.mark.parametrize(
    "line",
    [
        "run prune --keep -1",
        "run list --limit -1",
        "run requests 1 --limit 0",
        "run submit x.csv --seed -1",
        "sql SELECT --limit 0",
        "sql SELECT --timeout -1",
        "demo --duration 0",
        "demo --duration nan",
        "demo --rate 0",
        "job submit --service s --priority 101",
        "job submit --service s --retries -1",
        "job submit --service s --deadline 0.5",
        "job submit --service s --deadline nan",
        "job submit --service s --retry-on 0,75",
        "job submit --service s --retry-on a,b",
        "job wait 1-1 --timeout nan",
        "job list --state gone",
        "cluster join edge --kubeconfig c --context x --rtt-ms -5",
        "cluster join edge --kubeconfig c --context x --bandwidth-mbit 0",
    ],
)
def test_a_number_out_of_bounds_is_refused_at_the_door(line: str) -> None:
    """The message names the option and its bounds."""
    done = CliRunner().invoke(cli, line.split(" "))

    assert done.exit_code == 2
    assert "Invalid value for '--" in done.output


def test_every_number_of_every_command_is_finite_and_fits_into_the_database() -> None:
    """Or it is refused with the name of its option: PostgreSQL would only say that a bigint is out of range, and NaN passes bounds."""
    plain = [
        f"{words} {parameter.name}"
        for words, command in commands()
        for parameter in command.params
        if isinstance(parameter.type, (click.types.IntParamType, click.types.FloatParamType, click.IntRange, click.FloatRange))
        and not isinstance(parameter.type, (Real, Whole))
    ]

    assert not plain
    with pytest.raises(click.BadParameter, match="it has 31 digits; at most 9223372036854775807 was expected"):
        Whole(min=1).convert(str(10**30), None, None)
    for text in ("nan", "inf", "1e999"):
        with pytest.raises(click.BadParameter, match="is no finite number"):
            Real(min=0).convert(text, None, None)


@pytest.mark.parametrize("name", ["Bad_Name", "-edge", "edge.7", "e" * 64])
def test_a_cluster_gets_a_name_that_kubernetes_would_take(name: str) -> None:
    """Names go into queues and worker names."""
    done = CliRunner().invoke(cli, ["cluster", "add", "--kubeconfig", "c", "--context", "x", "--", name])

    assert isinstance(done.exception, UsageError)
    assert "no name for a cluster" in str(done.exception)


@pytest.mark.parametrize("command", ["info {0} --skip-bad {0}", "convert {0} {0}", "convert {0} {0}.parquet --skip-bad {0}"])
def test_a_trace_is_never_written_over_while_it_is_read(tmp_path: Path, command: str) -> None:
    """Neither by its bad rows nor by its copy."""
    path = tmp_path / "trace.csv"
    path.write_text("arrival_s,class\n0.1,lc\nx,lc\n")
    before = path.read_bytes()

    done = CliRunner().invoke(cli, ["trace", *command.format(path).split(" ")])

    assert isinstance(done.exception, UsageError)
    assert path.read_bytes() == before
