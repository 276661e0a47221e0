"""A mistyped name of any kind is answered with the one that was meant."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tango.cli.failures import exit_status
from tango.cli.main import cli
from tango.fleets import dump_fleet, load_fleet


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("simualte p3", "simulate"),
        ("run sumbit", "submit"),
        ("simulate p3 --sytem tango", "--system"),
        ("run list --status runing", "running"),
        ("run list -o jsno", "json"),
        ("completion fihs", "fish"),
        ("help systms", "systems"),
        ("help run prnue", "prune"),
        ("simulate p3 --system tnago", "tango"),
        ("simulate p3 --be load-gredy", "load-greedy"),
        ("simulate p3 --lc dss-cl", "dss-lc"),
        ("simulate p3 --sharing statc", "static"),
        ("simulate p3 --fleet demoo", "demo"),
        ("simulate p3 --set sim.window=1", "lc_window_s"),
        ("simulate p3 --set sharnig.tick_s=1", "sharing"),
        ("compare p3 --systems tango,ceres --baseline ceers", "ceres"),
        ("train --out x.ckpt --policy dcg-bee --iterations 1", "dcg-be"),
        ("train --out x.ckpt --algorithm evolutoin --iterations 1", "evolution"),
        ("train --out x.ckpt --set episodes_s=60 --iterations 1", "episode_s"),
        ("run requests 1 --state faild", "failed"),
        ("up --home {folder}", "TANGO_BE_TICK_S"),
        ("up --detach --home {folder}", "TANGO_BE_TICK_S"),
        ("kubelet --kubeconfig k --context x --fleet demo --cluster cc1", "c1"),
        ("fleet show {folder}/fleet.yaml", "beta"),
    ],
)
def test_what_was_meant_stands_in_the_message(
    line: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands, options, systems and their parts, fleets, settings, learners, states, variables, clusters: status 2; keys of files: 3."""
    monkeypatch.setenv("TANGO_HOME", str(tmp_path))
    if line.startswith("up"):
        monkeypatch.setenv("TANGO_BE_TICKS", "0.5")
    (tmp_path / "fleet.yaml").write_text(dump_fleet(load_fleet("demo")).replace("  beta:", "  beeta:"))

    status = exit_status(cli, shlex.split(line.format(folder=tmp_path)))

    told = capsys.readouterr().err
    assert status == (3 if line.startswith("fleet show") else 2), told
    assert "id you mean" in told, told
    assert f"'{meant}'" in told
