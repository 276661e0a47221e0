"""Any table is a trace by a map: Tango's columns as expressions over the file's, computed on whole columns and never run as code."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango.errors import BadRows, UsageError
from tango.fleets import load_fleet
from tango.traces import read_trace, write_trace
from tango.traces.column_map import MOST_CHARACTERS, SIGNATURES, column_map
from tango.traces.files import Content
from tango.traces.mapped_columns import read_mapped
from tango.traces.refusals import Refusals
from tango.traces.workload_defaults import workload_of
from tango.traces.workloads import Workload, draw_requests

CALLS = "id,started,took_ms,kind,memory\n7,12.5,250,web,64\n9,10.0,4000,job,\n3,11.0,0,web,128\n"


def written(path: Path, text: str) -> Path:
    """A file of this text."""
    path.write_text(text, encoding="utf-8")
    return path


def mapped(map: str, text: str = CALLS) -> dict[str, list[object]]:
    """Tango's columns that a map makes of rows of CSV, by row of the file; empty values are None."""
    refusals = Refusals()
    found = read_mapped(column_map(map), Content("t.csv", text.encode()), None, refusals)
    refusals.raise_if_any()
    values: dict[str, list[object]] = {}
    for name, column in found.by_name.items():
        some = [column.words[code] if column.words else code for code in column.data.tolist()]
        values[name] = [None if null else value for null, value in zip(column.null.tolist(), some, strict=True)]
    return values


def value_of(expression: str, text: str = CALLS) -> list[object]:
    """What an expression gives for each row, as a work is read."""
    return mapped(f"arrival_s=0*{first_number(text)},cpu_work_s={expression}", text)["cpu_work_s"]


def text_of(expression: str, text: str = CALLS) -> list[object]:
    """What an expression gives for each row, as a service is read."""
    return mapped(f"arrival_s=0*{first_number(text)},service={expression}", text)["service"]


def first_number(text: str) -> str:
    """Name of the first column, which has numbers in every text of these tests."""
    return text.partition(",")[0].partition("\n")[0]


def refused(map: str, text: str = CALLS) -> BadRows:
    """The error of reading rows by a map, which refuses rows or the file."""
    with pytest.raises(BadRows) as caught:
        mapped(map, text)
    return caught.value


# ---- a table becomes a trace ----------------------------------------------------------------------------------------------------


def test_a_table_becomes_a_trace_in_order_of_arrival_from_zero(tmp_path: Path) -> None:
    """Rows come in any order and times have any beginning; a work of 0 is unknown, and the reading says so."""
    path = written(tmp_path / "calls.csv", CALLS)

    reading = read_trace(
        path, map="arrival_s=started,class='be' if kind == 'job' else 'lc',service=kind,cpu_work_s=took_ms / 1000,memory_mib=memory"
    )

    trace = reading.trace
    assert reading.format == "mapped"
    assert trace.arrival_s.tolist() == [0.0, 1.0, 2.5]
    assert trace.service_class.tolist() == [1, 0, 0]
    assert [trace.services[code] for code in trace.service] == ["job", "web", "web"]
    np.testing.assert_array_equal(trace.cpu_work_s, [4.0, np.nan, 0.25])
    np.testing.assert_array_equal(trace.memory_mib, [np.nan, 128.0, 64.0])
    assert reading.notes == ("1 works of 0 count as unknown: they are drawn from the services",)


def test_requests_without_a_class_are_lc_and_that_is_said(tmp_path: Path) -> None:
    """The default is the class whose requests somebody waits for."""
    reading = read_trace(written(tmp_path / "calls.csv", CALLS), map="arrival_s=started")

    assert set(reading.trace.service_class.tolist()) == {0}
    assert reading.notes == ("the map gives no class: all requests are LC",)


