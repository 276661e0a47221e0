"""Formats with a request in each row, or counts in each: what a column becomes, on rows that can be checked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tango.errors import BadRows, RequestRejected
from tango.traces import read_trace
from tango.traces.rate_curve import RateCurve
from tango.traces.tasks_to_requests import MACHINE_MIB


def written(path: Path, *lines: str) -> Path:
    """A file of these lines."""
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def test_tasks_of_alibaba_2017_are_requests_of_one_instance(tmp_path: Path) -> None:
    """Rows in any order; a task counts once; tasks from before the trace are none; works are of one instance, open where it never ran."""
    rows = (
        "6036,6046,4,7,393,Waiting,,",
        "10,30,3,4,15740,Terminated,50,0.25",
        "40,90,3,4,15740,Terminated,50,0.25",
        "-5,20,3,9,1,Terminated,100,0.5",
        "5,5,8,1,1,Failed,100,0.5",
    )

    reading = read_trace(written(tmp_path / "t.csv", *rows))

    trace = reading.trace
    assert reading.format == "alibaba2017"
    assert trace.arrival_s.tolist() == [5.0, 10.0, 6036.0]
    assert trace.service_class.tolist() == [1, 1, 1]
    np.testing.assert_array_equal(trace.cpu_work_s, [np.nan, 10.0, np.nan])
    np.testing.assert_array_equal(trace.memory_mib, [0.5 * MACHINE_MIB, 0.25 * MACHINE_MIB, np.nan])
    assert [trace.clusters[code] for code in trace.cluster] == ["~8", "~3", "~4"]


def test_alibaba_2017_is_read_with_a_header_in_words_too(tmp_path: Path) -> None:
    """With spaces after commas, as a copy has it."""
    names = (
        "task_create_time, task_end_time, job_id, task_id,number_of_instances, status, "
        "number_of_cpus_requested_per_instance_in_the_task,normalized_memory_requested_per_instance_in_the_task"
    )

    reading = read_trace(written(tmp_path / "t.csv", names, "10,30,3,4,15740,Terminated,50,0.25"))

    assert (reading.format, reading.notes) == ("alibaba2017", ())
    assert reading.trace.cpu_work_s.tolist() == [10.0]


def test_a_status_of_alibaba_2017_that_there_is_not_is_refused(tmp_path: Path) -> None:
    """By its line, as in every format."""
    with pytest.raises(BadRows, match=r":2: column status found Gone, expected Ready or Waiting"):
        read_trace(written(tmp_path / "t.csv", "10,30,3,4,1,Terminated,50,0.25", "10,30,3,4,1,Gone,50,0.25"))


def test_jobs_of_google_2011_are_told_from_tasks(tmp_path: Path) -> None:
    """A job is a request at its first SUBMIT after time 0; class 2 and 3 are LC; works are open."""
    rows = (
        "0,,1,0,u=,3,n=,l=",
        "600000000,,7,0,u=,2,n=,l=",
        "601000000,,7,1,u=,2,n=,l=",
        "602000000,,8,0,u=,0,n=,l=",
        "603000000,,7,0,u=,2,n=,l=",
    )

    reading = read_trace(written(tmp_path / "t.csv", *rows))

    assert reading.format == "google2011-jobs"
    assert reading.trace.arrival_s.tolist() == [600.0, 602.0]
    assert reading.trace.service_class.tolist() == [0, 1]
    assert np.isnan(reading.trace.cpu_work_s).all()


def test_pods_of_alibaba_2023_are_requests_by_their_quality_of_service(tmp_path: Path) -> None:
    """LS and Guaranteed are LC, whose life is no work; BE and Burstable work from their scheduling to their end."""
    rows = (
        "a,12000,16384,1,1000,,LS,Running,9000,9900,9000",
        "b,2000,1024,1,500,,BE,Failed,9010,9130,9030",
        "c,2000,0,1,500,,BE,Pending,9020,9100,",
        "d,500,2048,0,0,,Burstable,Succeeded,9040,9060,9050",
        "e,500,2048,0,0,,Guaranteed,Running,9045,9060,9050",
    )
    names = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time"

    trace = read_trace(written(tmp_path / "t.csv", names, *rows)).trace

    assert trace.arrival_s.tolist() == [9000.0, 9010.0, 9020.0, 9040.0, 9045.0]
    assert trace.service_class.tolist() == [0, 1, 1, 1, 0]
    np.testing.assert_array_equal(trace.cpu_work_s, [np.nan, 200.0, np.nan, 5.0, np.nan])
    np.testing.assert_array_equal(trace.memory_mib, [16384.0, 1024.0, np.nan, 2048.0, 2048.0])


def test_requests_for_images_have_their_time_of_execution_as_work(tmp_path: Path) -> None:
    """In seconds from the first; a request that failed at once has none; a group enters at one cluster."""
    rows = (
        "2024-11-15 16:57:50,TXT_2_IMG,SUCCEED,32.0,G1,63.0",
        "2024-11-15 16:57:55,INPAINTING,FAILED,,G0,",
        "2024-11-15 16:57:50,X,S,0,G1,",
    )

    reading = read_trace(
        written(tmp_path / "t.csv", "gmt_create,predict_type,predict_status,exec_time_seconds,groupId,prompt_length", *rows)
    )

    trace = reading.trace
    assert reading.format == "alibaba-genai2026"
    assert trace.arrival_s.tolist() == [0.0, 0.0, 5.0]
    np.testing.assert_array_equal(trace.cpu_work_s, [32.0, np.nan, np.nan])
    assert [trace.clusters[code] for code in trace.cluster] == ["~G1", "~G1", "~G0"]
    assert "seconds of execution on a GPU" in reading.notes[0]


def test_invocations_of_2021_arrive_when_they_began(tmp_path: Path) -> None:
    """End less duration, in any order of the ends; below a second they are LC, and a note says that this is an assumption."""
    reading = read_trace(
        written(tmp_path / "t.csv", "app,func,end_timestamp,duration", "a,f,20.5,20.25", "b,g,1.0,0.25", "b,h,2,0")
    )

    assert reading.trace.arrival_s.tolist() == [0.25, 0.75, 2.0]
    assert reading.trace.service_class.tolist() == [1, 0, 0]
    np.testing.assert_array_equal(reading.trace.cpu_work_s, [20.25, 0.25, np.nan])
    assert "taken for LC" in reading.notes[0]


def test_invocations_of_2019_stay_counts_by_minute(tmp_path: Path) -> None:
    """Summed over functions; parts of one day add up, and days that names of files tell follow each other."""
    head = "HashOwner,HashApp,HashFunction,Trigger," + ",".join(str(k) for k in range(1, 1441))
    row = "o,a,f,http," + ",".join("2" if k == 3 else "0" for k in range(1, 1441))
    sample = "HashFunction,HashApp,HashOwner,minute_1,minute_2"
    parts = [written(tmp_path / f"inv{k}.csv", sample, "f,a,o,1,0", "g,a,o,4,0") for k in range(2)]
    days = [written(tmp_path / f"inv.d{day}.csv", head, row, row) for day in ("02", "04")]

    of_day, of_days = read_trace(parts).content, read_trace(days).content

    assert isinstance(of_day, RateCurve)
    assert isinstance(of_days, RateCurve)
    assert (len(of_day), of_day.count[:2].tolist(), of_day.end_s) == (10, [10, 0], 86400.0)
    assert of_days.begin_s[of_days.count > 0].tolist() == [120.0, 2 * 86400.0 + 120.0]
    assert len(of_days) == 8


def test_a_table_without_arrivals_says_what_it_has(tmp_path: Path) -> None:
    """Durations by invocations: three of 1 s and one of 5 s have a mean of 2 s and a spread of 0.87."""
    path = written(tmp_path / "t.csv", "HashFunction,Average,Count,percentile_Average_50", "f,1000,3,1000", "g,5000,1,5000")

    with pytest.raises(RequestRejected, match=r"cpu_work_s: 2 and cpu_work_cv: 0\.87\. The table of invocations has the arrivals"):
        read_trace(path)
