"""The published fragmentation study, on its own data where that is there: beside the folder of real traces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tango.cli.main import cli
from tango.errors import UsageError
from tango.experiments.gpu_study import allocation_curve, policy_named, read_published, repeat_study, workloads_in


@pytest.fixture(scope="session")
def study_dir(traces_dir: Path) -> Path:
    """The folder `fgd` beside that of the traces."""
    path = traces_dir.parent / "fgd"
    if not path.is_dir():
        pytest.skip(f"no data of the fragmentation study: {path} does not exist")
    return path


def test_a_published_row_comes_out_number_for_number(study_dir: Path) -> None:
    """Default workload, seed 42: all 131 figures of FGD and best fit, since pods and nodes come in the order of the published seed."""
    command = ["bench", "fgd", "--data", str(study_dir), "--workload", "default", "--policy", "FGD", "--policy", "bestfit"]
    done = CliRunner().invoke(cli, [*command, "--seeds", "1", "-j", "1", "-o", "json"], catch_exceptions=False)
    fgd, best_fit = json.loads(done.stdout)

    assert (fgd["policy"], best_fit["policy"]) == ("FGD", "BestFit")
    assert (fgd["alike"], best_fit["alike"]) == (1, 1)
    assert fgd["allocated"] == pytest.approx(fgd["published"]) == pytest.approx(95.14)
    assert best_fit["over_fgd"] == pytest.approx(92.94 - 95.14)


def test_random_placement_is_near_the_published_mean(study_dir: Path) -> None:
    """Its numbers are others, so only the mean can agree: three seeds within the 0.3 points of ten."""
    [[row]] = list(repeat_study(study_dir, workloads=("cpu100",), policies=(policy_named("Random"),), seeds=(42, 43, 44)))

    assert row.difference == pytest.approx(0.0, abs=0.5)
    assert row.alike == 0


def test_means_of_workloads_follow_those_of_each(study_dir: Path) -> None:
    """Of all, and of those that Tango's own policy was not made on; here both are the same two, and their published mean stands beside."""
    best_fit = policy_named("BestFit")
    parts = list(repeat_study(study_dir, workloads=("cpu050", "cpu100"), policies=(best_fit,), seeds=(42, 43)))
    cpu050, cpu100, everything, held_out = (row for part in parts for row in part)

    assert [row.workload for row in (cpu050, cpu100, everything, held_out)] == ["cpu050", "cpu100", "all", "held out"]
    assert everything.allocated == pytest.approx((cpu050.allocated + cpu100.allocated) / 2)
    assert held_out.allocated == everything.allocated == pytest.approx(held_out.published)


def test_the_published_table_is_read_as_it_stands(study_dir: Path) -> None:
    """Mean of the default workload's ten seeds with FGD: 95.23 at 100 % arrived, as the paper has it."""
    published = read_published(study_dir)

    assert len(published) == 720
    assert np.mean([published["default", "FGD", seed][100] for seed in range(42, 52)]) == pytest.approx(95.23, abs=0.005)


def test_a_curve_tells_what_is_allocated_at_each_per_cent_that_has_arrived() -> None:
    """Ten devices; three pods of one device each, of which the second was refused; then one without a device."""
    curve = allocation_curve(np.array([1000, 0, 1000, 0]), np.array([1000, 1000, 1000, 0]), 10_000)

    assert (curve[10], curve[20], curve[30]) == (10.0, 10.0, 20.0)
    assert curve[11] == 10.0  # that of its neighbour
    assert np.isnan(curve[15])


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    """A folder without lists, a policy that there is not."""
    with pytest.raises(UsageError, match="no pod list openb_pod_list_NAME"):
        workloads_in(tmp_path)
    with pytest.raises(UsageError, match=r"no GPU policy 'BestFitt'.*BestFit"):
        policy_named("BestFitt")
