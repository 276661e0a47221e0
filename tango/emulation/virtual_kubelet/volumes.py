"""Volumes of pods that run as local processes: folders of the pod's own, with the values of ConfigMaps and Secrets as files.

Source: Kubernetes documentation, "Volumes", "ConfigMaps" and "Secrets". Unlike in a real cluster the files of a container that runs
stay as they were when it started.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from tango.emulation.references import KINDS, Reference, Sources, data_of, references_of_volume
from tango.emulation.virtual_kubelet.pod_place import CannotStart, PodPlace

Json = Mapping[str, Any]
USUAL_MODE = 0o644
"""Of a file, unless the volume says otherwise."""
FOLDERS = ("configMap", "secret", "projected", "emptyDir")
"""Types of volumes that can be made here."""


def source_of(reference: Reference, part: Json, sources: Sources) -> dict[str, bytes] | None:
    """The values of a ConfigMap or Secret; None for an optional one that is not there.

    Raises: CannotStart for one that has to be there, in a kubelet's words.
    """
    found = sources.get(reference)
    if found is not None:
        return data_of(reference, found)
    if part.get("optional"):
        return None
    raise CannotStart("CreateContainerConfigError", f'{KINDS[reference[0]]} "{reference[1]}" not found', again=True)


def mounted(container: Json, pod: Json, place: PodPlace, sources: Sources) -> dict[str, str]:
    """By mount path of a container: where it lies here; writes the files of those volumes.

    Raises: CannotStart for a volume that cannot be made here, or whose ConfigMap or Secret is not there.
    """
    volumes = {v.get("name"): v for v in pod["spec"].get("volumes") or []}
    moved = {}
    for mount in container.get("volumeMounts") or []:
        volume, path = volumes.get(mount.get("name"), {}), str(mount.get("mountPath", ""))
        host_path = (volume.get("hostPath") or {}).get("path")
        if host_path is not None and Path(host_path) == Path(path) and not mount.get("subPath"):
            continue  # the machine has it at that place anyway
        if not any(kind in volume for kind in FOLDERS) or not _is_inside(str(mount.get("subPath") or ".")):
            words = f"volume {mount.get('name')!r} is not mounted: a local process sees the machine's own files"
            raise CannotStart("CreateContainerConfigError", words)
        folder = place.files / "volumes" / str(volume["name"])
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(folder, volume, sources)
        moved[path] = str(folder / str(mount.get("subPath") or ""))
    return moved


def _write(folder: Path, volume: Json, sources: Sources) -> None:
    whole = volume.get("configMap") or volume.get("secret") or volume.get("projected") or {}
    usual = int(whole.get("defaultMode") or USUAL_MODE)
    for reference, part in references_of_volume(volume):
        try:
            data = source_of(reference, part, sources)
        except CannotStart as missing:
            # A kubelet starts no container before all volumes are there, and says in an event what it waits for.
            words = f"MountVolume.SetUp failed for volume {str(volume['name'])!r}: {missing.message}"
            raise CannotStart("ContainerCreating", words, again=True) from missing
        if data is None:
            continue
        items = part.get("items") or [{"key": key, "path": key} for key in data]
        for item in items:
            key, path = str(item.get("key")), str(item.get("path"))
            if key not in data and part.get("optional"):
                continue
            if key not in data or not _is_inside(path):
                words = f"MountVolume.SetUp failed for volume {str(volume['name'])!r}: references non-existent config key: {key}"
                raise CannotStart("ContainerCreating", words, again=True)
            _put(folder / path, data[key], int(item.get("mode") or usual))


def _put(path: Path, value: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # of a start that was interrupted, perhaps read-only
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(value)
    fresh.chmod(mode)
    os.replace(fresh, path)


def _is_inside(path: str) -> bool:
    """Whether a path stays in its volume."""
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts
