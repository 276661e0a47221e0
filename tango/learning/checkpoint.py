"""Checkpoint files: a reader checks all of a file before it uses any of it, and nothing in a file can run code."""

from __future__ import annotations

import hashlib
import io
import pickletools
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch

from tango.domain.checkpoints import MOST_BYTES
from tango.errors import CheckpointError
from tango.files import made_folder, read_bounded, write_whole
from tango.learning.features import SCHEMA
from tango.learning.network import PlacementNetwork

FORMAT_VERSION = 1
MOST_PICKLE = 4 << 20
"""Bytes of what a file's tensors are told by; that of a checkpoint has 3 KiB, of a state of a training 30."""
MOST_NAME = 200
"""Characters of a name that is imported. torch looks through its own message about one that it does not allow by a pattern whose time
grows with the square of the name's length: minutes for 70,000 characters."""
MOST_HIDDEN = 1024
"""Widest network that is read: a file must not make its reader allocate without bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A placement network and its provenance."""

    network: PlacementNetwork
    name: str
    digest: str
    """SHA-256 of the file."""
    path: str
    trained: dict[str, Any] = field(default_factory=dict)
    """Training configuration, code version and scores, as the training run wrote them."""


def save_checkpoint(network: PlacementNetwork, path: Path, *, name: str, trained: dict[str, Any], policy: str = "dcg-be") -> str:
    """Write a network, whole or not at all, and give the file's SHA-256."""
    return write_file(
        {
            "policy": policy,
            "feature_schema": SCHEMA,
            "name": name,
            "hidden": network.hidden,
            "trained": trained,
            "weights": network.state_dict(),
        },
        path,
    )


def load_checkpoint(path: Path, policy: str = "dcg-be") -> Checkpoint:
    """Read a placement network for inference.

    Raises: CheckpointError with what was found and expected, for a file that is missing, too large, damaged, of another format, policy
    or feature schema, or whose weights do not fit or are not finite.
    """
    return checkpoint_of(read_bytes(path), path, policy)


def checkpoint_of(content: bytes, path: Path, policy: str) -> Checkpoint:
    """The placement network in a file's content; `path` says where it came from. Raises: as `load_checkpoint`."""
    found = checked(content, path, policy=policy, schema=SCHEMA)
    network = PlacementNetwork(width_of(found, path))
    try:
        network.load_state_dict(weights_of(found, path))
    except RuntimeError as error:
        raise CheckpointError(f"checkpoint {path} has weights that do not fit: {str(error).splitlines()[0][:120]}") from error
    if not all(bool(torch.isfinite(weight).all()) for weight in network.state_dict().values()):
        raise CheckpointError(f"checkpoint {path} has weights that are not finite")
    network.eval()
    trained = found.get("trained")
    return Checkpoint(
        network=network,
        name=str(found.get("name", path.stem)),
        digest=hashlib.sha256(content).hexdigest(),
        path=str(path),
        trained=trained if isinstance(trained, dict) else {},
    )


def write_file(content: dict[str, Any], path: Path) -> str:
    """Write what a checkpoint holds, whole or not at all, and give the file's SHA-256. Raises: FileUnusable."""
    held = io.BytesIO()
    torch.save({"format_version": FORMAT_VERSION, **content}, held)
    made_folder(path.parent)
    write_whole(path, held.getvalue())
    return hashlib.sha256(held.getvalue()).hexdigest()


def read_bytes(path: Path) -> bytes:
    """A file of a size that a checkpoint may have. Raises: CheckpointError."""
    try:
        content = read_bounded(path, MOST_BYTES)
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise CheckpointError(f"checkpoint {path} has at least {len(content)} bytes, expected at most {MOST_BYTES}")
    return content