def test_parquet_json_lines_and_csv_of_the_same_rows_give_the_same_trace(tmp_path: Path) -> None:
    """Whatever the types: numbers, texts of numbers, times with a unit; columns in records are named with dots."""
    map = "arrival_s=seconds(at),class=kind,cpu_work_s=of.work * 2,service=`of.the name`"
    rows = [("2026-03-01 10:00:01", "lc", 0.5, "a"), ("2026-03-01 10:00:00", "be", 2.0, "b, c")]
    quoted = [f'{at},{kind},{work},"{name}"' for at, kind, work, name in rows]
    csv = written(tmp_path / "t.csv", "\n".join(["at,kind,of.work,of.the name", *quoted, ""]))
    lines = [json.dumps({"at": at, "kind": kind, "of": {"work": work, "the name": name}}) for at, kind, work, name in rows]
    json_lines = written(tmp_path / "t.json", "\n".join([*lines, ""]))
    parquet = tmp_path / "t.parquet"
    columns = {
        "at": pa.array([datetime.fromisoformat(at).replace(tzinfo=UTC) for at, *_ in rows], pa.timestamp("ms", "UTC")),
        "kind": pa.array([kind for _, kind, *_ in rows]).dictionary_encode(),
        "of": pa.array([{"work": work, "the name": name} for _, _, work, name in rows]),
        "unread": pa.array([[1], [2]]),
    }
    pa.parquet.write_table(pa.table(columns), parquet)

    traces = [read_trace(path, map=map).trace for path in (csv, json_lines, parquet)]

    for trace in traces:
        assert trace.arrival_s.tolist() == [0.0, 1.0]
        assert trace.service_class.tolist() == [1, 0]
        assert trace.cpu_work_s.tolist() == [4.0, 1.0]
        assert [trace.services[code] for code in trace.service] == ["b, c", "a"]


def test_a_file_without_a_header_has_its_columns_by_number(tmp_path: Path) -> None:
    """`c1` is the first; where the header has such a name, that column is meant."""
    assert read_trace(
        written(tmp_path / "a.csv", "5,x,0.1\n4,y,0.2\n"), map="arrival_s=c1,cpu_work_s=c3"
    ).trace.cpu_work_s.tolist() == [
        0.2,
        0.1,
    ]
    assert read_trace(written(tmp_path / "b.csv", "c2,c1\n5,1\n4,2\n"), map="arrival_s=c1").trace.arrival_s.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_values_may_be_apart_by_other_signs_than_commas(tmp_path: Path, sign: str) -> None:
    """The one that the first line has most of; then commas are part of the values."""
    text = "\n".join(sign.join(row) for row in (("t", "name"), ("1", "a,b"), ("2", f'"c{sign}d"'), ("x", "")))

    reading = read_trace(written(tmp_path / "t.txt", text), map="arrival_s=t,service=name", skip_bad=True)

    assert [reading.trace.services[code] for code in reading.trace.service] == ["a,b", f"c{sign}d"]
    assert [row.text for row in reading.refusals.rows] == [f"x{sign}"]


def test_parts_are_one_trace(tmp_path: Path) -> None:
    """Seconds count from the first arrival of all of them."""
    parts = [written(tmp_path / "1.csv", "t\n30\n20\n"), written(tmp_path / "2.csv", "t\n5\n")]

    assert read_trace(parts, map="arrival_s=t").trace.arrival_s.tolist() == [0.0, 15.0, 25.0]


