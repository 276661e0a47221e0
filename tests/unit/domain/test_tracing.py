"""Ids of distributed traces: the same in every process, and read as W3C Trace Context says."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango.domain.tracing import ATTEMPT, CALL, REQUEST, RequestTrace, Sampling, TraceContext, continued

numbers = st.integers(0, 2**31 - 1)
zeros = st.integers(10**15, 2 * 10**15).map(lambda micros: micros / 1e6)
"""As PostgreSQL keeps them, in whole microseconds."""


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_a_context_reads_as_it_is_written(trace_id: int, span_id: int, is_sampled: bool) -> None:
    """Whatever its numbers are, in 55 characters."""
    context = TraceContext(trace_id, span_id, is_sampled)

    assert TraceContext.parsed(str(context)) == context
    assert len(str(context)) == 55


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nX-Other: 1",
    ],
)
def test_what_is_no_traceparent_says_nothing(text: str) -> None:
    """Neither half of one, nor one in capitals or of zeros, nor a longer one of the version that has no more."""
    assert TraceContext.parsed(text) is None
    assert continued(1, 2, text) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    """It may have more at its end."""
    found = TraceContext.parsed("42-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-whatever")

    assert found == TraceContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, is_sampled=True)


@given(numbers, zeros, numbers)
def test_who_knows_a_request_knows_its_ids(run_id: int, zero_s: float, request_id: int) -> None:
    """Another process makes the same ones, from a zero whose last bit was rounded another way."""
    here = Sampling(1.0).of_request(run_id, zero_s, request_id)
    there = Sampling(1.0).of_request(run_id, math.nextafter(zero_s, math.inf), request_id)

    assert here == there
    assert here is not None
    assert there is not None
    assert here.context(CALL, 3) == there.context(CALL, 3)


@given(numbers, zeros, numbers)
def test_no_two_things_have_the_same_ids(run_id: int, zero_s: float, request_id: int) -> None:
    """Spans differ by name and epoch, traces by request, run and the run's zero."""
    of, always = (
        Sampling(1.0).of_request,
        [
            (run_id, zero_s, request_id),
            (run_id, zero_s, request_id + 1),
            (run_id + 1, zero_s, request_id),
            (run_id, zero_s + 1.0, request_id),
        ],
    )
    traces = [trace for one in always if (trace := of(*one)) is not None]
    spans = {traces[0].span_id(name, epoch) for name in (ATTEMPT, CALL, REQUEST) for epoch in range(4)}

    assert len({trace.trace_id for trace in traces}) == len(always)
    assert len(spans) == 12


def test_requests_that_a_caller_sends_in_one_trace_have_spans_of_their_own() -> None:
    """He may send many in one of his."""
    spans = {RequestTrace(1, request_id, 77).span_id(REQUEST) for request_id in range(100)}

    assert len(spans) == 100


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.integers(1, 2**128 - 1))
def test_what_a_small_ratio_takes_a_larger_one_takes_too(first: float, second: float, trace_id: int) -> None:
    """So that raising it loses no trace; none is taken by 0, all are by 1."""
    small, large = sorted((first, second))

    assert not Sampling(small).takes(trace_id) or Sampling(large).takes(trace_id)
    assert Sampling(1.0).takes(trace_id)
    assert not Sampling(0.0).takes(trace_id)


def test_a_ratio_takes_that_share_of_requests() -> None:
    """A tenth of ten thousand, within four standard deviations."""
    taken = sum(Sampling(0.1).of_request(1, 1.7e9, request_id) is not None for request_id in range(10_000))

    assert abs(taken - 1000) < 4 * (10_000 * 0.1 * 0.9) ** 0.5
