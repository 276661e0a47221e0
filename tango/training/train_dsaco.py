"""Trains `dsaco`: `python -m tango.training.train_dsaco --out FILE`. Stops by the clock, keeps the best layer on the validation seeds."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import tango
from tango.learning.lc_layer import load_lc_policy, save_layer
from tango.scheduling.lc_dispatch import LEARNED
from tango.scheduling.lc_policies import LcRule, plan_dss_lc, plan_load_greedy, plan_round_robin
from tango.training.evaluation import TEST_SEEDS, VALIDATION_SEEDS, paired
from tango.training.lc_agent import OfferActor, OfferCritics
from tango.training.lc_rollouts import Replay, draw_episode, play, qos_rate, rewards, run_episode
from tango.training.sac import DiscreteSac, SacSettings

DISCOUNT = 0.5
"""Of what the same cluster's next request gets: a choice crowds a node for the next few."""
ROOM = 200_000
BATCH = 256
UPDATES = 100
"""Updates after each episode."""
VALIDATE_EVERY = 25
"""Episodes."""


def train(
    *,
    seed: int,
    minutes: float,
    out: Path,
    hidden: int = 32,
    episodes: int = 0,
    updates: int = UPDATES,
    validation: range = VALIDATION_SEEDS,
) -> str:
    """Train a layer, write the best to `out`, and give the file's digest; progress goes to standard error.

    It ends by the clock, or, so that it can be repeated, after a number of episodes where one is given.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    actor = OfferActor(hidden)
    agent = DiscreteSac(actor, OfferCritics(), SacSettings())
    replay = Replay(ROOM, DISCOUNT)
    begin, best, seen, played, digest = time.monotonic(), -np.inf, 0, 0, ""
    while played < episodes if episodes else time.monotonic() - begin < minutes * 60:
        done = played / episodes if episodes else (time.monotonic() - begin) / (minutes * 60)
        agent.slow_down(max(0.05, 1 - done))
        experience = play(draw_episode(rng), actor.scored_layer(), rng)
        replay.add(experience)
        figures: dict[str, float] = {}
        for _ in range(updates):
            figures = agent.update(replay.sample(BATCH, rng))
        seen, played = seen + len(experience), played + 1
        if played % VALIDATE_EVERY and played != episodes:
            continue
        reward, qos = (
            float(column.mean()) for column in score(LcRule("dsaco", LEARNED, agent.averaged.scored_layer()), validation)
        )
        shown = " ".join(f"{name}={value:.4f}" for name, value in figures.items())
        print(f"episode {played} decisions {seen} validation {reward:.4f} qos {qos:.4f} {shown}", file=sys.stderr, flush=True)
        if reward > best:
            best = reward
            trained = {
                "algorithm": "sac",
                "seed": seed,
                "episodes": played,
                "decisions": seen,
                "updates": played * updates,
                "validation_reward": round(reward, 5),
                "validation_qos_rate": round(qos, 5),
                "code_version": tango.__version__,
            }
            digest = save_layer(agent.averaged.scored_layer(), out, trained=trained)
    return digest


def score(lc: LcRule, seeds: range) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean reward of an LC request and QoS rate of a policy, (seeds,) each: one drawn episode a seed."""
    found = []
    for seed in seeds:
        episode = replace(draw_episode(np.random.default_rng(seed)), seed=seed)
        outcomes = run_episode(episode, lc).outcomes
        found.append((float(rewards(outcomes)[np.isfinite(outcomes.target_s)].mean()), qos_rate(outcomes)))
    reward, qos = np.array(found).T
    return reward, qos


def table(path: Path, seeds: range = TEST_SEEDS) -> str:
    """The checkpoint beside the rules on the test seeds, as text."""
    ours, our_qos = score(load_lc_policy(path), seeds)
    lines = [
        f"{len(seeds)} runs, seeds {seeds.start}-{seeds.stop - 1}; 95 % interval of the paired difference over seeds",
        f"{'policy':<12} {'QoS rate':>9} {'reward':>8} {'dsaco is ahead by (QoS, points)':>34} {'(reward)':>20}",
        f"{'dsaco':<12} {our_qos.mean():>9.4f} {ours.mean():>8.4f}",
    ]
    for rule in (plan_round_robin, plan_load_greedy, plan_dss_lc):
        reward, qos = score(rule, seeds)
        ahead, margin = paired(100 * our_qos, 100 * qos)
        gain, gain_margin = paired(ours, reward)
        lines.append(
            f"{rule.name:<12} {qos.mean():>9.4f} {reward.mean():>8.4f} {ahead:>+25.2f} ± {margin:.2f} {gain:>+14.4f} ± {gain_margin:.4f}"
        )
    return "\n".join(lines)


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
    print(table(options.out))


if __name__ == "__main__":
    main()
