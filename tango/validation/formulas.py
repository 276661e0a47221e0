"""What queueing theory says of the models that are simulated. Pure functions of loads and numbers of cores; times are in units of the mean
work, so that a request that is alone takes 1.

docs/validation.md derives each of them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def erlang_c(cores: int, load: float) -> float:
    """Probability that a request of M/M/c finds all cores busy, at a load of `load` on each of them.

    By Erlang's B, whose recursion B(k) = a B(k-1) / (k + a B(k-1)) loses no digits at any number of cores.
    Raises: ValueError for no core, or a load that is not in (0, 1).
    Source: A. K. Erlang, "Solution of some problems in the theory of probabilities of significance in automatic telephone exchanges"
    (1917); Kleinrock, Queueing Systems, volume 1 (1975), section 3.5, equation 3.40.
    """
    if cores < 1 or not 0.0 < load < 1.0:
        raise ValueError(f"{cores} cores at a load of {load:g}, expected a core or more and a load between 0 and 1")
    offered = cores * load
    lost = 1.0
    for k in range(1, cores + 1):
        lost = offered * lost / (k + offered * lost)
    return lost / (1.0 - load * (1.0 - lost))


def shared_sojourn(cores: int, load: float) -> float:
    """Mean sojourn over mean work where requests share the cores, none having more than one: 1 + C(c, c rho) / (c (1 - rho)).

    It depends on the mean of the work alone, and the sojourn of a request is in proportion to its own work.
    Source: J. W. Cohen, "The multiple phase service network with generalized processor sharing", Acta Informatica 12 (1979), section 3:
    a request's share depends on how many there are, so that their number has the law of M/M/c.
    """
    return 1.0 + erlang_c(cores, load) / (cores * (1.0 - load))


def queueing_time(cores: int, load: float) -> float:
    """Mean wait in the queue over mean work of M/M/c, first come first served: C(c, c rho) / (c (1 - rho)).

    Source: Kleinrock, Queueing Systems, volume 1 (1975), section 3.5, with Little's law.
    """
    return erlang_c(cores, load) / (cores * (1.0 - load))


def queueing_time_one_core(load: float, cv: float) -> float:
    """Mean wait in the queue over mean work of M/G/1, first come first served: rho / (1 - rho) x (1 + cv^2) / 2.

    `cv` is the coefficient of variation of the work.
    Source: Pollaczek (1930) and Khinchine (1932); Kleinrock, Queueing Systems, volume 1 (1975), equation 5.70.
    """
    if not 0.0 < load < 1.0:
        raise ValueError(f"a load of {load:g}, expected one between 0 and 1")
    return load / (1.0 - load) * (1.0 + cv * cv) / 2.0


def halfin_whitt(staffing: float) -> float:
    """Limit of Erlang's C for many cores c at a load of 1 - staffing / sqrt(c): 1 / (1 + b Phi(b) / phi(b)).

    Source: Halfin and Whitt, "Heavy-traffic limits for queues with many exponential servers", Operations Research 29 (1981), equation 2.6.
    """
    below = 0.5 * (1.0 + math.erf(staffing / math.sqrt(2.0)))
    density = math.exp(-0.5 * staffing * staffing) / math.sqrt(2.0 * math.pi)
    return 1.0 / (1.0 + staffing * below / density)


def load_at_staffing(cores: int, staffing: float) -> float:
    """The load that leaves `staffing` times the square root of the cores idle on average."""
    return 1.0 - staffing / math.sqrt(cores)


def least_of(choices: int, load: float) -> float:
    """Mean sojourn over mean work of many one-core nodes where each request goes to the least loaded of so many that are drawn at random:
    the sum over i >= 1 of load^((d^i - d) / (d - 1)).

    With one choice, the sum of load^(i - 1), which is that of a queue by itself.
    Source: Mitzenmacher, "The power of two choices in randomized load balancing", IEEE Trans. Parallel Distrib. Syst. 12 (2001), Corollary
    1 (thesis of 1996, Lemma 3.2); Vvedenskaya, Dobrushin and Karpelevich, Problems of Information Transmission 32 (1996). Where requests
    share a core it holds for work of any distribution: Bramson, Lu and Prabhakar, Queueing Systems 71 (2012).
    """
    if choices < 1 or not 0.0 < load < 1.0:
        raise ValueError(f"{choices} choices at a load of {load:g}, expected one or more and a load between 0 and 1")
    total, exponent = 0.0, 0.0
    while (term := load**exponent) > 1e-16:
        total += term
        exponent = choices * exponent + (choices if choices > 1 else 1)
    return total


def with_bulletin_board(choices: int, load: float, period: float, *, step: float = 0.05, levels: int = 0) -> float:
    """As `least_of`, where queue lengths are read from a board that is written anew every `period` mean works.

    Within a period a node whose length stands as i on the board gets requests at the rate load x (B_i^d - B_(i+1)^d) / b_i, b_i being the
    share of such nodes and B_i that of nodes with i or more, and is else a queue M/M/1. So the shares p(i, j) of nodes that stand as i and
    have j follow linear differential equations, which are solved by Runge and Kutta's method of fourth order; a new period begins with
    i = j. Periods are repeated until the mean number of requests over one changes by less than a part in 10^7; Little's law makes a time
    of it. `step` is in mean works, `levels` the longest queue looked at (0: long enough for what may come in one period).
    Source: Mitzenmacher, "How useful is old information?", IEEE Trans. Parallel Distrib. Syst. 11 (2000), section 3.1, equations 1 to 5.
    """
    longest = levels or int(40 + 4.0 * choices * load * period)
    grown = np.arange(longest + 2.0)  # without a board, a share load^((d^i - 1) / (d - 1)) of the nodes has i or more
    at_least = load ** np.minimum(grown if choices == 1 else (choices**grown - 1.0) / (choices - 1.0), 1e6)
    share = at_least[:-1] - at_least[1:]
    share /= share.sum()
    steps = max(1, math.ceil(period / step))
    length = period / steps
    number = np.arange(longest + 1.0)
    before = math.inf
    for _ in range(10_000):
        at_least = np.append(np.cumsum(share[::-1])[::-1], 0.0)
        chosen = at_least[:-1] ** choices - at_least[1:] ** choices
        rate = np.divide(load * chosen, share, out=np.zeros_like(share), where=share > 1e-300)
        nodes = np.diag(share)
        seen = float(number @ nodes.sum(axis=0)) / 2.0
        for k in range(steps):
            nodes = _one_step(nodes, rate[:, None], length)
            seen += float(number @ nodes.sum(axis=0)) * (1.0 if k < steps - 1 else 0.5)
        share = np.maximum(nodes.sum(axis=0), 0.0)
        share /= share.sum()
        mean = seen / steps / load
        if abs(mean - before) < 1e-7 * mean:
            return mean
        before = mean
    raise ArithmeticError(f"the bulletin board of period {period:g} at a load of {load:g} did not come to rest in 10,000 periods")


def _one_step(nodes: NDArray[np.float64], rate: NDArray[np.float64], length: float) -> NDArray[np.float64]:
    """The shares of nodes after one step; rows are what stands on the board, columns the queue as it is."""
    first = _change(nodes, rate)
    second = _change(nodes + 0.5 * length * first, rate)
    third = _change(nodes + 0.5 * length * second, rate)
    fourth = _change(nodes + length * third, rate)
    new: NDArray[np.float64] = nodes + length / 6.0 * (first + 2.0 * second + 2.0 * third + fourth)
    return new


def _change(nodes: NDArray[np.float64], rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """What arrivals and ends change per mean work; the longest queue takes nothing more."""
    up, down = rate * nodes[:, :-1], nodes[:, 1:]
    change = np.zeros_like(nodes)
    change[:, :-1] += down - up
    change[:, 1:] += up - down
    return change


def preemptive_first(first: float) -> float:
    """Mean sojourn over mean work of the class that goes first on one core, exponential work: 1 / (1 - r1).

    The other class is not there for it. Source: Kleinrock, Queueing Systems, volume 2 (1976), section 3.4.
    """
    return 1.0 / (1.0 - first)


def preemptive_second(first: float, second: float) -> float:
    """Mean sojourn over mean work of the class that gets what the first leaves: 1 / ((1 - r1) (1 - r1 - r2)), both of exponential work with
    the same mean.

    All requests together are a queue M/M/1 of load r1 + r2, since no order of service changes how many there are; the first class has
    r1 / (1 - r1) of them, and Little's law gives the rest. Source: Kleinrock, Queueing Systems, volume 2 (1976), section 3.4.
    """
    return 1.0 / ((1.0 - first) * (1.0 - first - second))


def fluid_in_system(after: float, *, overload: float, until: float, then: float) -> float:
    """Requests in the system, per core, of many cores that begin empty: offered `overload` > 1 of what they serve until `until`, then
    `then` < 1. Exponential work; times in mean works.

    x' = offered - min(x, 1) has a solution in four parts: filling up to one request a core, a queue that grows by overload - 1, one that
    shrinks by 1 - then, and the return to `then`.
    Source: Mandelbaum, Massey and Reiman, "Strong approximations for Markovian service networks", Queueing Systems 30 (1998), Theorem 2.2;
    Newell, Applications of Queueing Theory (1982), chapter 2.
    """
    full = math.log(overload / (overload - 1.0)) if overload > 1.0 else math.inf
    if until < full or then >= 1.0:
        raise ValueError(
            f"an overload of {overload:g} until {until:g}, then {then:g}: expected one that fills all cores, then less"
        )
    if after <= full:
        return overload * (1.0 - math.exp(-after))
    if after <= until:
        return 1.0 + (overload - 1.0) * (after - full)
    most = (overload - 1.0) * (until - full)
    emptied = until + most / (1.0 - then)
    if after <= emptied:
        return 1.0 + most - (1.0 - then) * (after - until)
    return then + (1.0 - then) * math.exp(-(after - emptied))
