"""What is kept of decisions, so that they can be explained afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from tango.settings.bounds import within


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainSettings:
    """Explanations of decisions that are over."""

    weighed_per_s: float = 2.0
    """Requests per second, of each process that decides, whose candidates are kept with their decision: what each node would have cost, the
    best few. While there are fewer all are kept, beyond it some are, whichever come. Of a simulated run whose rows are kept, per simulated
    second. A dispatch or placement that weighs takes about a millisecond longer (by a network a second forward pass), and each request
    takes one or two KiB at the centre. 0: none."""
    kept_decisions: int = 20_000
    """Decisions at the centre of which candidates are kept, the newest; of older ones they are deleted, within a minute. A decision keeps
    those of at most four requests: some tens of MiB in all."""

    def __post_init__(self) -> None:
        within(self, 0.0, 10_000.0, "weighed_per_s")
        within(self, 0, 10_000_000, "kept_decisions")
