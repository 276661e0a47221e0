"""JSON that others write and a process of Tango reads: of any depth, it is refused or taken for nothing, and ends nobody."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tango.control.observe_cluster import _termination_message
from tango.domain.jobs import progress_of
from tango.domain.line import LineState
from tango.domain.pod_marks import NODE_REPORT
from tango.errors import ConfigError, FileRefused
from tango.experiments.tuning import read_tuned
from tango.kube.kubeconfig_file import token_ends_at_s
from tango.node_agent.lease import parsed_report
from tango.store.backup import manifest_path, read_manifest
from workers.broker_transport import NoMessage, read

DEPTHS = (900, 1100, 100_000)
"""Below, around and far beyond what Python's own parser goes along with."""


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("opens", ["[", '{"a":'])
def test_what_a_pod_says_of_itself_ends_no_agent(depth: int, opens: str) -> None:
    """A termination message of 4 KiB is a thousand levels deep already; numbers may have any length too."""
    assert progress_of(opens * depth) is None
    assert _termination_message(opens * depth) == {}
    assert _termination_message('{"cpu_work_s": true, "started_s": "1"}') == {}
    assert math.isinf(_termination_message('{"cpu_work_s": 1' + "0" * 400 + "}").get("cpu_work_s", math.inf))


@pytest.mark.parametrize("depth", DEPTHS)
def test_annotations_and_tokens_are_taken_for_nothing(depth: int) -> None:
    """Whoever may write them may write anything."""
    token = base64.urlsafe_b64encode(b"[" * depth).decode()

    assert parsed_report({"metadata": {"annotations": {NODE_REPORT: "[" * depth}}}) is None
    assert token_ends_at_s({"token": f"a.{token}.c"}) == math.inf

    never = base64.urlsafe_b64encode(b'{"exp": 1' + b"0" * 400 + b"}").decode()
    assert token_ends_at_s({"token": f"a.{never}.c"}) == math.inf


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(
    ("reader", "error"),
    [
        (lambda text, _: LineState.of_text(text), ConfigError),
        (lambda text, _: read(text.encode()), NoMessage),
        (lambda _, path: read_tuned(path), ConfigError),
        (lambda text, path: read_manifest(_beside(path, text)), FileRefused),
    ],
    ids=["a line's state", "a message", "a result of tuning", "a manifest"],
)
def test_files_and_messages_are_refused(
    tmp_path: Path, depth: int, reader: Callable[[str, Path], object], error: type[Exception]
) -> None:
    """By the error that each has for what it cannot read."""
    path = tmp_path / "found"
    path.write_text("[" * depth)

    with pytest.raises(error):
        reader("[" * depth, path)


def _beside(path: Path, text: str) -> Path:
    manifest_path(path).write_text(text)
    return path
