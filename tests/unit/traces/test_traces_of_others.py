"""Trace files as other people's tools write them: types, names, compressions, archives and paths that Tango did not choose."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from tango.domain.services import ServiceClass
from tango.errors import BadRows
from tango.traces import compression, files, read_trace
from tango.traces.tasks_to_requests import MACHINE_MIB
from tango.traces.workload_defaults import one_source

OWN = "arrival_s,class\n0.5,lc\n1.5,be\n"
EVENT = {"type": 0, "collection_id": 394, "scheduling_class": 2, "collection_type": 0, "instance_index": 0}
ALIBABA = "M1,1,j_1,1,Terminated,100,110,50,0.2"


def written(path: Path, content: str | bytes) -> Path:
    """A file of this content."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refused(path: Path, **options: object) -> BadRows:
    """The error of reading it, which is a refusal."""
    with pytest.raises(BadRows) as caught:
        read_trace(path, **options)
    return caught.value


def parquet(path: Path, columns: dict[str, pa.Array], **options: object) -> Path:
    """A Parquet file of these columns."""
    pa.parquet.write_table(pa.table(columns), path, **options)
    return path


def events(time: pa.Array, **more: pa.Array) -> dict[str, pa.Array]:
    """Google's events of 2019, one for each time."""
    return {"time": time} | {name: pa.array([value] * len(time)) for name, value in EVENT.items()} | more


# ---- times ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize(
    "kind", [pa.timestamp, lambda unit: pa.timestamp(unit, "UTC"), pa.duration], ids=["plain", "UTC", "length"]
)
def test_times_that_have_a_unit_are_read_by_it(tmp_path: Path, unit: str, kind: object) -> None:
    """A column of seconds is not taken for the microseconds in which the format counts."""
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    time = pa.array([600 * per_second, 660 * per_second], pa.int64()).cast(kind(unit))  # type: ignore[operator]

    trace = read_trace(parquet(tmp_path / "t.parquet", {**events(time), "instance_index": pa.array([0, 1])})).trace

    assert trace.arrival_s.tolist() == [600.0, 660.0]


def test_times_of_96_bits_are_read(tmp_path: Path) -> None:
    """As Spark wrote them for years."""
    time = pa.array([datetime(1970, 1, 1, 0, 10, tzinfo=UTC)], pa.timestamp("ns"))
    path = parquet(tmp_path / "t.parquet", events(time), use_deprecated_int96_timestamps=True)

    assert read_trace(path).trace.arrival_s.tolist() == [600.0]


def test_a_time_that_does_not_fit_is_refused_by_its_row(tmp_path: Path) -> None:
    """Milliseconds of which the microseconds need more than 64 bits."""
    time = pa.array([600_000, 2**60], pa.timestamp("ms"))

    row = refused(parquet(tmp_path / "t.parquet", {**events(time), "instance_index": pa.array([0, 1])})).rows[0]

    assert (row.line, row.column) == (2, "time")


def test_times_with_offsets_and_fractions_of_any_length_are_read(tmp_path: Path) -> None:
    """The file of 2024 has both; a part without an offset is UTC."""
    head = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    rows = ["2024-05-12 00:00:00+00:00", "2024-05-12 00:00:00.017335+00:00", "2024-05-12T02:00:01.5+02:00", "2024-05-12T00:00:02Z"]

    reading = read_trace(written(tmp_path / "t.csv", head + "".join(f"{time},1,2\n" for time in [*rows, "2024-05-12 00:00:03"])))

    assert reading.format == "azure-llm2024"
    assert reading.trace.arrival_s.tolist() == [0.0, 0.017335, 1.5, 2.0, 3.0]


def test_requests_with_images_are_read(tmp_path: Path) -> None:
    """As AzurePublicDataset publishes them (AzureLMMInferenceDataset2025.md): a column more, times with T and Z, gzip."""
    rows = ("2024-10-15T12:00:00.269Z,0,770,491", "2024-10-15T12:00:06Z,1,964,79", "2024-10-15T12:00:05.819Z,16,4564,137")
    text = "\n".join(["TIMESTAMP,NumImages,ContextTokens,GeneratedTokens", *rows, ""])

    reading = read_trace(written(tmp_path / "t.csv.gz", gzip.compress(text.encode())))

    assert (reading.format, reading.notes) == ("azure-lmm2025", ())
    assert reading.trace.arrival_s == pytest.approx([0.0, 5.55, 5.731])
    assert set(reading.trace.service_class.tolist()) == {int(ServiceClass.LC)}


