"""Compiles the kernels of this package when they are imported, so that no request waits for a compiler.

The signature is explicit, so the machine code exists as soon as the module does; Numba keeps it beside the source, or, where that
folder cannot be written (a system-wide install), in the user's cache folder, or under `NUMBA_CACHE_DIR`. Where no folder can be written
at all, as in a container with a read-only root and no home, the kernel is compiled again in each process instead of failing to import.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from numba import njit

P = ParamSpec("P")
R = TypeVar("R")


def compiled(signature: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a function for one Numba signature, from the cache where there is one."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        try:
            kernel: Callable[P, R] = njit(signature, cache=True)(function)
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
            kernel = njit(signature)(function)
        return kernel

    return decorate
