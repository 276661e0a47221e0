"""Trains `dcg-be`: `python -m tango.training.train_be --out FILE`. Stops by the clock, keeps the best network on the validation seeds."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

import tango
from tango.learning.checkpoint import load_checkpoint, save_checkpoint
from tango.learning.network import PlacementNetwork
from tango.training.a2c import A2cSettings, update
from tango.training.evaluation import TEST_SEEDS, VALIDATION_SEEDS, baselines, by_network, evaluate, paired
from tango.training.rollouts import Rollouts

IMITATION_UPDATES = 40
VALIDATE_EVERY = 25


def train(*, seed: int, minutes: float, out: Path, worlds: int = 16, ticks: int = 40, hidden: int = 32) -> str:
    """Train a network, write the best to `out`, and give the file's digest; progress goes to standard error."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    settings = A2cSettings()
    network = PlacementNetwork(hidden)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    rollouts = Rollouts(seed=seed, worlds=worlds)
    reference = evaluate(baselines()["load-greedy"], VALIDATION_SEEDS).reward
    begin, best, updates, seen = time.monotonic(), -np.inf, 0, 0
    while time.monotonic() - begin < minutes * 60:
        played, last = rollouts.collect(network, ticks)
        left = 1 - (time.monotonic() - begin) / (minutes * 60)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * max(0.05, left)
        figures = update(network, optimizer, played, last, settings, imitate=updates < IMITATION_UPDATES)
        updates += 1
        seen += worlds * ticks
        if updates % VALIDATE_EVERY:
            continue
        gain, margin = paired(evaluate(by_network(network), VALIDATION_SEEDS).reward, reference)
        shown = " ".join(f"{name}={value:.4f}" for name, value in figures.items())
        print(f"update {updates} ticks {seen} validation {gain:+.4f} ± {margin:.4f} {shown}", file=sys.stderr, flush=True)
        if gain > best:
            best = gain
            trained = {
                "algorithm": "a2c",
                "seed": seed,
                "updates": updates,
                "world_ticks": seen,
                "minutes": round((time.monotonic() - begin) / 60, 1),
                "validation_gain": round(gain, 5),
                "code_version": tango.__version__,
            }
            save_checkpoint(network, out, name="dcg-be", trained=trained)
    return load_checkpoint(out).digest


def table(path: Path, seeds: range = TEST_SEEDS, *, policy: str = "dcg-be") -> str:
    """The checkpoint beside the baselines on the test seeds, as text."""
    found = load_checkpoint(path, policy)
    ours = evaluate(by_network(found.network), seeds)
    lines = [
        f"{len(seeds)} worlds, seeds {seeds.start}-{seeds.stop - 1}; difference to {policy} in points, 95 % interval over seeds",
        f"{'policy':<12} {'BE throughput':>14} {'LC missed':>10} {'reward':>8} {policy + ' is ahead by':>22}",
        f"{policy:<12} {ours.be_throughput.mean():>14.4f} {ours.lc_missed.mean():>10.4f} {ours.reward.mean():>8.4f}",
    ]
    for name, place in baselines().items():
        theirs = evaluate(place, seeds)
        gain, margin = paired(ours.reward, theirs.reward)
        lines.append(
            f"{name:<12} {theirs.be_throughput.mean():>14.4f} {theirs.lc_missed.mean():>10.4f} {theirs.reward.mean():>8.4f} "
            f"{100 * gain:>+14.2f} ± {100 * margin:.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write, or, with --evaluate, to read")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--evaluate", action="store_true", help="only score the checkpoint on the test seeds")
    options = parser.parse_args()
    if not options.evaluate:
        digest = train(seed=options.seed, minutes=options.minutes, out=options.out)
        print(f"wrote {options.out} sha256 {digest}")
    print(table(options.out))


if __name__ == "__main__":
    main()