@pytest.mark.parametrize("column", ["arrival_s", "class", "service"])
def test_a_text_of_parquet_that_is_no_text_is_refused_by_its_row(tmp_path: Path, column: str) -> None:
    """Arrow takes a writer's word for it; numbers in texts too."""
    columns = {"arrival_s": ["1", "2"], "class": ["lc", "be"], "service": ["a", "b"]}
    values = {name: pa.array(texts) for name, texts in columns.items()}
    values[column] = pa.array([columns[column][0].encode(), b"\xff\xfe"], pa.binary()).view(pa.string())
    path = parquet(tmp_path / "t.parquet", values)

    (row,) = refused(path).rows
    assert (row.line, row.column, row.found, row.expected) == (2, column, "\\xff\\xfe", "UTF-8 text")
    assert len(read_trace(path, skip_bad=True).trace) == 1


def test_names_of_columns_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """Found by mutated files."""
    path = parquet(tmp_path / "t.parquet", {"arrival_s": pa.array([1.0]), "classes": pa.array(["lc"])}, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"classes", b"class\xff\xfe"))

    assert "a Parquet file that cannot be read" in str(refused(path))


# ---- names and types of columns -------------------------------------------------------------------------------------------

FLATTENED = [
    ("resource_request.cpus", "resource_request.memory"),
    ("resource_request_cpus", "resource_request_memory"),
    ("cpus", "memory"),
]


@pytest.mark.parametrize("names", FLATTENED, ids=["dots", "underscores", "bare"])
@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_requests_that_a_tool_flattened_are_known(tmp_path: Path, names: tuple[str, str], form: str) -> None:
    """pandas joins names of records with dots, others with underscores, or leave the inner name."""
    values = {"time": 600_000_000, **EVENT, "scheduling_class": 0, names[0]: 0.25, names[1]: 0.5}
    path = tmp_path / f"t.{form}"
    if form == "parquet":
        parquet(path, {name: pa.array([value]) for name, value in values.items()})
    elif form == "json":
        written(path, json.dumps(values) + "\n")
    else:
        written(path, ",".join(values) + "\n" + ",".join(map(str, values.values())) + "\n")

    reading = read_trace(path)

    assert reading.trace.memory_mib.tolist() == [0.5 * MACHINE_MIB]
    assert not [note for note in reading.notes if "cpu" in note]


def test_a_column_that_figures_miss_is_told(tmp_path: Path) -> None:
    """By its names, and with what follows: absent, or there without a value."""
    time = pa.array([600_000_000])
    absent = read_trace(parquet(tmp_path / "a.parquet", events(time)))
    empty = read_trace(parquet(tmp_path / "e.parquet", events(time, cpu_request=pa.array([None], pa.float64()))))

    told = "no value of cpu_request or resource_request.cpus or resource_request_cpus or cpus: works are drawn from the services"
    assert told in absent.notes
    assert told in empty.notes


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_columns_that_the_format_does_not_have_are_ignored_and_told(tmp_path: Path, form: str) -> None:
    """Also where two have one name; a name that is nearly one of the format's is told with that one."""
    path = tmp_path / f"t.{form}"
    if form == "csv":
        written(path, "arrival_s,class,colour,cpu_work,colour\n0.5,lc,red,1.0,x\n1.5,be,blue,2.0,y\n")
    else:
        parquet(path, {"arrival_s": [0.5, 1.5], "class": ["lc", "be"], "colour": ["red", "blue"], "cpu_work": [1.0, 2.0]})

    reading = read_trace(path)

    assert reading.trace.arrival_s.tolist() == [0.5, 1.5]
    (note,) = reading.notes
    assert note.startswith("columns that the format tango does not have are ignored: colour")
    assert "cpu_work (did you mean 'cpu_work_s'?)" in note


def test_a_trace_of_counts_may_have_columns_besides(tmp_path: Path) -> None:
    """In every format that is told by its header."""
    reading = read_trace(written(tmp_path / "t.csv", "period,count,source\n1998-05-01 00:00:00,12,a\n"))

    assert len(reading.trace) == 12
    assert reading.notes == ("columns that the format worldcup98 does not have are ignored: source",)


def test_one_column_under_two_of_its_names_is_refused(tmp_path: Path) -> None:
    """Nobody can say which of them is meant."""
    error = refused(
        written(tmp_path / "t.csv", "time,type,collection_id,scheduling_class,instance_index,cpus,cpu_request\n1,0,1,2,0,1,1\n")
    )

    assert "named twice ('cpu_request' and 'cpus')" in str(error)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "bool"),
        (datetime(2026, 1, 1), "timestamp[us]"),
        ([1.0], "list<element: double>"),
        ({"a": 1.0}, "struct<a: double>"),
        (b"1.0x", ""),
    ],
)
def test_what_is_no_number_is_refused_by_column_and_type(tmp_path: Path, value: object, kind: str) -> None:
    """A truth value is not one CPU-second."""
    columns = {"arrival_s": pa.array([0.5]), "class": pa.array(["be"]), "cpu_work_s": pa.array([value])}

    row = refused(parquet(tmp_path / "t.parquet", columns)).rows[0]

    assert row.column == "cpu_work_s"
    assert row.found in (f"values of type {kind}", value.decode() if isinstance(value, bytes) else repr(value))


