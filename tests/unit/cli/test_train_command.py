"""`tango train`: what cannot be trained is refused with words and a status, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tango.cli.failures import exit_status
from tango.cli.main import cli
from tango.training.files import TrainingFiles
from tango.training.learners import LEARNERS, configured


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--policy tango", "there is no policy 'tango' that learns, expected one of: dcg-be, gnn-sac, dsaco"),
        ("--policy gnn-sac --algorithm a2c", "gnn-sac does not learn by 'a2c', expected one of: sac"),
        ("--fleet mars", "there is no fleet 'mars'"),
        ("--fleet ./mars.yaml", "mars.yaml: found no such file"),
        ("--pattern p1,p7", "there is no pattern 'p7'; known patterns: p1, p2, p3, borg"),
        ("--load 1,0.5", "expected two numbers above 0, the lower one first"),
        ("--load much", "--load has 'much', expected a number"),
        ("--load 1,2,3", "expected one number, or two separated by a comma"),
        ("--seed 1000000", "seed is 1000000, expected 0 to 999999"),
        ("--steps 0", "0 is not in the range"),
        ("--set episode_s", "expected NAME=VALUE"),
        ("--set episodes=1.5", "episodes has '1.5', expected a whole number"),
        ("--set temperature=1", "dcg-be by evolution has no option temperature, expected some of noise"),
        ("--algorithm a2c --set temperature=1", "dcg-be by a2c has no option temperature"),
        ("--set episods=1", "or what any training has: drawn_share, episodes, episode_s"),
        ("--set noise=nan", "option noise is nan, expected a number"),
        ("--set episode_s=inf", "episode_s is inf, expected a number above 0"),
        ("--set episodes=1", "episodes is 1, expected 2 or more"),
        ("--set seed=2", "it has an option of its own, --seed"),
        ("--resume", "start the training without --resume"),
        ("--resume --overwrite", "expected one of them"),
    ],
)
def test_what_cannot_be_trained_is_refused(line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, the reason, and no file."""
    status = exit_status(cli, ["train", "--out", str(tmp_path / "x.ckpt"), *line.split()])

    assert status == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told_before_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not after forty minutes."""
    assert exit_status(cli, ["train", "--out", str(tmp_path / "none" / "x.ckpt")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_a_resumption_by_another_policy_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Even by one that does not learn by that algorithm."""
    out = tmp_path / "x.ckpt"
    files = TrainingFiles(out=out)
    files.write_state({"config": configured("dcg-be").recipe()})

    assert exit_status(cli, ["train", "--out", str(out), "--resume", "--policy", "dsaco"]) == 2
    assert "is of another training: policy was 'dcg-be' and is 'dsaco'" in capsys.readouterr().err


def test_help_names_every_algorithm(capsys: pytest.CaptureFixture[str]) -> None:
    """And the one by which a policy learns unless told otherwise first."""
    assert exit_status(cli, ["train", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for policy, algorithm in LEARNERS:
        assert policy in said
        assert algorithm in said


def test_another_training_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in the way is named with what can be done."""
    out = tmp_path / "x.ckpt"
    out.write_bytes(b"precious")

    assert exit_status(cli, ["train", "--out", str(out)]) == 2
    assert f"{out} exists; go on with that training by --resume, replace it by --overwrite" in capsys.readouterr().err
    assert out.read_bytes() == b"precious"
