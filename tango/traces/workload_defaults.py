"""What a workload is where only its sources are named: which class comes from which of them, how long it lasts, and at which load.

`tango simulate`, `tango compare` and the Python API make their workloads here, so that the same words mean the same requests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tango.domain.pattern_defaults import DEFAULT_DURATION_S, DEFAULT_LOAD
from tango.domain.services import ServiceClass
from tango.errors import UsageError
from tango.traces.files import same_files
from tango.traces.generators import PATTERNS
from tango.traces.rate_curve import RateCurve
from tango.traces.trace_sources import content_of
from tango.traces.workloads import Workload, is_pattern


def workload_of(
    lc: tuple[str, ...],
    be: tuple[str, ...] = (),
    *,
    duration_s: float | None = None,
    load: float | None = None,
    from_s: float = 0.0,
    be_from_s: float | None = None,
    resample: bool = True,
    lc_map: str = "",
    be_map: str = "",
    **further: Any,
) -> Workload:
    """The workload of these sources; `further` are other fields of `Workload`.

    `lc_map` makes a trace of `lc`, where that is a table of no known format, and `be_map` one of `be`, where that is another.
    Without `be` the first source gives both classes, or the one that its rows have. Without `duration_s` it lasts as long as its files, the
    shorter where there are two; patterns last `DEFAULT_DURATION_S` and have the load `DEFAULT_LOAD`, files that of their rows.
    Raises: UsageError for a source that is neither pattern nor file, and values that contradict each other; BadRows for bad rows of files.
    """
    require_sources(lc + be)
    alone = not be
    lc, be = sources_of(lc, be, lc_map)
    if be and (alone or lc == be):
        be_map = be_map or lc_map
    lc_map = lc_map if lc else ""
    require_beginnings(lc, be, from_s, be_from_s)
    sources = [source for source in dict.fromkeys((lc, be)) if source]
    patterns = [source for source in sources if is_pattern(source)]
    if duration_s is None:
        maps = {be: be_map, lc: lc_map}
        duration_s = _duration_s([(source, maps[source]) for source in sources if source not in patterns], from_s)
    return Workload(
        lc=lc,
        be=be,
        duration_s=float(duration_s),
        load=DEFAULT_LOAD if load is None and patterns else load,
        from_s=from_s,
        be_from_s=be_from_s,
        resample=resample or len(patterns) == len(sources),  # patterns are drawn anew in any case
        lc_map=lc_map,
        be_map=be_map,
        **further,
    )


def require_sources(names: tuple[str, ...]) -> None:
    """Raises: UsageError for a bare word that is neither a pattern nor a file: a mistyped pattern most likely, where the trace reader would
    speak of files only."""
    for name in names:
        if name not in PATTERNS and not any(mark in name for mark in "./*") and not Path(name).exists():
            raise UsageError(f"{name!r} is neither a pattern ({', '.join(PATTERNS)}) nor a file")


def sources_of(lc: tuple[str, ...], be: tuple[str, ...], map: str = "") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(LC source, BE source). Without a BE source one trace gives both classes, or only the class that its rows have. Raises: BadRows."""
    if be or is_pattern(lc):
        return lc, one_source(lc, be) or lc
    content = content_of(lc, map)
    if isinstance(content, RateCurve):
        return lc, ()
    has = [bool((content.service_class == int(kind)).any()) for kind in ServiceClass]
    return lc if has[ServiceClass.LC] else (), lc if has[ServiceClass.BE] else ()


def one_source(lc: tuple[str, ...], be: tuple[str, ...]) -> tuple[str, ...]:
    """The BE source, under the paths of the LC source where both mean the same files: one file keeps its mix, by whatever paths.

    Raises: BadRows for files that there are not.
    """
    if not (lc and be) or lc == be or is_pattern(lc) or is_pattern(be):
        return be
    return lc if same_files(lc, be) else be


def require_beginnings(lc: tuple[str, ...], be: tuple[str, ...], from_s: float, be_from_s: float | None) -> None:
    """Raises: UsageError for a beginning that no file is read by; patterns are always drawn from theirs."""
    # BE files begin where `be_from_s` says, and where `from_s` says without it.
    begun = [source for source in (lc, be if be_from_s is None else ()) if source]
    if from_s and all(is_pattern(source) for source in begun):
        raise UsageError(
            f"from_s (--from) {from_s:g} begins within trace files, and none is read from there; leave it out for patterns"
        )
    if be_from_s and is_pattern(be):
        raise UsageError(
            f"be_from_s (--be-from) {be_from_s:g} begins within trace files, and BE comes from the pattern {be[0]}; leave it out"
        )


def _duration_s(files: list[tuple[tuple[str, ...], str]], from_s: float) -> float:
    """The length of the files, each with its map, and of the shorter where LC and BE come from two: both classes must last to the end."""
    contents = [content_of(source, map) for source, map in files]
    spans = [content.end_s if isinstance(content, RateCurve) else content.span_s for content in contents]
    if not spans:
        return DEFAULT_DURATION_S
    # Arrivals count up to before `duration_s`, so a microsecond more keeps the last one.
    duration_s = min(spans) - from_s + 1e-6
    if duration_s <= 0:
        raise UsageError(f"the trace spans {min(spans):g} s, expected more than from_s (--from) {from_s:g}")
    return duration_s