def test_a_truth_value_in_json_is_no_number(tmp_path: Path) -> None:
    """Beside numbers in the same column."""
    lines = [{**EVENT, "time": 600_000_000}, {**EVENT, "time": True}]

    row = refused(written(tmp_path / "t.json", "\n".join(map(json.dumps, lines)))).rows[0]

    assert (row.line, row.column, row.found) == (2, "time", "True")


def test_whole_numbers_are_read_however_json_has_them(tmp_path: Path) -> None:
    """As numbers, as texts (BigQuery), and with a fraction of nothing, in one column."""
    lines = [{**EVENT, "instance_index": i, "time": time} for i, time in enumerate((600_000_000, "600000001", 600_000_002.0))]

    trace = read_trace(written(tmp_path / "t.json", "\n".join(map(json.dumps, lines)))).trace

    assert len(trace) == 3


# ---- files that would end the process -------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", ["", "\n"], ids=["one line", "a line each"])
def test_json_of_any_depth_is_refused_by_its_line(tmp_path: Path, separator: str) -> None:
    """Arrow's reader overran the stack at 20,000."""
    deep = f'{{"x":{separator}' * 100_000 + "1" + "}" * 100_000

    error = refused(written(tmp_path / "t.json", json.dumps({**EVENT, "time": 600_000_000}) + "\n" + deep + "\n"))

    assert error.rows[0].line == 2


def test_parquet_of_any_depth_is_refused(tmp_path: Path) -> None:
    """Its schema is read before anything else."""
    kind = pa.int64()
    for _ in range(500):
        kind = pa.struct([("a", kind)])

    assert "too deeply nested" in str(refused(parquet(tmp_path / "t.parquet", events(pa.array([1]), x=pa.array([None], kind)))))


# ---- compressions, archives and paths -------------------------------------------------------------------------------------


def tar(**members: str) -> bytes:
    """A tar archive of these files, in a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        folder = tarfile.TarInfo("trace")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, text in members.items():
            member = tarfile.TarInfo(f"trace/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


PACKED = {
    "zst": pa.compress(OWN.encode(), "zstd", asbytes=True),
    "xz": lzma.compress(OWN.encode()),
    "bz2": bz2.compress(OWN.encode()),
    "tar": tar(events=OWN),
    "tar.gz": gzip.compress(tar(events=OWN)),
    "tar.xz": lzma.compress(tar(events=OWN)),
}


@pytest.mark.parametrize("name", PACKED)
def test_compressed_files_are_told_by_content(tmp_path: Path, name: str) -> None:
    """Whatever the name says."""
    assert read_trace(written(tmp_path / "trace", PACKED[name])).trace.arrival_s.tolist() == [0.5, 1.5]


@pytest.mark.parametrize(
    "pack", [lzma.compress, bz2.compress, lambda data: pa.compress(data, "zstd", asbytes=True)], ids=["xz", "bz2", "zst"]
)
def test_a_stream_that_is_cut_or_goes_on_as_something_else_is_refused(tmp_path: Path, pack: object) -> None:
    """Skipping bad rows takes what stands before the cut; several streams in a row are one file."""
    whole = pack(OWN.encode())  # type: ignore[operator]
    half = pack(("arrival_s,class\n" + "".join(f"{k},lc\n" for k in range(200_000))).encode())  # type: ignore[operator]

    cut = refused(written(tmp_path / "cut", half[: len(half) // 2]))
    other = refused(written(tmp_path / "other", whole + b"other"))

    assert "stream" in cut.rows[0].found
    assert "a complete" in cut.rows[0].expected
    assert "stream" in other.rows[0].found
    assert len(read_trace(written(tmp_path / "two", whole + pack(b"2.5,be\n"))).trace) == 3  # type: ignore[operator]


def test_an_archive_of_several_files_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Nobody can say which of them is meant; other archives are named."""
    error = refused(written(tmp_path / "t.tgz", gzip.compress(tar(a=OWN, b=OWN))), skip_bad=True)

    assert "found a tar archive of 2 files, expected an archive of one file; unpack it (tar -xf)" in str(error)
    assert "a zip archive" in str(refused(written(tmp_path / "t.zip", b"PK\x03\x04rest")))
    assert "a damaged tar archive" in str(refused(written(tmp_path / "t.tar", tar(a=OWN)[:512].replace(b"trace", b"trac3", 1))))


