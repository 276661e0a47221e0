"""How an embedded cluster's kubelets behave where real ones take time or go wrong: declared by a fleet, or node by node under way.

A fleet file says it for all nodes under `kubelets`; the annotation `tango/kubelet` of a Node object, JSON with the same keys, for one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

ANNOTATION = "tango/kubelet"
"""Of a Node object."""
PRESSURES = ("memory", "disk", "pid")
RESIZES = ("", "deferred", "infeasible", "error", "stuck")


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeletWays:
    """The ways of one node's kubelet. Times are seconds. Raises: ValueError for what makes no sense, with key, found and expected."""

    pull_s: float = 0.0
    """To pull an image that the node does not have yet."""
    start_s: float = 0.0
    """To start a container, once its image is there."""
    stop_s: float = 0.0
    """For which a modelled container goes on after SIGTERM, if its grace period lets it."""
    absent_images: tuple[str, ...] = ()
    """Images that no registry has; one that ends with `*` stands for all that begin so."""
    backoff_s: tuple[float, float] = (10.0, 300.0)
    """First and longest pause before a container is restarted or an image pulled again; doubled in between, as kubelets do."""
    program_mib: float = 0.0
    """What the program of a modelled pod holds beside its work: with it, a limit of just the work ends its container with 137, as a kernel
    would."""
    pressure: tuple[str, ...] = ()
    """Conditions that the node reports, among `PRESSURES`; those pods that a kubelet then refuses are refused."""
    resize: str = ""
    """What becomes of every resize, one of `RESIZES`: none is allocated, or it fails in the end, or stays in progress for ever."""

    def __post_init__(self) -> None:
        for name in ("pull_s", "start_s", "stop_s", "program_mib"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            _require(is_number and 0 <= value < math.inf, name, self, "a number from 0")
        _require(all(isinstance(image, str) for image in self.absent_images), "absent_images", self, "a list of images")
        pause = self.backoff_s
        good = (
            len(pause) == 2
            and all(isinstance(s, int | float) and not isinstance(s, bool) for s in pause)
            and 0 < pause[0] <= pause[1] < math.inf
        )
        _require(good, "backoff_s", self, "the first and the longest pause, such as [10, 300]")
        _require(set(self.pressure) <= set(PRESSURES), "pressure", self, f"a list of {', '.join(PRESSURES)}")
        _require(self.resize in RESIZES, "resize", self, "one of " + ", ".join(RESIZES[1:]) + ", or nothing")

    def lacks(self, image: str) -> bool:
        """Whether no registry has an image."""
        return any(image == one or (one.endswith("*") and image.startswith(one[:-1])) for one in self.absent_images)


def _require(holds: bool, name: str, ways: KubeletWays, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {getattr(ways, name)!r}, expected {expected}")


USUAL = KubeletWays()
"""Images are there, containers start at once, and nothing goes wrong."""


def ways_of(declared: Any, otherwise: KubeletWays | None = None) -> KubeletWays:
    """The ways that a mapping declares; what it leaves away is as in `otherwise`. Raises: ValueError."""
    if not isinstance(declared, Mapping):
        raise ValueError(f"found {declared!r}, expected a mapping of keys to values")
    known = {field.name for field in fields(KubeletWays)}
    if unknown := sorted(map(str, declared.keys() - known)):
        raise ValueError(f"{unknown[0]} is an unknown key, expected one of: {', '.join(sorted(known))}")
    lists = ("absent_images", "backoff_s", "pressure")
    for key in lists:
        if key in declared and not isinstance(declared[key], list | tuple):
            raise ValueError(f"{key} is {declared[key]!r}, expected a list")
    values: dict[str, Any] = {key: tuple(value) if key in lists else value for key, value in declared.items()}
    return replace(otherwise or USUAL, **values)
