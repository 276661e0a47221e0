"""Runs experiments, some at a time in processes of their own, and compares each of their figures with its formula."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass

import numpy as np

from tango.experiments.processes import process_pool, uninterrupted
from tango.validation.catalogue import Experiment, experiments
from tango.validation.estimates import Agreement, ComparedFigure, estimate, verdict

MOST_WORK_OFF = 1e-9
"""Share of the work that may be missing or too much: some thousand roundings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(ComparedFigure):
    """One cell of an experiment, with what was looked at beside it."""

    experiment: str
    work_off: float
    """Greatest relative difference between work done and work brought."""
    count_off: int
    """Greatest difference between the engine's count of requests on nodes and that of starts and ends."""
    cpu_s: float
    """CPU time of the experiment, all its cells together."""


def run_experiment(experiment: Experiment, *, seed: int) -> list[Result]:
    """The results of its cells. The same seed gives the same figures, whichever other experiments are run."""
    began_s = time.process_time()
    root = np.random.SeedSequence([seed, zlib.crc32(experiment.name.encode())])
    made = [experiment.model.replicate(np.random.default_rng(child)) for child in root.spawn(experiment.replications)]
    took_s = time.process_time() - began_s
    controls = np.array([one.controls for one in made])
    work_off, count_off = max(one.work_off for one in made), max(one.count_off for one in made)
    results = []
    for cell in experiment.cells:
        found = estimate(np.array([one.figures[cell.figure] for one in made]), controls)
        expected = cell.expected()
        kept = work_off <= MOST_WORK_OFF and count_off == 0
        results.append(
            Result(
                experiment=experiment.name,
                group=experiment.group,
                model=experiment.model.text,
                figure=cell.what,
                source=cell.source,
                expected=expected,
                measured=found.mean,
                low=found.low,
                high=found.high,
                error=found.mean / expected - 1.0,
                half_width=found.half_width / expected,
                tolerance=cell.tolerance,
                verdict=verdict(found, expected, cell.tolerance) if kept else Agreement.FAILS,
                replications=len(made),
                requests=sum(one.requests for one in made),
                work_off=work_off,
                count_off=count_off,
                cpu_s=took_s,
            )
        )
    return results


def run_experiments(
    chosen: Sequence[Experiment], *, seed: int, processes: int = 1, done: Callable[[Experiment], None] = lambda _: None
) -> list[Result]:
    """The results of all experiments, in their order; `done` is called for each that has ended.

    The engine must have been compiled (`tango.sim.warm`), else every process does it for itself.
    """
    found: dict[str, list[Result]] = {}
    for experiment, results in _made(chosen, seed, processes):
        found[experiment.name] = results
        done(experiment)
    return [result for experiment in chosen for result in found[experiment.name]]


def _made(chosen: Sequence[Experiment], seed: int, processes: int) -> Iterator[tuple[Experiment, list[Result]]]:
    if processes <= 1 or len(chosen) <= 1:
        for experiment in chosen:
            yield experiment, run_experiment(experiment, seed=seed)
        return
    with process_pool(min(processes, len(chosen)), __name__) as pool:
        with uninterrupted():
            # From the end of the table: the longest stand there (two classes, 7 of 33 CPU-minutes in one), and what begins last is
            # waited for by a single process.
            under_way = {pool.submit(_named, experiment.name, seed): experiment for experiment in reversed(chosen)}
        while under_way:
            ended, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in ended:
                yield under_way.pop(future), future.result()


def _named(name: str, seed: int) -> list[Result]:
    """An experiment goes to another process by its name: formulas are functions, which do not travel."""
    return run_experiment(next(one for one in experiments() if one.name == name), seed=seed)