def test_a_cut_archive_gives_the_rows_before_the_cut(tmp_path: Path) -> None:
    """And refuses the file without --skip-bad."""
    path = written(tmp_path / "t.tar", tar(a=OWN)[: 1024 + len(OWN) - 3])

    assert "a tar archive that ends early" in str(refused(path))
    assert read_trace(path, skip_bad=True).trace.arrival_s.tolist() == [0.5]


@pytest.mark.parametrize("name", ["zst", "xz", "bz2", "gz"])
def test_a_bomb_is_refused_at_the_bound(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kilobytes that become gigabytes; the bound is lowered here."""
    monkeypatch.setattr(files, "MAX_BYTES", 4 << 20)
    pack = {
        "zst": lambda data: pa.compress(data, "zstd", asbytes=True),
        "xz": lzma.compress,
        "bz2": bz2.compress,
        "gz": gzip.compress,
    }

    assert "after decompression" in str(refused(written(tmp_path / "bomb", pack[name](b"0" * (16 << 20)))))
    assert compression._MOST_AT_ONCE < files.MAX_BYTES * 8


def test_a_file_that_two_paths_lead_to_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link, another spelling, a glob: the requests are the same ones."""
    path = written(tmp_path / "t.csv", OWN)
    os.link(path, tmp_path / "hard.csv")
    (tmp_path / "soft.csv").symlink_to(path)
    monkeypatch.chdir(tmp_path)

    reading = read_trace(["t.csv", "./t.csv", str(path), "hard.csv", "soft.csv", "*.csv"])

    assert len(reading.trace) == 2


def test_one_file_for_both_classes_keeps_its_mix_by_whatever_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the blocks of each class would be drawn for themselves."""
    written(tmp_path / "t.csv", OWN)
    written(tmp_path / "u.csv", OWN)
    monkeypatch.chdir(tmp_path)

    assert one_source(("t.csv",), ("./t.csv",)) == ("t.csv",)
    assert one_source(("t.csv",), ("./u.csv",)) == ("./u.csv",)
    assert one_source(("p1",), ("t.csv",)) == ("t.csv",)


def test_a_trace_is_read_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `zcat trace.gz | tango trace info -`."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(OWN.encode()))))

    assert len(read_trace("-").trace) == 2


# ---- what a table is taken for --------------------------------------------------------------------------------------------


def test_a_format_that_only_the_shape_speaks_for_is_told(tmp_path: Path) -> None:
    """By its name and with the reason, also where rows are refused."""
    good = read_trace(written(tmp_path / "t.csv", ALIBABA + "\n"))
    error = refused(written(tmp_path / "b.csv", f"{ALIBABA}\n{ALIBABA.replace('Terminated', 'Dancing')}\n"))

    assert good.notes == ("t.csv is taken for alibaba2018 for its 9 columns without a header; --format NAME overrides it",)
    assert "b.csv is taken for alibaba2018 for its 9 columns without a header" in str(error)
    assert read_trace(tmp_path / "t.csv", format="alibaba2018").notes == ()


@pytest.mark.parametrize("columns", [9, 13])
def test_a_table_that_only_has_the_width_of_a_format_is_refused(tmp_path: Path, columns: int) -> None:
    """Skipping bad rows would skip all of it. With a header of its own it is taken for nothing, whatever its rows are."""
    rows = "\n".join(",".join("x" * columns) for _ in range(3)) + "\n"
    header = ",".join("abcdefghijklm"[:columns]) + "\n" + "\n".join(",".join("1" * columns) for _ in range(3)) + "\n"

    error = refused(written(tmp_path / "t.csv", rows), skip_bad=True)
    headed = refused(written(tmp_path / "h.csv", header), skip_bad=True)

    assert f"for its {columns} columns without a header; --format NAME names another" in str(error)
    assert "expected one of the formats tango, google2011" in str(headed)


def test_a_comma_at_the_end_of_every_line_is_no_column(tmp_path: Path) -> None:
    """An excerpt in use has them; a value behind it is refused."""
    good = written(tmp_path / "t.csv", f"{ALIBABA},\n{ALIBABA.replace('M1', 'M2')},\n")
    bad = written(tmp_path / "b.csv", f"{ALIBABA},\n{ALIBABA},\n{ALIBABA.replace('M1', 'M2')},7\n")
    headed = written(tmp_path / "h.csv", "arrival_s,class,\n0.5,lc,\n")

    assert len(read_trace(good).trace) == 2
    assert [(row.line, row.found) for row in refused(bad).rows] == [(3, "7")]
    assert len(read_trace(headed).trace) == 1
