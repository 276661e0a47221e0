"""Tango's own trace files: reads and writes CSV and Parquet with the same columns. Equal traces give equal bytes."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tango.domain.fleet import Fleet
from tango.domain.quantities import MAX_MEMORY_MIB
from tango.domain.services import ServiceClass
from tango.domain.tenants import TENANT_NAME_RULE, is_tenant_name
from tango.domain.trace import ORIGIN, Trace
from tango.errors import BadRow, BadRows, UsageError
from tango.files import write_whole
from tango.traces.columns import Columns
from tango.traces.files import Form
from tango.traces.schema import MAX_WORK_S, TEN_YEARS_S, Field, Kind, Schema
from tango.traces.trace_format import Head, Sign, TraceFormat

COLUMNS = ("arrival_s", "class", "service", "cluster", "cpu_work_s", "memory_mib", "tenant")
"""The columns: seconds, `lc` or `be`, names, CPU-seconds, MiB, a name. The first two are required, the others may be missing or empty; the
last is written only where requests name tenants."""
ENDINGS = (".csv", ".csv.gz", ".parquet")
"""Endings of the names of files that can be written."""


def schema(fleet: Fleet | None = None) -> Schema:
    """The columns. With a fleet, services and clusters must be the fleet's; a cluster may also be its number (from 1) or an origin."""
    services = tuple(service.name for service in fleet.services) if fleet else ()
    clusters = (*(c.name for c in fleet.clusters), *(str(k + 1) for k in range(len(fleet.clusters)))) if fleet else ()
    return Schema(
        "tango",
        (
            Field("arrival_s", Kind.FLOAT, required=True, low=0.0, high=TEN_YEARS_S),
            Field("class", Kind.TEXT, required=True, choices=("lc", "be")),
            Field("service", Kind.TEXT, choices=services, in_header=False),
            Field("cluster", Kind.TEXT, choices=clusters, also_prefix=ORIGIN, in_header=False),
            Field("cpu_work_s", Kind.FLOAT, low=1e-9, high=MAX_WORK_S, in_header=False),
            Field("memory_mib", Kind.FLOAT, low=0.0, high=MAX_MEMORY_MIB, in_header=False),
            Field("tenant", Kind.TEXT, rule=is_tenant_name, rule_name=f"a name of {TENANT_NAME_RULE}", in_header=False),
        ),
        header=True,
        ordered_by="arrival_s",
    )


def trace_of(parts: list[Columns], source: str) -> Trace:
    """All parts as one trace, in order of arrival; parts may overlap in time."""
    services: dict[str, int] = {}
    clusters: dict[str, int] = {}
    tenants: dict[str, int] = {}
    arrival = np.concatenate([part.floats("arrival_s") for part in parts])
    order = np.argsort(arrival, kind="stable")
    classes = []
    for part in parts:
        code, words = part.texts("class")
        # Words of refused rows are still in the dictionary, though no row uses them.
        classes.append(np.array([int(word == ServiceClass.BE.label) for word in words] or [0], np.int8)[code])
    has_tenants = any("tenant" in part.by_name for part in parts)
    tenant = _merged(parts, "tenant", tenants)[order] if has_tenants else None
    return Trace(
        arrival_s=arrival[order],
        service_class=np.concatenate(classes)[order],
        service=_merged(parts, "service", services)[order],
        cluster=_merged(parts, "cluster", clusters)[order],
        cpu_work_s=np.concatenate([part.floats("cpu_work_s") for part in parts])[order],
        memory_mib=np.concatenate([part.floats("memory_mib") for part in parts])[order],
        services=tuple(services) or ("",),
        clusters=tuple(clusters) or ("",),
        tenant=tenant,
        tenants=tuple(tenants) or ("",),
        source=source,
    )


def write_trace(trace: Trace, path: str | Path) -> None:
    """Write a trace in the form that the ending of `path` names: .csv, .csv.gz or .parquet. The file appears whole or not at all.

    Raises: UsageError for another ending; BadRows if a name cannot stand in CSV; FileUnusable.
    """
    path = Path(path)
    content = encoded(trace, path.name)
    write_whole(path, content)


def encoded(trace: Trace, name: str) -> bytes:
    """The bytes of a trace file of this name, in the form that its ending names. Raises: as `write_trace`."""
    if not name.endswith(ENDINGS):
        raise UsageError(f"cannot tell the format of {name!r} by its ending, expected one of {', '.join(ENDINGS)}")
    table = _table(trace)
    buffer = io.BytesIO()
    if name.endswith(".parquet"):
        pa.parquet.write_table(table, buffer, compression="zstd")
        return buffer.getvalue()
    try:
        options = pa.csv.WriteOptions(quoting_style="none", quoting_header="none", batch_size=65536)
        pa.csv.write_csv(table, buffer, options)
    except pa.ArrowInvalid as error:
        reason = BadRow(
            file=name,
            line=0,
            column="service, cluster or tenant",
            found=str(error)[:200],
            expected='names without , " or line ends',
        )
        raise BadRows([reason]) from error
    if not name.endswith(".gz"):
        return buffer.getvalue()
    packed = io.BytesIO()
    # No name and no time in the header, so that the same trace has the same bytes.
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as stream:
        stream.write(buffer.getvalue())
    return packed.getvalue()


def _table(trace: Trace) -> pa.Table:
    def texts(code: np.ndarray, words: tuple[str, ...]) -> pa.Array:
        array = pa.DictionaryArray.from_arrays(pa.array(code, pa.int32()), pa.array([word or None for word in words], pa.string()))
        return array.cast(pa.string())

    def numbers(values: np.ndarray) -> pa.Array:
        return pa.array(values, pa.float64(), mask=np.isnan(values))

    labels = tuple(service_class.label for service_class in ServiceClass)
    columns = {
        "arrival_s": pa.array(trace.arrival_s, pa.float64()),
        "class": texts(trace.service_class.astype(np.int32), labels),
        "service": texts(trace.service, trace.services or ("",)),
        "cluster": texts(trace.cluster, trace.clusters or ("",)),
        "cpu_work_s": numbers(trace.cpu_work_s),
        "memory_mib": numbers(trace.memory_mib),
    }
    if trace.tenant is not None and trace.named_tenants:
        columns["tenant"] = texts(trace.tenant, trace.tenants)
    return pa.table(columns)


def _merged(parts: list[Columns], name: str, words: dict[str, int]) -> np.ndarray:
    """(n,) codes of a column over all parts, into the one dictionary `words`, which is filled here in order of appearance."""
    codes = []
    for part in parts:
        code, own = part.texts(name)
        used = np.unique(code)
        lookup = np.zeros(max(len(own), 1), np.int32)
        for index in used:
            lookup[index] = words.setdefault(own[index], len(words))
        codes.append(lookup[code])
    return np.concatenate(codes)


def _recognised(head: Head) -> Sign:
    """Sure by the two required columns; Parquet is taken to be Tango's own unless another format is surer."""
    if head.names & {"arrival_s", "class"}:
        return Sign.SURE
    return Sign.LIKELY if head.form is Form.PARQUET else Sign.NONE


FORMAT = TraceFormat(
    name="tango",
    recognised=_recognised,
    schema_of=lambda _content, fleet: schema(fleet),
    content_of=trace_of,
    forms=frozenset({Form.CSV, Form.PARQUET}),
    shape="Parquet, without the columns of another known format",
)
