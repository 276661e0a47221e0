"""Random draws that depend on (seed, request index) alone, by the counter-based generator Philox.

Row i of the draws is the same whatever the number of requests and the system, so that all systems of a comparison serve the same work.
Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MAPPING = 0x54414E474F
"""High half of Philox's key ("TANGO" in ASCII): keeps these draws independent of those of generators with the same seed."""

ROWS_AT_A_TIME = 1 << 15
"""Rows per step of a computation over columns: four columns of it are a megabyte, which stays in the processor's cache."""


@dataclass(frozen=True, slots=True)
class RequestDraws:
    """Three independent draws per request, shape (n,): one standard normal (made of two uniform ones) and two uniform in [0, 1)."""

    normal: NDArray[np.float64]
    service: NDArray[np.float64]
    cluster: NDArray[np.float64]


def request_draws(seed: int, n: int) -> RequestDraws:
    """The draws of requests 0 … n-1."""
    rng = np.random.Generator(np.random.Philox(key=_key(seed, _MAPPING)))
    normal, service, cluster = np.empty(n), np.empty(n), np.empty(n)
    for first in range(0, n, ROWS_AT_A_TIME):
        rows = slice(first, min(first + ROWS_AT_A_TIME, n))
        u = rng.random((rows.stop - first, 4))
        # Box-Muller (1958); 1 - u keeps the logarithm away from 0.
        normal[rows] = np.sqrt(-2.0 * np.log1p(-u[:, 0])) * np.cos(2.0 * np.pi * u[:, 1])
        service[rows], cluster[rows] = u[:, 2], u[:, 3]
    return RequestDraws(normal, service, cluster)


def seeded(seed: int, purpose: str) -> np.random.Generator:
    """A generator for one purpose of one seed. Only the first 8 bytes of the purpose's name count, so they must differ."""
    return np.random.Generator(np.random.Philox(key=_key(seed, int.from_bytes(purpose.encode()[:8], "big"))))


def hashed(seed: int, *parts: NDArray[np.int32]) -> NDArray[np.uint64]:
    """(n,) uniform 64-bit hashes of (seed, the row's value in each part), for draws that belong to an origin and not to a request.

    Source: the finaliser of SplitMix64; Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    state = np.full(len(parts[0]), seed % (1 << 64), np.uint64)
    for part in parts:
        state += part.astype(np.uint64)
        state += np.uint64(0x9E3779B97F4A7C15)
        state ^= state >> np.uint64(30)
        state *= np.uint64(0xBF58476D1CE4E5B9)
        state ^= state >> np.uint64(27)
        state *= np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state


def lognormal(normal: NDArray[np.float64], mean: NDArray[np.float64], cv: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lognormal values of given means and coefficients of variation from standard normals; the mean itself where cv is 0.

    For a lognormal variable ln(1 + cv^2) is the variance of its logarithm, and the mean is exp(mu + variance / 2).
    """
    variance = np.log1p(cv**2)
    return mean * np.exp(np.sqrt(variance) * normal - variance / 2.0)


def _key(seed: int, purpose: int) -> int:
    return (seed % (1 << 64)) | (purpose << 64)
