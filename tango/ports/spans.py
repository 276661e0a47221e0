"""Where the spans of distributed traces go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tango.domain.tracing import Sampling, TraceSpan


class Spans(Protocol):
    """Takes spans that have ended. Thread-safe."""

    @property
    def is_on(self) -> bool:
        """Whether anybody wants spans. Asked once for each batch of requests: where it is False nothing further is done."""
        ...

    @property
    def sampling(self) -> Sampling:
        """Which requests have a trace."""
        ...

    def end(self, spans: Sequence[TraceSpan]) -> None:
        """Have these exported. Never waits and raises nothing: what there is no room for is counted and dropped."""
        ...

    def close(self) -> None:
        """Export what is left, for a bounded time."""
        ...


class NoSpans:
    """Nobody wants any."""

    is_on = False
    sampling = Sampling(0.0)

    def end(self, spans: Sequence[TraceSpan]) -> None:
        """They are dropped."""

    def close(self) -> None:
        """There is nothing left."""


NO_SPANS: Spans = NoSpans()
