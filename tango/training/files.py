"""The files of a training beside each other: the best checkpoint, the state to resume from, the curve.

    FILE               the checkpoint that validated best, as `tango.learning.checkpoint` writes it
    FILE.state         all that the next iteration depends on; tensors and plain containers, read with `weights_only`
    FILE.curve.jsonl   one line of JSON for each iteration, with its validation where it had one
    FILE.curve.svg     the same as a picture

Each is whole at any time: what is not appended in one write is written aside and renamed.
"""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tango.errors import CheckpointError, UsageError
from tango.files import usable
from tango.learning.checkpoint import plain_content

STATE_FORMAT = 1
"""Raised when what a state holds changes, so that none of another version is resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFiles:
    """The paths of a training's files, beside its checkpoint `out`."""

    out: Path

    @property
    def state(self) -> Path:
        """The state from which `--resume` continues."""
        return self._beside(".state")

    @property
    def curve(self) -> Path:
        """The learning curve as JSON lines, one per iteration."""
        return self._beside(".curve.jsonl")

    @property
    def picture(self) -> Path:
        """The learning curve as a picture (SVG)."""
        return self._beside(".curve.svg")

    def _beside(self, ending: str) -> Path:
        return self.out.with_name(self.out.name + ending)

    def require_new(self) -> None:
        """Raises: UsageError where a training would write over another."""
        for path in (self.out, self.state, self.curve):
            if path.exists():
                raise UsageError(
                    f"{path} exists; go on with that training by --resume, replace it by --overwrite, or name another file to write"
                )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other trainings from these files meanwhile. Raises: UsageError where another one is under way."""
        path = self.out.with_name(f".{self.out.name}.lock")
        held = _locked(path)
        while held is not None and not _is(held, path):  # who held it has ended and removed it meanwhile
            os.close(held)
            held = _locked(path)
        if held is None:
            raise UsageError(f"another training is writing {self.out}; wait for its end, or name another file")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(held)

    def write_state(self, content: Mapping[str, Any]) -> None:
        """Keep a state in place of the one before."""
        held = io.BytesIO()
        torch.save({"state_format": STATE_FORMAT, **content}, held)
        _replace(self.state, held.getbuffer())

    def read_state(self) -> dict[str, Any]:
        """The state that is kept. Raises: UsageError where there is none, CheckpointError for one that cannot be read."""
        if not self.state.exists():
            raise UsageError(f"there is no {self.state} to go on from; start the training without --resume")
        try:
            with self.state.open("rb") as file:
                found = plain_content(file)
        except Exception as error:  # torch raises many kinds for a damaged file
            raise CheckpointError(f"{self.state} is damaged ({type(error).__name__}); start again with --overwrite") from error
        if not isinstance(found, dict) or found.get("state_format") != STATE_FORMAT:
            raise CheckpointError(f"{self.state} is no state of a training by this version of Tango; start again with --overwrite")
        return found

    def append_row(self, row: Mapping[str, Any]) -> None:
        """Add a line to the curve, in one write, so that a training that is killed leaves whole lines."""
        line = (json.dumps(row, separators=(",", ":"), allow_nan=False) + "\n").encode()
        with usable(self.curve):
            held = os.open(self.curve, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                if os.write(held, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(held)

    def rows(self) -> list[dict[str, Any]]:
        """The curve as far as it is there; a line that is no JSON ends it."""
        found: list[dict[str, Any]] = []
        try:
            lines = self.curve.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return found
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found

    def write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Put a curve in place of the one before."""
        text = "".join(json.dumps(row, separators=(",", ":"), allow_nan=False) + "\n" for row in rows)
        _replace(self.curve, text.encode())

    def write_picture(self, text: str) -> None:
        """Put a picture in place of the one before."""
        _replace(self.picture, text.encode())

    def forget(self) -> None:
        """Remove what an earlier training left."""
        for path in (self.out, self.state, self.curve, self.picture):
            path.unlink(missing_ok=True)


def _locked(path: Path) -> int | None:
    """The open file, made where there is none, with a lock on it; None where another process has it."""
    with usable(path):
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return None
    except OSError:
        pass  # a file system that has no locks: nobody is kept away
    return held


def _is(held: int, path: Path) -> bool:
    """Whether the open file is the one of this name."""
    try:
        return os.path.samestat(os.fstat(held), path.stat())
    except FileNotFoundError:
        return False


def _replace(path: Path, content: bytes | memoryview) -> None:
    fresh = path.with_name(f".{path.name}.part")  # one name, so that what a killed training left is written over
    with usable(path):
        try:
            fresh.write_bytes(content)
            fresh.replace(path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
