"""Which source files a module is made of: its own, and those of every module that is imported with it, directly or not.

Machine code is fresh as long as these files are (`tango.compiled`), and a simulated result is what these files make of its input
(`tango.experiments.cells`). They are found by reading the sources, not by importing them, so that nobody keeps a list by hand and a
process need not load what it only wants to name.
"""

from __future__ import annotations

import ast
import gc
import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parent
"""The package that is looked at; imports of other packages end here."""


def import_closure(modules: Iterable[str], *, root: Path = ROOT, with_packages: bool = False) -> tuple[Path, ...]:
    """The files of modules and of all that importing them imports, in order of their paths.

    Imports inside functions do not count, as they come only where the function runs; neither do those for type checkers alone. With
    `with_packages` the packages that a module lies in are imported with it, as Python does; their `__init__.py` only hands names on, so
    machine code does not depend on it.
    """
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if with_packages and "." in module:
            waiting.append(module.rpartition(".")[0])
        path = _file_of(module, root)
        if path is None or path in found:
            continue
        found.add(path)
        stat = path.stat()
        waiting += _imports_of(path, stat.st_mtime_ns, stat.st_size)
    return tuple(sorted(found))


def digest_of(files: Iterable[Path], *, root: Path = ROOT) -> str:
    """SHA-256 over the contents of files and where they lie below `root`."""
    whole = hashlib.sha256()
    for path in files:
        whole.update(path.relative_to(root).as_posix().encode() + b"\0")
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def parsed(source: str | bytes) -> ast.Module:
    """The syntax tree of a source.

    Without garbage collection meanwhile: what it finalizes may parse too, as whoever formats a traceback does to find what to underline,
    and CPython 3.11 raises SystemError where one tree is built within another.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        if collects:
            gc.enable()


def _file_of(module: str, root: Path) -> Path | None:
    first, *rest = module.split(".")
    if first != root.name:
        return None
    path = root.joinpath(*rest)
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


@lru_cache(maxsize=1024)
def _imports_of(path: Path, _changed_ns: int, _size: int) -> tuple[str, ...]:
    """Modules, and names that may be modules, that a file imports when it is imported."""
    return tuple(dict.fromkeys(_imported(parsed(path.read_bytes()).body)))


def _imported(statements: Iterable[ast.stmt]) -> Iterator[str]:
    for statement in statements:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            yield statement.module
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)
        elif isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING"):
            yield from _imported(statement.orelse)
        elif isinstance(statement, ast.If | ast.With | ast.Try | ast.ClassDef):
            for block in ("body", "orelse", "finalbody"):
                yield from _imported(getattr(statement, block, []))
            for handler in getattr(statement, "handlers", []):
                yield from _imported(handler.body)