def test_tangos_own_file_is_mapped_to_itself(tmp_path: Path) -> None:
    """Also the column `class`, which is a word of Python's."""
    own = written(tmp_path / "own.csv", "arrival_s,class,service,cluster,cpu_work_s,memory_mib\n0,lc,a,c1,0.5,\n2.5,be,,~j,,64\n")
    names = ("arrival_s", "class", "service", "cluster", "cpu_work_s", "memory_mib")

    trace = read_trace(own, map=",".join(f"{name}={name}" for name in names)).trace
    write_trace(trace, tmp_path / "again.csv")

    write_trace(read_trace(own).trace, tmp_path / "plain.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()


# ---- expressions ----------------------------------------------------------------------------------------------------------------

NUMBERS = "a,b\n" + "\n".join(f"{a},{b}" for a, b in ((1, 3), (2.5, 4), (7, 2), (100, 0.5)))


@pytest.mark.parametrize(
    ("expression", "by_hand"),
    [
        ("a + 2 * b", lambda a, b: a + 2 * b),
        ("(a + 2) * b", lambda a, b: (a + 2) * b),
        ("a // b + a % b", lambda a, b: a // b + a % b),
        ("b ** 2 - -a", lambda a, b: b**2 + a),
        ("a if a > b else b", max),
        ("1 if a > 2 and b < 4 or a == 1 else 2", lambda a, b: 1 if (a > 2 and b < 4) or a == 1 else 2),
        ("1 if not a > b else 2", lambda a, b: 1 if not a > b else 2),
        ("1 if 1 < a <= 7 else 2", lambda a, b: 1 if 1 < a <= 7 else 2),
        ("1 if a in (1, 7) else 2", lambda a, b: 1 if a in (1, 7) else 2),
        ("min(a, b, 3) + max(a, b)", lambda a, b: min(a, b, 3) + max(a, b)),
        ("round(a / 3, 2) + round(b)", lambda a, b: round(a / 3, 2) + round(b)),
        ("floor(a / 2) + ceil(b / 2) + 1", lambda a, b: math.floor(a / 2) + math.ceil(b / 2) + 1),
        (
            "log(a + 1) + log(b + 1, 2) + sqrt(a) + exp(b / 10)",
            lambda a, b: math.log(a + 1) + math.log2(b + 1) + a**0.5 + math.exp(b / 10),
        ),
        ("abs(a - b) + 1", lambda a, b: abs(a - b) + 1),
        ("seconds(a, 'ms') + seconds(b, 'min')", lambda a, b: a / 1000 + b * 60),
        ("2 if (a > b) == (b > 1) else 3", lambda a, b: 2 if (a > b) == (b > 1) else 3),
    ],
)
def test_an_expression_is_what_python_says(expression: str, by_hand: Callable[[float, float], float]) -> None:
    """Precedence, chains and functions as in Python, on every row."""
    rows = [tuple(map(float, line.split(","))) for line in NUMBERS.splitlines()[1:]]

    assert value_of(expression, NUMBERS) == pytest.approx([by_hand(a, b) for a, b in rows])


@pytest.mark.parametrize(
    ("expression", "texts"),
    [
        ("name", ["Web", "job-1", None]),
        ("lower(name)", ["web", "job-1", None]),
        ("upper(name) + '/' + k", ["WEB/1", "JOB-1/2", "/3"]),
        ("'j' if starts(name, 'job') else 'w'", ["w", "j", "w"]),
        ("'1' if ends(name, '-1') else 'n'", ["n", "1", "n"]),
        ("'in' if 'ob' in name else 'out'", ["out", "in", "out"]),
        ("'known' if name in ('Web', 'x') else 'other'", ["known", "other", "other"]),
        ("default(name, 'none')", ["Web", "job-1", "none"]),
        ("text(k / 2)", ["0.5", "1", "1.5"]),
        ("k", ["1", "2", "3"]),
        ("'none' if name == '' else strip(name)", ["Web", "job-1", "none"]),
        ("'late' if day > '2026-02' else 'soon'", ["soon", "late", "soon"]),
        ("column('day')", ["2026-01-05", "2026-03-01", "2026-01-31"]),
    ],
)
def test_texts_are_compared_and_put_together(expression: str, texts: list[object]) -> None:
    """An empty text is nothing, which a service may be."""
    assert text_of(expression, "k,name,day\n1, Web ,2026-01-05\n2,job-1,2026-03-01\n3,,2026-01-31\n") == texts


def test_nothing_makes_nothing_and_holds_in_no_comparison() -> None:
    """As a row says that has no value; `default` gives one."""
    text = "a,b\n1,\n2,4\n"

    assert value_of("a + b", text) == [None, 6.0]
    assert value_of("1 if b < 5 else 2", text) == [2.0, 1.0]
    assert value_of("1 if b >= 5 else 2", text) == [2.0, 2.0]
    assert value_of("default(b, a * 10)", text) == [10.0, 4.0]
    assert value_of("a if b > 0 else number('')", text) == [None, 2.0]
    assert value_of("default(b, 9)", "a,b\n1,NaN\n2,4\n3,\n") == [9.0, 4.0, 9.0]


def test_what_is_not_taken_refuses_no_row() -> None:
    """A text in place of a number, and a division by zero, count only in the branch that a row takes."""
    text = "a,b\n1,2\n3,0\n5,n/a\n"

    assert value_of("9 if b == 'n/a' else 8 if b == 0 else a / b", text) == [0.5, 8.0, 9.0]
    assert value_of("1 if b != 'n/a' and a / 3 > b else 2", text) == [2.0, 1.0, 2.0]
    rows = sorted(refused("arrival_s=a,cpu_work_s=a / b", text).rows, key=lambda row: row.line)
    assert [(row.line, row.found) for row in rows] == [(3, "3 / 0"), (4, "'n/a' in b")]


names = st.sampled_from(["a", "b", "c"])
numbers = st.integers(1, 9).map(str)


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions of expressions."""
    condition = st.builds("{} {} {}".format, inner, st.sampled_from(["<", "<=", "==", "!=", ">", ">="]), inner)
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*"]), inner),
        st.builds("({} if {} else {})".format, inner, condition, inner),
        st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), inner, inner),
        st.builds("(-{})".format, inner),
        st.builds("(1 if not ({} and {}) or {} else 2)".format, condition, condition, condition),
    )


@given(
    expression=st.recursive(names | numbers, larger, max_leaves=8),
    rows=st.lists(st.tuples(*[st.integers(-50, 50)] * 3), min_size=1, max_size=6),
)
def test_any_expression_is_what_python_says(expression: str, rows: list[tuple[int, int, int]]) -> None:
    """Row by row, of whole numbers, which both compute exactly."""
    text = "a,b,c\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows)
    allowed = {"min": min, "max": max, "__builtins__": {}}

    found = mapped(f"arrival_s=0*a,memory_mib=abs({expression})", text)["memory_mib"]

    assert found == [abs(float(eval(expression, dict(allowed, a=a, b=b, c=c)))) for a, b, c in rows]


# ---- mistakes -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("map", "said"),
    [
        ("service=kind", "does not say when a request arrives, expected arrival_s=EXPRESSION"),
        ("arrival=started", "gives 'arrival' at character 1 (did you mean 'arrival_s'?)"),
        ("arrival_s=started,arrival_s=id", "gives arrival_s twice"),
        ("arrival_s=started,kind", "has 'kind' at character 19, expected COLUMN=EXPRESSION"),
        ("arrival_s=started,class==kind", "has 'class==kind' at character 19"),
        ("arrival_s=", "an expression is missing"),
        ("arrival_s=started+", "invalid syntax at character 19"),
        ("arrival_s=started,service='a", "has a ' that is not closed"),
        ("arrival_s=started * from", "a column named from stands in backquotes or as column('from')"),
        ("arrival_s=flor(started)", "at character 11 of the map: there is no function 'flor' (did you mean 'floor'?)"),
        ("arrival_s=started,cpu_work_s=2*round(1,2,3)", "at character 32 of the map: round has 3 arguments, expected 1 to 2"),
        ("arrival_s=seconds(started, 'days')", "the unit of seconds is 'days', expected one of ns, us, ms, s, min, h"),
        ("arrival_s=column(started)", "column takes a name in quotes"),
        ("arrival_s=5", "names no column of the file"),
        ("arrival_s=started+1e999", "may not stand in an expression"),
        ("arrival_s=" + "-" * 200 + "started", "nested deeper than"),
        ("arrival_s=" + "(" * 5000 + "started", "nested"),
        ("arrival_s=started" + " " * MOST_CHARACTERS, f"expected at most {MOST_CHARACTERS}"),
    ],
)
def test_a_map_with_a_mistake_is_refused_by_its_place(map: str, said: str) -> None:
    """Before any file is read, naming the expression, the character and what may have been meant."""
    with pytest.raises(UsageError) as caught:
        column_map(map)

    assert said in str(caught.value)
    assert len(str(caught.value)) < MOST_CHARACTERS + 1000


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "started.__class__()",
        "(lambda: 1)()",
        "[x for x in started]",
        "(x := started)",
        "f'{started}'",
        "started[0]",
        "{'a': started}",
        "started if started else (yield)",
        "max(*started)",
        "started @ 2",
        "started << 2",
        "None",
        "b'x'",
        "...",
        "print(started)",
        "eval('1')",
    ],
)
def test_nothing_but_an_expression_over_columns_is_taken(expression: str) -> None:
    """What Python could do beyond that is refused, not run."""
    with pytest.raises((UsageError, BadRows)):
        mapped(f"arrival_s={expression}")


def test_a_column_that_there_is_not_is_told_with_the_nearest_and_all() -> None:
    """In the order of the file."""
    (row,) = refused("arrival_s=started,cpu_work_s=took / 1000").rows

    assert row.column == "cpu_work_s"
    assert row.found == "no column 'took' (did you mean 'took_ms'?)"
    assert row.expected == "one of id, started, took_ms, kind, memory in cpu_work_s=took / 1000"


def test_a_value_that_cannot_be_used_is_told_by_row_column_expression_and_place(tmp_path: Path) -> None:
    """And --skip-bad takes the other rows, and has the row as it stands in the file."""
    text = CALLS.replace("4000", "four")
    map = "arrival_s=started,cpu_work_s=took_ms / 1000"

    (row,) = refused(map, text).rows
    skipped = read_trace(written(tmp_path / "t.csv", text), map=map, skip_bad=True)

    assert str(row) == (
        "t.csv:3: column cpu_work_s found 'four' in took_ms, expected a number in cpu_work_s=took_ms / 1000, at character 30 of the map"
    )
    assert len(skipped.trace) == 2
    assert [refusal.text for refusal in skipped.refusals.rows] == ["9,10.0,four,job,"]


@pytest.mark.parametrize(
    ("map", "said"),
    [
        ("arrival_s=started,class=kind", "column class found web from kind, expected lc or be"),
        ("arrival_s=started,cpu_work_s=-id", "column cpu_work_s found -7 from -id, expected a number from 0"),
        ("arrival_s=started * 1e12", "column arrival_s found 12500000000000 from started * 1e12"),
        ("arrival_s=memory", "column arrival_s found nothing from memory"),
        ("arrival_s=log(started - 12.5)", "found log of 0, expected something that has a value"),
        ("arrival_s=started,service='a' if kind else 'b'", "found a text, 'kind', expected a condition, such as a comparison"),
        ("arrival_s=started,cpu_work_s='web'", "found a text, \"'web'\", expected a number"),
        ("arrival_s=started,service=id < 8", "found a condition, 'id < 8', expected a text"),
        ("arrival_s=seconds(started)", "found numbers in 'started', expected their unit"),
        ("arrival_s=seconds(kind)", "found 'web' in kind, expected a time YYYY-MM-DD"),
    ],
)
def test_what_no_request_can_have_is_refused(map: str, said: str) -> None:
    """By the same bounds as in Tango's own files."""
    assert said in str(refused(map))


def test_times_that_are_read_as_numbers_say_what_takes_them() -> None:
    """The commonest mistake."""
    assert "(seconds(X) takes times)" in str(refused("arrival_s=at", "at\n2026-01-01 00:00:00\n"))


def test_milliseconds_taken_for_seconds_are_refused(tmp_path: Path) -> None:
    """Where they cannot be meant: a time after 2200, or a trace of more than ten years."""
    with pytest.raises(BadRows, match=r"seconds\(X, 'ms'\) makes them of ms"):
        read_trace(written(tmp_path / "t.csv", "t\n0\n700000000\n"), map="arrival_s=t")


def test_names_of_services_are_held_to_the_fleet(tmp_path: Path) -> None:
    """As those of Tango's own files, where a fleet is given."""
    path = written(tmp_path / "t.csv", CALLS)

    with pytest.raises(BadRows, match="column service found web from kind"):
        read_trace(path, map="arrival_s=started,service=kind", fleet=load_fleet("testbed"))


def test_a_format_beside_a_map_is_refused(tmp_path: Path) -> None:
    """One of them would have no effect."""
    with pytest.raises(UsageError, match="leave out the format"):
        read_trace(written(tmp_path / "t.csv", CALLS), map="arrival_s=started", format="tango")


def test_the_page_names_every_function() -> None:
    """docs/traces.md, in the table of expressions."""
    page = (Path(__file__).parents[3] / "docs" / "traces.md").read_text(encoding="utf-8")
    section = page.partition("## Any other table")[2].partition("\n## ")[0]

    assert [name for name in SIGNATURES if f"`{name}(" not in section] == []


# ---- workloads ------------------------------------------------------------------------------------------------------------------


def test_a_workload_draws_from_a_mapped_table(tmp_path: Path) -> None:
    """Of both classes where it has both, and it comes through JSON as a cell does."""
    path = str(written(tmp_path / "t.csv", CALLS))
    map = "arrival_s=started,class='be' if kind == 'job' else 'lc',cpu_work_s=took_ms / 1000"

    workload = workload_of((path,), lc_map=map, resample=False)
    requests = draw_requests(Workload.from_dict(json.loads(json.dumps(workload.as_dict()))), load_fleet("testbed"), 1)

    assert (workload.lc_map, workload.be_map, workload.label) == (map, map, "t as-recorded mapped")
    assert requests.due_s.tolist() == [0.0, 1.0, 2.5]
    assert requests.cpu_work_s[0] == 4.0


def test_each_source_has_its_own_map(tmp_path: Path) -> None:
    """LC of one table, BE of another; a file of one class alone gives no other."""
    lc, be = (str(written(tmp_path / f"{name}.csv", f"{name}\n0\n2\n")) for name in ("x", "y"))
    as_be = "arrival_s=y,class='be'"

    both = workload_of((lc,), (be,), lc_map="arrival_s=x", be_map=as_be)
    only = workload_of((be,), lc_map=as_be)

    assert (both.lc_map, both.be_map) == ("arrival_s=x", as_be)
    assert (only.lc, only.lc_map, only.be, only.be_map) == ((), "", (be,), as_be)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lc": ("p3",), "be": ("p3",), "lc_map": "arrival_s=t", "be_map": "arrival_s=t", "load": 1.0}, "is for trace files"),
        ({"lc": ("a.csv",), "be": ("a.csv",), "lc_map": "arrival_s=t"}, "is for a BE source of its own"),
        ({"lc": ("a.csv",), "be": (), "lc_map": "arrival_s="}, "an expression is missing"),
    ],
)
def test_a_map_without_its_files_is_refused(given: dict[str, object], said: str) -> None:
    """When the workload is made, not when it is drawn."""
    with pytest.raises(UsageError, match=said):
        Workload(duration_s=1.0, **given)  # type: ignore[arg-type]
