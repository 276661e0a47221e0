"""Registered checkpoints as files on this host."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tango.bootstrap.checkpoint_files import file_here
from tango.domain.checkpoints import NewCheckpoint
from tango.errors import FileUnusable
from tests.fakes.checkpoints import MemoryCheckpointStore
from tests.fakes.memory_state import MemoryState

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def store() -> MemoryCheckpointStore:
    """A registry with one checkpoint."""
    made = MemoryCheckpointStore(MemoryState())
    made.register(
        NewCheckpoint(
            name="c",
            policy="dcg-be",
            digest=DIGEST,
            format_version=1,
            feature_schema="s",
            path="c.pt",
            trained={},
            content=CONTENT,
        )
    )
    return made


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state folder."""
    monkeypatch.setenv("TANGO_HOME", str(tmp_path))
    return tmp_path


def test_a_registered_checkpoint_is_copied_once_and_again_when_its_file_is_damaged(
    home: Path, store: MemoryCheckpointStore
) -> None:
    """Its name is its digest, so that what is there can be trusted after a look at it."""
    path = Path(file_here(DIGEST, "dcg-be", store).path)
    first = path.read_bytes()
    path.write_bytes(b"damaged")

    again = file_here(DIGEST, "dcg-be", store)

    assert path == home / "checkpoints" / f"{DIGEST}.pt"
    assert (first, path.read_bytes(), again.changed()) == (CONTENT, CONTENT, "")


def test_a_checkpoint_that_cannot_be_written_here_is_an_error_that_names_its_file(home: Path, store: MemoryCheckpointStore) -> None:
    """A folder stands in its place: no bare OSError reaches the cell or the command that needs the checkpoint."""
    (home / "checkpoints" / f"{DIGEST}.pt").mkdir(parents=True)

    with pytest.raises(FileUnusable, match=rf"{DIGEST}\.pt cannot be written"):
        file_here(DIGEST, "dcg-be", store)
