"""Compiles kernels, and keeps the machine code where it can.

Numba keeps it beside the source, or, where that folder cannot be written (a system-wide install), in the user's cache folder, or under
`NUMBA_CACHE_DIR`. Where no folder can be written at all, as in a container with a read-only root and no home, a kernel is compiled
again in each process instead of failing to import. A kernel is compiled, or read from the cache, at its first call.

Numba takes machine code to be fresh as long as the kernel's own file is as it was, though what it calls in other files is part of that
code. Here it is fresh as long as all modules that the kernel's module imports are, directly or not. An index that names a class which
is gone, as after an update that renamed a tuple of arrays, cannot be read at all: it is stale too.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from numba import njit

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function for the types it is called with, from the cache where there is one."""
    return _compiled(function, {})


def in_place(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that only reads and writes the arrays it is given and makes none.

    Numba counts a reference on every array of a tuple each time the tuple is read, atomically; steps that pass their state as tuples
    of arrays spend nearly all their time on that (pricing 1,040 nodes for 4 services: 583 us with, 11 us without). A function that
    makes no array needs no counting. The option `_nrt` is Numba's own and undocumented: should it go, the kernels only get slower.
    """
    try:
        return _compiled(function, {"_nrt": False})
    except (KeyError, TypeError):
        return _compiled(function, {})


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """As `in_place`, and part of its callers' machine code: for steps that take large tuples and are called for every event.

    A call passes every word of every array of a tuple; where the engine's whole state is handed on, that takes longer than the step.
    """
    try:
        return _compiled(function, {"_nrt": False, "forceinline": True})
    except (KeyError, TypeError):
        return in_place(function)


def one_of(kernels: Sequence[Callable[..., R]], *, otherwise: Callable[..., R]) -> Callable[..., R]:
    """A kernel whose first argument says which of `kernels` does the work; any other place means `otherwise`.

    A chain of comparisons that is inlined like what it leads to. Kernels passed as arguments would compile everything above them once
    for each (the engine takes a minute); pointers to them cannot be inlined, and a call that hands on a tuple of arrays costs more than
    most steps. The links are never called from Python and are part of their callers' machine code, so they are not kept by themselves:
    a closure has no name in the cache that outlives its process.
    """

    def last(wanted: int, *arguments: Any) -> R:
        return otherwise(*arguments)

    chain = inlined_only(last)
    for place in reversed(range(len(kernels))):
        if kernels[place] is not otherwise:
            chain = _link(place, kernels[place], chain)
    return chain


def _link(place: int, kernel: Callable[..., R], rest: Callable[..., R]) -> Callable[..., R]:
    def link(wanted: int, *arguments: Any) -> R:
        if wanted == place:
            return kernel(*arguments)
        return rest(wanted, *arguments)

    return inlined_only(link)


def inlined_only(function: Callable[..., R]) -> Callable[..., R]:
    """As `inlined`, for closures: part of their callers' machine code, which is kept, and never kept by themselves."""
    try:
        return njit(_nrt=False, forceinline=True)(function)  # type: ignore[no-any-return]
    except (KeyError, TypeError):
        return njit(function)  # type: ignore[no-any-return]


def _compiled(function: Callable[P, R], options: dict[str, Any]) -> Callable[P, R]:
    try:
        kernel: Callable[P, R] = njit(cache=True, **options)(function)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return njit(**options)(function)  # type: ignore[no-any-return]
    _stamp_with_imports(kernel, function.__module__)
    return kernel


def _stamp_with_imports(kernel: Any, module: str) -> None:
    try:
        file = kernel._cache._cache_file
        file._source_stamp = (file._source_stamp, sources_digest(module))
        file._load_index = _empty_where_unreadable(file._load_index)
    except (AttributeError, OSError):
        pass  # Numba keeps its cache in another way, or the sources are not files: as without


def _empty_where_unreadable(load_index: Callable[[], dict[Any, str]]) -> Callable[[], dict[Any, str]]:
    """Numba unpickles the whole index, types of arguments included, before it looks whether the index is fresh."""

    def load() -> dict[Any, str]:
        try:
            return load_index()
        except (AttributeError, ImportError, EOFError, pickle.UnpicklingError):
            return {}

    return load


@cache
def sources_digest(module: str, root: Path = Path(__file__).parent) -> str:
    """SHA-256 over the sources of a module and of all modules of the package in `root` that it imports, directly or not."""
    found: dict[Path, bytes] = {}
    open_modules = [module]
    while open_modules:
        path = _source_of(open_modules.pop(), root)
        if path is None or path in found:
            continue
        found[path] = path.read_bytes()
        for package, many, few in _IMPORT.findall(found[path].decode("utf-8")):
            open_modules += [package, *(f"{package}.{name}" for name in re.findall(r"\w+", many or few))]
    whole = hashlib.sha256()
    for path in sorted(found):
        whole.update(hashlib.sha256(found[path]).digest())
    return whole.hexdigest()


_IMPORT = re.compile(r"^from ([\w.]+) import (?:\(([^)]*)\)|(.+))$", re.MULTILINE)


def _source_of(module: str, root: Path) -> Path | None:
    first, *rest = module.split(".")
    if first != root.name:
        return None
    path = root.joinpath(*rest)
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)
