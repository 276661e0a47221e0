"""Compiles kernels, and keeps the machine code where it can.

Numba keeps it beside the source, or, where that folder cannot be written (a system-wide install), in the user's cache folder, or under
`NUMBA_CACHE_DIR`. Where no folder can be written at all, as in a container with a read-only root and no home, what lies beside the
source is read (an image ships it, compiled for any processor: `NUMBA_CPU_NAME=generic`), and what is not there is compiled again in
each process. A kernel is compiled, or read from the cache, at its first call.

Numba takes machine code to be fresh as long as the kernel's own file is as it was, though what it calls in other files is part of that
code. Here it is fresh as long as all modules that the kernel's module imports are, directly or not. An index that names a class which
is gone, as after an update that renamed a tuple of arrays, cannot be read at all: it is stale too.
"""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property, update_wrapper
from pathlib import Path
from typing import Any, TypeVar, cast

import structlog
from numba import njit, types
from numba.core.caching import CompileResultCacheImpl, FunctionCache, InTreeCacheLocator

from tango.sources import ROOT, digest_of, import_closure

log = structlog.get_logger(__name__)

R = TypeVar("R")
C = TypeVar("C", bound=Callable[..., Any])

_NO_ARRAYS = {"_nrt": False}
_INLINED = {"_nrt": False, "forceinline": True}
_ENTRY = {"no_cfunc_wrapper": True}
_PART = {"no_cfunc_wrapper": True, "no_cpython_wrapper": True}


class Kernel:
    """A function that is compiled in two ways, each when it is first needed: for callers in Python, and as a part of other kernels.

    What Python calls takes its arguments out of Python objects first. For the engine's state, tuples of a hundred arrays, that code is
    a hundred times as large as most steps, and takes as much longer to compile; a part has none. Parts are not kept by themselves: they
    are in the machine code of the kernels that Python calls, which is.
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        update_wrapper(self, function)
        self._function, self._options = function, options

    def __call__(self, *arguments: Any) -> Any:
        """Call it from Python."""
        return self.entry(*arguments)

    @cached_property
    def entry(self) -> Any:
        """Numba's dispatcher for calls from Python, whose machine code is kept."""
        try:
            kernel = _njit(self._function, {"cache": True, **self._options, **_ENTRY})
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
            kernel = _njit(self._function, {**self._options, **_ENTRY})
            with contextlib.suppress(RuntimeError):  # it lies in no file
                kernel._cache = _ShippedCode(kernel.py_func)
        _stamp_with_imports(kernel, self._function.__module__)
        _tell_of(kernel, f"{self._function.__module__}.{self._function.__qualname__}")
        return kernel

    @cached_property
    def part(self) -> Any:
        """Numba's dispatcher for calls from other kernels. A call from Python would be the end of the process."""
        return _of_one_integer(_njit(self._function, {**self._options, **_PART}))

    @property
    def _numba_type_(self) -> Any:
        """The type that Numba sees when another kernel calls this one."""
        return self.part._numba_type_


class _BesideTheSource(InTreeCacheLocator):  # type: ignore[misc,unused-ignore]
    """Numba's folder beside the source, whether or not it can be written to."""

    def ensure_cache_path(self) -> None:
        """Numba's own makes a file there, to see whether it may."""


class _Shipped(CompileResultCacheImpl):  # type: ignore[misc,unused-ignore]
    _locator_classes = (_BesideTheSource,)


class _ShippedCode(FunctionCache):  # type: ignore[misc,unused-ignore]
    """Machine code that somebody else has put beside the source: read, never written."""

    _impl_class = _Shipped

    def save_overload(self, sig: object, data: object) -> None:
        """Write nothing: the folder may be read-only."""


