"""Lists of nodes and pods as the GPU cluster trace of Alibaba 2023 has them (`openb_node_list_*.csv`, `openb_pod_list_*.csv`).

These are no trace of requests: a pod list is a population from which a study draws (`tango.traces.gpu_arrivals`). Times, phases and
classes of the pods are checked where they stand and not kept. Source: alibaba/clusterdata, cluster-trace-gpu-v2023; Weng et al.,
"Beware of Fragmentation", USENIX ATC '23.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from tango.domain.gpus import MOST_DEVICES, MOST_MODELS, GpuKinds, GpuNodes, GpuPods
from tango.domain.resource_axis import THOUSANDTHS
from tango.errors import BadRow
from tango.traces.columns import Columns
from tango.traces.csv_columns import read_csv
from tango.traces.files import file_refused, read_content
from tango.traces.refusals import Refusals
from tango.traces.schema import Field, Kind, Schema

_MOST_MILLICORES, _MOST_MIB = 10_000_000, 100_000_000

NODE_LIST = Schema(
    "GPU node list",
    (
        Field("sn", Kind.TEXT, required=True),
        Field("cpu_milli", Kind.INT, required=True, low=0, high=_MOST_MILLICORES),
        Field("memory_mib", Kind.INT, required=True, low=0, high=_MOST_MIB),
        Field("gpu", Kind.INT, required=True, low=0, high=MOST_DEVICES),
        Field("model", Kind.TEXT),
    ),
    header=True,
    extra_columns=True,
)
POD_LIST = Schema(
    "GPU pod list",
    (
        Field("name", Kind.TEXT, required=True),
        Field("cpu_milli", Kind.INT, required=True, low=0, high=_MOST_MILLICORES),
        Field("memory_mib", Kind.INT, required=True, low=0, high=_MOST_MIB),
        Field("num_gpu", Kind.INT, required=True, low=0, high=MOST_DEVICES),
        Field("gpu_milli", Kind.INT, required=True, low=0, high=THOUSANDTHS),
        Field("gpu_spec", Kind.TEXT, in_header=False),
    ),
    header=True,
    extra_columns=True,
)


def read_gpu_nodes(path: Path) -> GpuNodes:
    """The nodes of a list, in order of their names. Raises: BadRows."""
    rows = _read(path, NODE_LIST)
    names, order = _by_name(rows, "sn", str(path))
    code, words = rows.texts("model")
    models = tuple(sorted({words[c] for c in code} - {""}))
    if len(models) > MOST_MODELS:
        raise file_refused(str(path), f"{len(models)} models of devices", f"at most {MOST_MODELS}")
    bit = np.array([models.index(word) if word in models else 0 for word in words] or [0], np.int64)
    return GpuNodes(
        name=names,
        cpu_millicores=rows.ints("cpu_milli")[order],
        memory_mib=rows.ints("memory_mib")[order],
        devices=rows.ints("gpu")[order],
        model=bit[code][order],
        models=models,
    )


def read_gpu_pods(path: Path) -> GpuPods:
    """The pods of a list, in order of their names. Raises: BadRows, also for a pod that asks for parts of several devices."""
    refusals = Refusals()
    rows = _read(path, POD_LIST, refusals)
    devices, thousandths = rows.ints("num_gpu"), rows.ints("gpu_milli")
    odd = ((devices > 1) & (thousandths != THOUSANDTHS)) | ((devices == 1) & (thousandths == 0))
    for at in np.flatnonzero(odd):
        expected = f"{THOUSANDTHS} where num_gpu is above 1, 1 to {THOUSANDTHS} where it is 1"
        found = str(thousandths[at])
        refusals.add(BadRow(file=str(path), line=int(rows.line[at]), column="gpu_milli", found=found, expected=expected), found)
    refusals.raise_if_any(remedy="mend the list")
    names, order = _by_name(rows, "name", str(path))
    code, words = rows.texts("gpu_spec")
    specs = ["|".join(part for part in word.split("|") if part) for word in words]
    shares = devices > 0
    known = sorted(set(specs) | {""})
    spec = np.where(shares, np.array([known.index(text) for text in specs] or [0], np.int64)[code], known.index(""))
    table = np.stack(
        (rows.ints("cpu_milli"), rows.ints("memory_mib"), devices, np.where(shares, thousandths, 0), spec.astype(np.int64)), axis=1
    )
    kinds, kind = np.unique(table[order], axis=0, return_inverse=True)
    cpu, memory, count, part, accepted = (np.ascontiguousarray(column) for column in kinds.T)
    return GpuPods(
        name=names,
        kind=kind.reshape(-1).astype(np.int64),
        kinds=GpuKinds(cpu, memory, count, part, tuple(known[k] for k in accepted)),
    )


def _read(path: Path, schema: Schema, refusals: Refusals | None = None) -> Columns:
    found = Refusals() if refusals is None else refusals
    rows = read_csv(read_content(path), schema, found)
    found.raise_if_any(remedy="mend the list")
    return rows


def _by_name(rows: Columns, column: str, file: str) -> tuple[tuple[str, ...], np.ndarray]:
    """(names in order, rows in that order). Raises: BadRows for a name that stands there twice."""
    code, words = rows.texts(column)
    names = np.array([words[c] for c in code], dtype=object)
    order = np.argsort(names, kind="stable")
    ordered = tuple(names[order])
    twice = next((one for one, other in pairwise(ordered) if one == other), None)
    if twice is not None:
        raise file_refused(file, f"{column} {twice} twice", "each once")
    return ordered, order
