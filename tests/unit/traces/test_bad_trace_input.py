from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tango.errors import BadRows, UsageError
from tango.fleets import load_fleet
from tango.traces import FORMATS, read_trace

OWN = """\
arrival_s,class,service,cluster,cpu_work_s,memory_mib
0.5,lc,web,c1,0.02,32
1.5,be,batch,c1,1.0,512
2.5,lc,web,c1,,
3.5,be,,,2.0,
"""
GOOGLE = """\
0,2,10,0,77,0,user=,3,9,,,,
600000000,,20,0,,0,user=,0,0,0.5,0.25,0.001,0
600000001,,20,1,,0,user=,2,9,0.25,0.125,0.001,0
600500000,,20,0,5,1,user=,0,0,0.5,0.25,0.001,0
610500000,,20,0,5,4,user=,0,0,0.5,0.25,0.001,0
"""
ALIBABA = "M1,1,j_1,1,Terminated,100,110,50,0.2\nM2,1,j_1,1,Running,120,0,100,0.4\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9951690,396,109"
GOOGLE_2019 = "time,type,collection_id,scheduling_class,instance_index,cpu_request\n5000000,0,1,2,0,0.5\n6000000,0,1,0,1,\n"


def _file(tmp_path: Path, content: str | bytes, name: str = "trace.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _refused(path: Path, **options):
    with pytest.raises(BadRows) as caught:
        read_trace(path, **options)
    assert caught.value.exit_status == 3
    return caught.value


OWN_CASES = [
    ("1.5,be,batch,c1,1.0,512", "1.5,be,batch,c1,1.0", "", "5 columns", "6 columns"),
    ("1.5,be,batch,c1,1.0,512", "1.5,be,batch,c1,1.0,512,9", "", "7 columns", "6 columns"),
    ("1.5,be", "soon,be", "arrival_s", "soon", "a number from 0 to 320000000"),
    ("1.5,be", "-1.5,be", "arrival_s", "-1.5", "a number from 0"),
    ("1.5,be", "0.25,be", "arrival_s", "0.25", "a time not before that of an earlier row"),
    ("1.5,be", "nan,be", "arrival_s", "nan", "a number from 0"),
    ("1.5,be", "inf,be", "arrival_s", "inf", "a number from 0"),
    ("1.5,be", "1e300,be", "arrival_s", "1e300", "320000000"),
    ("1.5,be", ",be", "arrival_s", "nothing", "a number from 0"),
    ("1.5,be", "1.5,medium", "class", "medium", "lc or be"),
    (",1.0,512", ",NaN,512", "cpu_work_s", "NaN", "a number from 1e-09 to 10000000, or nothing"),
    (",1.0,512", ",-1,512", "cpu_work_s", "-1", "a number"),
    (",1.0,512", ",1e12,512", "cpu_work_s", "1e12", "10000000"),
    (",1.0,512", ",1.0,1e30", "memory_mib", "1e30", "67108864"),
    (",1.0,512", ",1.0,12O", "memory_mib", "12O", "a number"),
    (",1.0,512", ',1.0,"512', "", "an unclosed quote", "quotes in pairs"),
    ("1.5,be,batch,c1,1.0,512", "", "", "an empty line", "a row"),
]


@pytest.mark.parametrize(("old", "new", "column", "found", "expected"), OWN_CASES)
def test_a_bad_row_is_refused_with_file_line_column_found_and_expected(
    tmp_path: Path, old: str, new: str, column: str, found: str, expected: str
) -> None:
    """One bad value on line 3 of a Tango file names exactly that place."""
    path = _file(tmp_path, OWN.replace(old, new))

    error = _refused(path)

    assert error.total == 1
    row = error.rows[0]
    assert (row.file, row.line, row.column) == (str(path), 3, column)
    assert row.found == found
    assert expected in row.expected
    assert f"{path}:3:" in str(error)
    assert "--skip-bad FILE" in str(error)


@pytest.mark.parametrize(("old", "new", "column", "found", "expected"), OWN_CASES)
def test_skipping_bad_rows_takes_exactly_the_good_ones(
    tmp_path: Path, old: str, new: str, column: str, found: str, expected: str
) -> None:
    """The three good rows are read as they stand, the bad one is kept with its reason and its text."""
    reading = read_trace(_file(tmp_path, OWN.replace(old, new)), skip_bad=True)
    out = tmp_path / "bad.csv"
    reading.refusals.write(out)

    rows = list(csv.DictReader(out.open(newline="")))
    assert reading.trace.arrival_s.tolist() == [0.5, 2.5, 3.5]
    assert reading.trace.service_class.tolist() == [0, 0, 1]
    assert [(r["line"], r["column"], r["found"]) for r in rows] == [("3", column, found)]
    assert rows[0]["row"] == OWN.replace(old, new).split("\n")[2]


@pytest.mark.parametrize(
    ("content", "old", "new", "line", "column", "found"),
    [
        (GOOGLE, "600000001,", "1,", 3, "time", "1"),
        (GOOGLE, "600000001,", "-5,", 3, "time", "-5"),
        (GOOGLE, "600000001,", "99999999999999999999,", 3, "time", "99999999999999999999"),
        (GOOGLE, "600000001,,20,1", "600000001,,20.5,1", 3, "job_id", "20.5"),
        (GOOGLE, ",user=,2,9,0.25", ",user=,4,9,0.25", 3, "scheduling_class", "4"),
        (GOOGLE, ",user=,2,9,0.25", ",user=,,9,0.25", 3, "scheduling_class", "nothing"),
        (GOOGLE, ",user=,2,9,0.25", ",user=,2,12,0.25", 3, "priority", "12"),
        (GOOGLE, "2,9,0.25,", "2,9,1.25,", 3, "cpu_request", "1.25"),
        (GOOGLE, "2,9,0.25,", "2,9,inf,", 3, "cpu_request", "inf"),
        (GOOGLE, "600000001,,20,1,,0", "600000001,,20,1,,9", 3, "event_type", "9"),
        (GOOGLE, "600000001,,20,1,,0,", "600000001,,20,1,x,0,", 3, "machine_id", "x"),
        (ALIBABA, "Running,120", "Running,-120", 2, "start_time", "-120"),
        (ALIBABA, "Running", "Dancing", 2, "status", "Dancing"),
        (ALIBABA, "120,0,100", "120,0,1e9", 2, "plan_cpu", "1e9"),
        (AZURE, "18:15:50.9951690", "18:15:40.9951690", 3, "TIMESTAMP", "2023-11-16 18:15:40.9951690"),
        (AZURE, "2023-11-16 18:15:50", "2023-02-30 18:15:50", 3, "TIMESTAMP", "2023-02-30 18:15:50.9951690"),
        (AZURE, "2023-11-16 18:15:50", "2023-02-29 18:15:50", 3, "TIMESTAMP", "2023-02-29 18:15:50.9951690"),
        (AZURE, "2023-11-16 18:15:50", "2100-02-29 18:15:50", 3, "TIMESTAMP", "2100-02-29 18:15:50.9951690"),
        (AZURE, "2023-11-16 18:15:50", "2300-01-01 18:15:50", 3, "TIMESTAMP", "2300-01-01 18:15:50.9951690"),
        (AZURE, "2023-11-16 18:15:50", "2260-02-29 18:15:50", 3, "TIMESTAMP", "2260-02-29 18:15:50.9951690"),
        (AZURE, "2023-11-16 18:15:50", "0044-03-15 18:15:50", 3, "TIMESTAMP", "0044-03-15 18:15:50.9951690"),
        (AZURE, "396,109", "396,many", 3, "GeneratedTokens", "many"),
        (GOOGLE_2019, "6000000,0,1,0", "6000000,0,1,7", 3, "scheduling_class", "7"),
        (GOOGLE_2019, "6000000,0,1,0,1", "6000000,0,1,0,", 3, "instance_index", "nothing"),
    ],
)
def test_foreign_formats_name_their_bad_values_alike(
    tmp_path: Path, content: str, old: str, new: str, line: int, column: str, found: str
) -> None:
    """Every column of the public formats is checked, also those that no request needs."""
    assert old in content
    error = _refused(_file(tmp_path, content.replace(old, new, 1)))

    assert [(row.line, row.column, row.found) for row in error.rows] == [(line, column, found)]


@pytest.mark.parametrize("content", [OWN, GOOGLE, ALIBABA, AZURE, GOOGLE_2019])
def test_the_exact_pass_reads_good_rows_as_the_fast_one(tmp_path: Path, content: str) -> None:
    """A broken line at the end sends the file through the exact pass, whose good rows are the same."""
    fast = read_trace(_file(tmp_path, content)).trace
    exact = read_trace(_file(tmp_path, content.rstrip() + "\nbroken \x00\n"), skip_bad=True)

    assert len(exact.refusals) == 1
    for name in ("arrival_s", "service_class", "service", "cluster", "cpu_work_s", "memory_mib"):
        np.testing.assert_array_equal(getattr(fast, name), getattr(exact.trace, name))


def test_many_bad_rows_across_blocks_keep_their_line_numbers(tmp_path: Path) -> None:
    """Lines stay exact beyond the reader's block size, with several faults of several kinds."""
    n = 400_000
    rows = [f"{i / 1000:.3f},be,,,1.25,100" for i in range(n)]
    rows[7] = "x,be,,,1.25,100"
    rows[150_000] = "150,be,,1.25"
    rows[200_000] = "200.000,be,,,nan,100"
    rows[300_000] = "300,be,\xff"
    path = _file(tmp_path, "arrival_s,class,service,cluster,cpu_work_s,memory_mib\n" + "\n".join(rows), "big.csv")
    path.write_bytes(path.read_bytes().replace(b"\xc3\xbf", b"\xff"))

    reading = read_trace(path, skip_bad=True)

    assert [(r.reason.line, r.reason.found) for r in reading.refusals.rows] == [
        (9, "x"),
        (150_002, "4 columns"),
        (200_002, "nan"),
        (300_002, "the byte 0xff"),
    ]
    assert len(reading.trace) == n - 4


def test_bytes_that_are_not_utf8_are_refused_by_line(tmp_path: Path) -> None:
    """A Latin-1 byte names its line."""
    path = _file(tmp_path, OWN.encode().replace(b"batch", b"b\xe4tch"))

    row = _refused(path).rows[0]

    assert (row.line, row.found, row.expected) == (3, "the byte 0xe4", "UTF-8 text")


@pytest.mark.parametrize(
    ("header", "column", "found"),
    [
        ("arrival_s,service,cluster,cpu_work_s,memory_mib,x", "class", "the header"),
        ("arrival_s,class,service,service,cpu_work_s,memory_mib", "service", "a column named twice"),
    ],
)
def test_a_wrong_header_refuses_the_file_even_when_bad_rows_are_skipped(
    tmp_path: Path, header: str, column: str, found: str
) -> None:
    """Without its header no row can be understood."""
    path = _file(tmp_path, header + OWN[OWN.index("\n") :])

    row = _refused(path, skip_bad=True).rows[0]

    assert (row.line, row.column) == (1, column)
    assert row.found.startswith(found)


def test_a_missing_header_names_the_columns(tmp_path: Path) -> None:
    """Rows without a header are no known format; with --format the header is asked for."""
    path = _file(tmp_path, OWN[OWN.index("\n") + 1 :])

    assert "arrival_s,class,service,cluster,cpu_work_s,memory_mib" in str(_refused(path))
    assert "a header with the columns arrival_s, class" in str(_refused(path, format="tango"))


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """Empty, blank, a lone byte order mark or an empty gzip: nothing to read."""
    assert "found an empty file, expected rows of a trace" in str(_refused(_file(tmp_path, content)))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_text_in_another_encoding_is_refused_by_its_name(tmp_path: Path, encoding: str) -> None:
    """As Windows writes it, with a byte order mark or without one; the message has the command that makes UTF-8 of it."""
    found = str(_refused(_file(tmp_path, OWN.encode(encoding)), skip_bad=True))

    assert "found text in UTF-16 or UTF-32, expected UTF-8; `iconv -f UTF-16 -t UTF-8 FILE`" in found


def test_lines_that_end_in_carriage_returns_alone_are_refused_by_their_name(tmp_path: Path) -> None:
    """As old spreadsheets write them: the whole file would be one line."""
    found = str(_refused(_file(tmp_path, OWN.replace("\n", "\r").encode()), skip_bad=True))

    assert "found lines that end in carriage returns alone, expected line feeds" in found


def test_a_missing_file_a_folder_and_a_pattern_without_match_are_refused(tmp_path: Path) -> None:
    """What is no file is said to be none."""
    assert "found no such file" in str(_refused(tmp_path / "none.csv"))
    assert "found no such file" in str(_refused(tmp_path / "*.csv"))
    assert "found a folder" in str(_refused(tmp_path))


def test_a_truncated_gzip_is_refused_and_skipping_takes_the_rows_before_the_cut(tmp_path: Path) -> None:
    """Rows that were read whole before the cut are good; the torn one is not."""
    rows = [f"{i},be,,,{1 + (i * 7919 % 1000) / 1000},100" for i in range(5000)]
    whole = gzip.compress(("arrival_s,class,service,cluster,cpu_work_s,memory_mib\n" + "\n".join(rows)).encode(), mtime=0)
    path = _file(tmp_path, whole[: len(whole) // 2], "cut.csv.gz")

    error = _refused(path)
    reading = read_trace(path, skip_bad=True)

    assert error.rows[0].found == "a gzip stream that ends early"
    assert error.rows[0].line > 1
    assert 0 < len(reading.trace) < 5000
    assert reading.trace.arrival_s.tolist() == list(range(len(reading.trace)))
    assert reading.refusals.rows[-1].reason.line == len(reading.trace) + 2


def test_a_corrupt_gzip_is_refused(tmp_path: Path) -> None:
    """A flipped byte is met by the checksum, other data after the stream by its missing header."""
    whole = bytearray(gzip.compress(OWN.encode()))
    whole[-6] ^= 0xFF

    assert "a corrupt gzip stream" in str(_refused(_file(tmp_path, bytes(whole), "x.csv.gz")))
    assert "other data after" in str(_refused(_file(tmp_path, gzip.compress(OWN.encode()) + b"rest", "y.csv.gz")))


def test_gzip_in_several_members_is_one_file(tmp_path: Path) -> None:
    """Concatenated gzip files are a gzip file."""
    path = _file(tmp_path, gzip.compress(OWN[:100].encode()) + gzip.compress(OWN[100:].encode()), "two.csv.gz")

    assert len(read_trace(path).trace) == 4


def test_unknown_services_and_clusters_are_refused_by_line_when_the_fleet_is_known(tmp_path: Path) -> None:
    """With a fleet the reader names the line of each unknown name and what is known."""
    text = OWN.replace("batch,c1", "botch,c1").replace("web,c1,,", "web,c7,,")
    error = _refused(_file(tmp_path, text), fleet=load_fleet("single"))

    assert [(row.line, row.column, row.found) for row in error.rows] == [(3, "service", "botch"), (4, "cluster", "c7")]
    assert error.rows[0].expected == "web or batch, or nothing"
    assert "c1 or 1" in error.rows[1].expected


def test_bad_json_lines_are_refused_by_line(tmp_path: Path) -> None:
    """JSON that does not parse, a value of the wrong kind, and a list in place of an object."""
    good = {"time": "5000000", "type": "0", "collection_id": "1", "scheduling_class": 2, "instance_index": 0}
    lines = [json.dumps(good), '{"time": 5', json.dumps({**good, "scheduling_class": 9}), "[1]", json.dumps({**good, "time": "x"})]
    reading = read_trace(_file(tmp_path, "\n".join(lines) + "\n", "events.json"), skip_bad=True)

    assert [(r.reason.line, r.reason.column) for r in reading.refusals.rows] == [
        (2, ""),
        (3, "scheduling_class"),
        (4, ""),
        (5, "time"),
    ]
    assert len(reading.trace) == 1


def test_a_bad_parquet_value_is_refused_by_row(tmp_path: Path) -> None:
    """Parquet rows are counted from 1 in place of lines."""
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(pa.table({"arrival_s": [0.5, 1.5, float("nan")], "class": ["lc", "best", "be"]}), path)

    error = _refused(path)

    assert [(row.line, row.column, row.found) for row in error.rows] == [(2, "class", "best"), (3, "arrival_s", "nan")]
    assert "a whole Parquet file" in str(_refused(_file(tmp_path, path.read_bytes()[:50], "cut.parquet")))


def test_a_whole_number_may_have_a_plus(tmp_path: Path) -> None:
    """Arrow takes none; the pattern of whole numbers does."""
    reading = read_trace(_file(tmp_path, GOOGLE.replace("600000001,", "+600000001,") + "broken\n"), skip_bad=True)

    assert [row.reason.found for row in reading.refusals.rows] == ["1 columns"]


def test_an_unknown_format_lists_the_known_ones(tmp_path: Path) -> None:
    """The caller sees what can be read."""
    with pytest.raises(UsageError, match="known formats: " + ", ".join(FORMATS)):
        read_trace(_file(tmp_path, OWN), format="xml")


def test_a_file_without_one_good_row_is_refused_even_when_skipping(tmp_path: Path) -> None:
    """Nothing is left to go on with, so the reasons are told."""
    error = _refused(_file(tmp_path, "arrival_s,class\nx,lc\n1\n"), skip_bad=True)

    assert [(row.line, row.found) for row in error.rows] == [(2, "x"), (3, "1 columns")]
    assert "no request is left without the bad rows" in str(error)


def test_a_trace_of_state_alone_has_no_arrival(tmp_path: Path) -> None:
    """Rows of time 0 are good rows and no requests."""
    assert "found no arrival in 1 good rows" in str(_refused(_file(tmp_path, GOOGLE.split("\n")[0] + "\n")))


@pytest.mark.parametrize(
    ("service", "found"), [("a\0b", "the byte 0x00"), ("x" * 70_000, "70009 bytes")], ids=["NUL", "a line over 64 KiB"]
)
def test_what_arrow_would_take_as_it_is_is_refused_all_the_same(tmp_path: Path, service: str, found: str) -> None:
    """Also where every column can be read."""
    path = _file(tmp_path, f"arrival_s,class,service\n0.5,lc,web\n0.75,lc,{service}\n")

    refused = _refused(path).rows[0]

    assert (refused.line, refused.found) == (3, found)