def _of_one_integer(kernel: Any) -> Any:
    """A dispatcher that takes integers of any width as int64 when another kernel calls it.

    Rows of nodes and requests come out of columns of 8, 16, 32 and 64 bits, as constants and as counters of loops, and Numba compiles a
    kernel for each mixture, with all that it inlines. The caller widens them, an instruction. `get_call_template` is where Numba asks a
    dispatcher for its code by the types of a call; should that go, kernels are compiled more often, and nothing else.
    """
    look_up = kernel.get_call_template

    def widened(arguments: Sequence[Any], named: Mapping[str, Any]) -> Any:
        return look_up(tuple(map(_wide, arguments)), {name: _wide(kind) for name, kind in named.items()})

    kernel.get_call_template = widened
    return kernel


def _wide(kind: Any) -> Any:
    """The type as which a kernel takes an argument: int64 for whatever fits into it."""
    is_small = isinstance(kind, types.Integer) and (kind.signed or kind.bitwidth < 64)
    return types.int64 if is_small else kind


def _njit(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """As Numba's own, and without what makes kernels fast where Numba does not know these options."""
    try:
        return njit(**options)(function)
    except (KeyError, TypeError):
        return njit(**{name: value for name, value in options.items() if name == "cache"})(function)


def compiled(function: C) -> C:
    """Compile a function for the types it is called with, from the cache where there is one."""
    return cast(C, Kernel(function, {}))


def in_place(function: C) -> C:
    """Compile a function that only reads and writes the arrays it is given and makes none.

    Numba counts a reference on every array of a tuple each time the tuple is read, atomically; steps that pass their state as tuples
    of arrays spend nearly all their time on that (pricing 1,040 nodes for 4 services: 583 us with, 11 us without). A function that
    makes no array needs no counting. The option `_nrt` is Numba's own and undocumented: should it go, the kernels only get slower.
    """
    return cast(C, Kernel(function, _NO_ARRAYS))


def inlined(function: C) -> C:
    """As `in_place`, and part of its callers' machine code: for steps that take large tuples and are called for every event.

    A call passes every word of every array of a tuple; where the engine's whole state is handed on, that takes longer than the step.
    """
    return cast(C, Kernel(function, _INLINED))


def one_of(kernels: Sequence[Callable[..., R]], *, otherwise: Callable[..., R]) -> Callable[..., R]:
    """A kernel whose first argument says which of `kernels` does the work; any other place means `otherwise`.

    A chain of comparisons that is inlined like what it leads to. Kernels passed as arguments would compile everything above them once
    for each (the engine takes a minute); pointers to them cannot be inlined, and a call that hands on a tuple of arrays costs more than
    most steps.
    """

    def last(wanted: int, *arguments: Any) -> R:
        return otherwise(*arguments)

    chain = inlined(last)
    for place in reversed(range(len(kernels))):
        if kernels[place] is not otherwise:
            chain = _link(place, kernels[place], chain)
    return chain


def _link(place: int, kernel: Callable[..., R], rest: Callable[..., R]) -> Callable[..., R]:
    def link(wanted: int, *arguments: Any) -> R:
        if wanted == place:
            return kernel(*arguments)
        return rest(wanted, *arguments)

    return inlined(link)


def _tell_of(kernel: Any, name: str) -> None:
    """Have the log say when it is compiled: whoever waits for a process that compiles while it serves can see there what for."""
    if not hasattr(kernel, "compile"):
        return  # under NUMBA_DISABLE_JIT kernels are plain functions
    compile_for = kernel.compile

    def told(signature: Any) -> Any:
        begin_s, read = time.perf_counter(), sum(kernel.stats.cache_hits.values())
        found = compile_for(signature)
        # Where nobody has said what is to become of events, as in commands, they would stand among results.
        if sum(kernel.stats.cache_hits.values()) == read and structlog.is_configured():
            log.info("kernel_compiled", kernel=name, s=round(time.perf_counter() - begin_s, 2))
        return found

    kernel.compile = told


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
def sources_digest(module: str, root: Path = ROOT) -> str:
    """SHA-256 over the sources of a module and of all modules of the package in `root` that it imports, directly or not."""
    return digest_of(import_closure([module], root=root), root=root)