def parsed(content: bytes, path: Path) -> dict[str, Any]:
    """What a checkpoint of any policy holds. Raises: CheckpointError for one that is damaged or of another format."""
    _require_whole(content, path)
    try:
        found = plain_content(io.BytesIO(content))
    except Exception as error:  # torch raises many kinds for a damaged file
        raise CheckpointError(f"checkpoint {path} is damaged: {(str(error).splitlines() or ['?'])[0][:120]}") from error
    version = found.get("format_version") if isinstance(found, dict) else None
    if not isinstance(found, dict) or version != FORMAT_VERSION or isinstance(version, bool):
        raise CheckpointError(f"checkpoint {path} has format {version}, expected {FORMAT_VERSION}; train it again")
    return found


def plain_content(file: IO[bytes]) -> Any:
    """What `torch.save` has written, of tensors and plain containers: nothing in it is run.

    Raises: whatever torch and zipfile do for a damaged file; ValueError for one that would cost more than its message.
    """
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith("data.pkl"):
                if entry.file_size > MOST_PICKLE:
                    raise ValueError(f"its {entry.filename} has {entry.file_size} bytes, expected at most {MOST_PICKLE}")
                for opcode, value, _ in pickletools.genops(archive.read(entry)):
                    if opcode.name in ("GLOBAL", "INST") and len(str(value)) > MOST_NAME:
                        raise ValueError(f"it imports a name of {len(str(value))} characters")
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


def _require_whole(content: bytes, path: Path) -> None:
    """Raises: CheckpointError unless the file is as it was written: torch looks at no checksum, and would take flipped bits for weights."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                # What is packed may be a thousand times as large in memory as `MOST_BYTES`.
                raise CheckpointError(f"checkpoint {path} is compressed, expected a file as `tango train` writes it")
            broken = archive.testzip()
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged, or no checkpoint at all") from error
    if broken is not None:
        raise CheckpointError(f"checkpoint {path} is damaged: the checksum of {broken} is wrong")


def policy_of(found: dict[str, Any]) -> str:
    """The policy that a checkpoint is of; files from before there were others name none."""
    return str(found.get("policy", "dcg-be"))


def checked(content: bytes, path: Path, *, policy: str, schema: str) -> dict[str, Any]:
    """What a checkpoint of this policy and feature list holds. Raises: CheckpointError."""
    found = parsed(content, path)
    if policy_of(found) != policy:
        raise CheckpointError(f"checkpoint {path} is of policy {policy_of(found)!r}, expected one of {policy!r}")
    if found.get("feature_schema") != schema:
        raise CheckpointError(
            f"checkpoint {path} was trained on other features than this version of Tango computes; train it again"
        )
    return found


def width_of(found: dict[str, Any], path: Path) -> int:
    """The width of the hidden layers. Raises: CheckpointError if it is none."""
    hidden = found.get("hidden")
    if not isinstance(hidden, int) or isinstance(hidden, bool) or not 1 <= hidden <= MOST_HIDDEN:
        raise CheckpointError(f"checkpoint {path} has width {hidden!r}, expected a whole number from 1 to {MOST_HIDDEN}")
    return hidden


def weights_of(found: dict[str, Any], path: Path) -> dict[str, torch.Tensor]:
    """The weights by name, of floating point: others would be turned into that without a word. Raises: CheckpointError."""
    weights = found.get("weights")
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise CheckpointError(f"checkpoint {path} has weights that do not fit: none, expected a mapping of names")
    for name, weight in weights.items():
        if not isinstance(weight, torch.Tensor) or weight.layout is not torch.strided or weight.device.type != "cpu":
            kind = type(weight).__name__ if not isinstance(weight, torch.Tensor) else str(weight.layout)
            raise CheckpointError(f"checkpoint {path} has weights that do not fit: {name[:60]} is {kind}, expected a dense tensor")
        if weight.dtype not in (torch.float32, torch.float64):
            raise CheckpointError(
                f"checkpoint {path} has weights that do not fit: {name[:60]} is of {weight.dtype}, expected float32 or float64"
            )
    return {name: weight.detach() for name, weight in weights.items()}
