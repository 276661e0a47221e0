"""Workloads for experiments: a pattern or trace files, with what the command line says by options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tango.traces.hotspots import Hotspots
from tango.traces.workload_defaults import workload_of
from tango.traces.workloads import LC_LOAD_SHARE, Workload

Source = str | Path | Sequence[str | Path]
"""A pattern (`p1`, `p2`, `p3`, `borg`), a trace file or glob, or several files that are parts of one trace."""
WorkloadLike = Workload | str | Path
"""A workload, or the source of one that is otherwise as `workload` makes it."""


def workload(
    source: Source,
    be_source: Source = (),
    *,
    load: float | None = None,
    lc_load_share: float = LC_LOAD_SHARE,
    duration_s: float | None = None,
    from_s: float = 0.0,
    be_from_s: float | None = None,
    resample: bool = True,
    hotspots: Hotspots | None = None,
    map: str = "",
    be_map: str = "",
) -> Workload:
    """What requests are drawn from, seed by seed: one source for both classes, or with `be_source` one for each.

    `load` is offered CPU work over the fleet's CPU (None: 0.8 for patterns, as recorded for files), `lc_load_share` LC's part of it;
    `duration_s` seconds of arrivals (None: 600 for patterns, all of the files). `from_s` and `be_from_s` begin within the files. With
    `resample` a seed draws blocks of the files' arrivals anew; without it they are as recorded, and a seed draws what the files leave open.
    A `map` reads files of no known format: Tango's columns as expressions over theirs, as `read_trace` takes it; `be_map` is that of
    `be_source`.
    Raises: UsageError for a source that is neither pattern nor file and for values that cannot be; BadRows for files with bad rows.
    """
    return workload_of(
        _names(source),
        _names(be_source),
        duration_s=duration_s,
        load=load,
        from_s=from_s,
        be_from_s=be_from_s,
        resample=resample,
        lc_load_share=lc_load_share,
        hotspots=hotspots,
        lc_map=map,
        be_map=be_map,
    )


def as_workload(given: WorkloadLike) -> Workload:
    """The workload that is meant. Raises: as `workload`."""
    return given if isinstance(given, Workload) else workload(given)


def _names(source: Source) -> tuple[str, ...]:
    return (str(source),) if isinstance(source, str | Path) else tuple(str(part) for part in source)
