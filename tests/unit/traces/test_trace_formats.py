"""A trace format is one file and one line of `formats`."""

from __future__ import annotations

import importlib
import io
import pkgutil
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

import tango.traces
from tango.traces.files import Content, Form
from tango.traces.formats import FORMATS
from tango.traces.reading import recognise
from tango.traces.trace_format import Head, Sign

DOCS = Path(__file__).parents[3] / "docs" / "traces.md"
BEGINNINGS = {
    "tango": "arrival_s,class\n1.5,lc\n",
    "google2011": "600000000,,7,0,,0,u=,2,0,0.5,0.5,0.001,0\n",
    "google2011-jobs": "600000000,,7,0,u=,2,n=,l=\n",
    "google2019": "time,type,collection_id,scheduling_class,instance_index\n1,0,7,2,0\n",
    "alibaba2017": "6459,6524,3,4,15740,Terminated,50,0.008\n",
    "alibaba2018": "task_1,1,j_1,1,Terminated,100,200,50,0.5\n",
    "alibaba-gpu2023": "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n",
    "alibaba-genai2026": "gmt_create,predict_type,predict_status,exec_time_seconds\n2024-11-15 16:57:50,TXT_2_IMG,SUCCEED,32.0\n",
    "azure-functions2019": "HashFunction,HashApp,HashOwner,minute_1,minute_2\na,b,c,1,0\n",
    "azure-functions2019-durations": "HashFunction,Count,Average,percentile_Average_50\na,1,2,2\n",
    "azure-functions2019-memory": "HashApp,HashOwner,SampleCount,AverageAllocatedMb\na,b,3,4\n",
    "azure-functions2021": "app,func,end_timestamp,duration\na,b,1.5,0.25\n",
    "azure-llm2023": "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n",
    "azure-llm2024": "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-12 00:00:00+00:00,2162,5\n",
    "azure-lmm2025": "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n2024-10-15 00:00:00.0000000,1,2162,5\n",
    "worldcup98": "period,count\n1998-05-01 00:00:00.0000000,12\n",
}
"""A small file of each format."""


def parquet(*, metadata: bytes = b"", **columns: list[int]) -> bytes:
    """A Parquet file of these columns, with so much in its footer."""
    out = io.BytesIO()
    pa.parquet.write_table(pa.table(columns).replace_schema_metadata({b"made by": metadata}), out)
    return out.getvalue()


def content_of(text: str) -> Content:
    """A file of these rows."""
    return Content("t.csv", text.encode())


def test_every_file_of_a_format_has_its_line() -> None:
    """No format is written and then forgotten; names are those of the table in docs/traces.md, in its order."""
    modules = (importlib.import_module(f"tango.traces.{found.name}") for found in pkgutil.iter_modules(tango.traces.__path__))
    kin = ("YEARS", "TABLES")
    written = {
        known.name
        for module in modules
        for known in next((getattr(module, name) for name in kin if hasattr(module, name)), [getattr(module, "FORMAT", None)])
        if known
    }
    table = re.findall(r"^\| `([\w-]+)` \|", DOCS.read_text().partition("| `--format` |")[2].partition("\n\n")[0], re.MULTILINE)

    assert sorted(written) == sorted(FORMATS)
    assert table == list(FORMATS)


def test_the_table_says_by_which_column_rows_must_be_in_order() -> None:
    """`no` in the column of docs/traces.md where a format lets rows come in any order, and only there."""
    rows = [line.split("|") for line in DOCS.read_text().splitlines() if line.startswith("| `") and line.count("|") == 7]
    ordered = {cells[1].strip(" `"): cells[3].strip() != "no" for cells in rows}

    for name, found in FORMATS.items():
        assert ordered[name] == bool(found.schema_of(content_of(BEGINNINGS[name]), None).ordered_by), name


@pytest.mark.parametrize("name", BEGINNINGS)
def test_a_file_is_recognised_by_its_own_format_alone(name: str) -> None:
    """No other format is as sure of it, so that the order of the list decides nothing here."""
    content = content_of(BEGINNINGS[name])
    signs = {other: found.recognised(Head(content)) for other, found in FORMATS.items()}

    assert recognise(content).name == name
    assert [other for other, sign in signs.items() if sign >= signs[name]] == [name]


@pytest.mark.parametrize(
    ("beginning", "name"),
    [
        (parquet(collection_id=[1], metadata=b"x" * 100_000), "google2019"),
        (parquet(x=[1]), "tango"),
        (b'{"time": "1"}\n', "google2019"),
    ],
    ids=["Google's columns", "others", "JSON lines"],
)
def test_files_that_are_no_csv_are_told_by_form_and_footer(beginning: bytes, name: str) -> None:
    """JSON lines are Google's of 2019; Parquet is Tango's own unless the footer names Google's columns, however large it is."""
    assert recognise(Content("t", beginning)).name == name


def test_a_header_goes_before_the_number_of_columns() -> None:
    """A Tango file of nine columns is not taken for Alibaba's, whose rows have nine and no header."""
    names = "arrival_s,class,service,cluster,cpu_work_s,memory_mib,a,b,c"

    head = Head(content_of(f"{names}\n1,lc,,,,,,,\n"))

    assert head.width == 9
    assert FORMATS["alibaba2018"].recognised(head) is Sign.NONE
    assert recognise(head.content).name == "tango"


def test_every_form_of_a_format_has_columns() -> None:
    """A format that may come as JSON lines or Parquet gives the columns of that form too."""
    samples = {Form.CSV: b"a,b\n", Form.JSON_LINES: b'{"resource_request": 1}', Form.PARQUET: b"PAR1resource_request"}

    for found in FORMATS.values():
        for form in found.forms:
            content = Content("t", samples[form])
            assert content.form is form
            assert found.schema_of(content, None).format == found.name
