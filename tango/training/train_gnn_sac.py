"""Trains `gnn-sac`: `python -m tango.training.train_gnn_sac --out FILE`. Stops by the clock, keeps the best on the validation seeds."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

import tango
from tango.learning.checkpoint import save_checkpoint
from tango.learning.network import PlacementNetwork
from tango.training.be_agent import PlacementActor, PlacementCritics, TickReplay
from tango.training.evaluation import VALIDATION_SEEDS, baselines, by_network, evaluate, paired
from tango.training.rollouts import Rollouts
from tango.training.sac import DiscreteSac, SacSettings
from tango.training.train_be import table

POLICY = "gnn-sac"
DISCOUNT = 0.93
"""A tick of half a second, as for `dcg-be`."""
WORLDS = 16
TICKS = 4
"""Of every world between updates."""
UPDATES = 6
BATCH = 24
"""Ticks."""
ROOM = 20_000
"""Ticks."""
IMITATION_ROUNDS = 150
VALIDATE_EVERY = 150
"""Rounds."""


def train(*, seed: int, minutes: float, out: Path, hidden: int = 32, rounds: int = 0, validation: range = VALIDATION_SEEDS) -> str:
    """Train a network, write the best to `out`, and give the file's digest; progress goes to standard error.

    It ends by the clock, or, so that it can be repeated, after a number of rounds where one is given.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    network = PlacementNetwork(hidden)
    agent = DiscreteSac(PlacementActor(network), PlacementCritics(hidden), SacSettings(learning_rate=3e-4, temperature=0.002))
    rollouts = Rollouts(seed=seed, worlds=WORLDS)
    replay = TickReplay(room=ROOM, worlds=WORLDS, discount=DISCOUNT)
    reference = evaluate(baselines()["load-greedy"], validation).reward
    begin, best, done, digest = time.monotonic(), -np.inf, 0, ""
    figures: dict[str, float] = {}
    while done < rounds if rounds else time.monotonic() - begin < minutes * 60:
        share = done / rounds if rounds else (time.monotonic() - begin) / (minutes * 60)
        agent.slow_down(max(0.05, 1 - share))
        played, _ = rollouts.collect(network, TICKS)
        replay.add(played)
        for _ in range(UPDATES if len(replay) >= BATCH else 0):
            figures = agent.update(replay.sample(BATCH, rng, teach=done < IMITATION_ROUNDS))
        done += 1
        if done % VALIDATE_EVERY and done != rounds:
            continue
        gain, margin = paired(evaluate(by_network(agent.averaged.network), validation).reward, reference)
        shown = " ".join(f"{name}={value:.4f}" for name, value in figures.items())
        print(f"round {done} validation {gain:+.4f} ± {margin:.4f} {shown}", file=sys.stderr, flush=True)
        if gain > best:
            best = gain
            trained = {
                "algorithm": "sac",
                "seed": seed,
                "rounds": done,
                "world_ticks": done * WORLDS * TICKS,
                "updates": done * UPDATES,
                "minutes": round((time.monotonic() - begin) / 60, 1),
                "validation_gain": round(gain, 5),
                "code_version": tango.__version__,
            }
            digest = save_checkpoint(agent.averaged.network, out, name=POLICY, policy=POLICY, trained=trained)
    return digest


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write, or, with --evaluate, to read")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--evaluate", action="store_true", help="only score the checkpoint on the test seeds")
    options = parser.parse_args()
    if not options.evaluate:
        digest = train(seed=options.seed, minutes=options.minutes, out=options.out)
        print(f"wrote {options.out} sha256 {digest}")
    print(table(options.out, policy=POLICY))


if __name__ == "__main__":
    main()
