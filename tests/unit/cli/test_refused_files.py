"""Exit status of a command to which a file is given: 3 for what stands in it, whatever kind of file it is."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tango.cli.failures import exit_status
from tango.cli.main import cli
from tango.errors import FileRefused
from tango.experiments.tuning import read_tuned
from tango.store.backup import manifest_path, read_manifest

NO_TEXT = b"\xff\xfe{\x00"


@pytest.mark.parametrize(
    "line",
    [
        "fleet show {file}.yaml",
        "up --home {folder} --fleet {file}.yaml",
        "simulate p3 --fleet {file}.yaml",
        "service apply -f {file}",
        "cluster check edge --kubeconfig {file} --context edge",
        "simulate p3 --fleet single --be {file}.py:place",
        "simulate p3 --fleet single --checkpoint {file}.pt",
        "trace info {file}",
        "apiserver --port 0 --token-file {file} --data-dir {folder}",
    ],
)
@pytest.mark.parametrize("content", [NO_TEXT, b"{a: [", b"a\n"], ids=["no text", "cut", "something else"])
def test_a_file_that_is_refused_is_no_matter_of_usage(
    line: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fleets, services, kubeconfigs, policies, checkpoints, traces and token files alike, with the file's name and without a traceback."""
    monkeypatch.setenv("TANGO_HOME", str(tmp_path / "home"))
    for ending in ("", ".yaml", ".py", ".pt"):
        (tmp_path / f"given{ending}").write_bytes(content)

    status = exit_status(cli, shlex.split(line.format(file=tmp_path / "given", folder=tmp_path / "home")))

    told = capsys.readouterr().err
    assert (status, "given" in told) == (3, True), told


@pytest.mark.parametrize(
    "line",
    [
        "fleet show {file}.yaml",
        "service apply -f /dev/zero",
        "cluster check edge --kubeconfig /dev/zero --context edge",
        "cluster check edge --kubeconfig {file} --context edge",
        "simulate p3 --fleet single --checkpoint {file}.pt",
        "apiserver --port 0 --token-file /dev/zero --data-dir {folder}",
        "request web --data @/dev/zero --url http://127.0.0.1:1",
    ],
)
def test_a_device_without_end_is_read_no_further_than_a_file_may_be_long(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also the one that a kubeconfig names; whoever reads it to its end takes all memory that there is."""
    monkeypatch.setenv("TANGO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TANGO_TOKEN", "t")
    monkeypatch.setattr("tango.settings.callers.MOST_BODY_KIB", 1024)  # in place of 1 GiB, which two tests at once need not take
    for ending in (".yaml", ".pt"):
        (tmp_path / f"given{ending}").symlink_to("/dev/zero")
    (tmp_path / "given").write_text(
        "clusters: [{name: k, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: u, user: {tokenFile: /dev/zero}}]\n"
        "contexts: [{name: edge, context: {cluster: k, user: u}}]\n"
    )

    status = exit_status(cli, shlex.split(line.format(file=tmp_path / "given", folder=tmp_path / "home")))

    assert status == 3, capsys.readouterr().err


def test_results_and_backups_are_refused_alike(tmp_path: Path) -> None:
    """What `tango tune` and `tango database backup` did not write."""
    (tmp_path / "given").write_bytes(b"{}")
    manifest_path(tmp_path / "given").write_bytes(NO_TEXT)

    for read in (read_tuned, read_manifest):
        with pytest.raises(FileRefused, match="given") as refused:
            read(tmp_path / "given")
        assert refused.value.exit_status == 3
