"""Finding fleets by name or path, and reading files of services and of tenants."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TypeVar

from tango.domain.fleet import Fleet
from tango.domain.near_names import near_name
from tango.domain.services import Service
from tango.domain.tenants import Tenant
from tango.errors import ConfigError, FileRefused, UsageError
from tango.fleets.declarations import fleet_of, service_of
from tango.fleets.tenants import tenant_of
from tango.fleets.yaml_document import MAX_BYTES, YamlValue, documents

T = TypeVar("T", Service, Tenant)
_STDIN = Path("-")
_DATA = resources.files("tango.fleets") / "data"


def fleet_names() -> tuple[str, ...]:
    """Names of the built-in fleets, sorted."""
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in _DATA.iterdir() if entry.name.endswith(".yaml")))


def load_fleet(name_or_path: str | Path, *, must_fit: bool = True) -> Fleet:
    """A built-in fleet by name, or the one that a YAML file declares. A text with a `/`, or that ends in .yaml or .yml, is a path.

    `must_fit` is explained at `parse_fleet`.
    Raises: UsageError for an unknown name, with the known ones; ConfigError for a file that cannot be read, FileRefused for one that
    has a mistake.
    """
    given = str(name_or_path)
    if isinstance(name_or_path, str) and "/" not in given and not given.endswith((".yaml", ".yml")):
        if given not in fleet_names():
            raise UsageError(
                f"there is no fleet {given!r}{near_name(given, fleet_names())}; known fleets: {', '.join(fleet_names())}; a file is "
                "named by a path that ends in .yaml or .yml"
            )
        text = (_DATA / f"{given}.yaml").read_text(encoding="utf-8")
        return parse_fleet(text, f"{given}.yaml", must_fit=must_fit)
    return parse_fleet(_read(Path(given)), given, must_fit=must_fit)


def fleet_text(name_or_path: str | Path) -> str:
    """A fleet as what needs no file elsewhere: the name of a built-in one, else the text of the file. Raises: as `load_fleet`."""
    load_fleet(name_or_path)
    given = str(name_or_path)
    is_name = isinstance(name_or_path, str) and given in fleet_names()
    return given if is_name else _read(Path(given))


def load_services(path: str | Path) -> tuple[Service, ...]:
    """The services, sorted by name, of a file with one or more `kind: Service` documents (`-`: of standard input), or of all YAML files of
    a folder.

    Raises: ConfigError for a file that cannot be read; FileRefused for one that has a mistake or no document, or declares a name twice.
    """
    return _named(Path(path), service_of, "Service")


def load_tenants(path: str | Path) -> tuple[Tenant, ...]:
    """The tenants, sorted by name, of a file with one or more `kind: Tenant` documents, as `load_services`. Raises: the same."""
    return _named(Path(path), tenant_of, "Tenant")


def _named(path: Path, read: Callable[[YamlValue], T], kind: str) -> tuple[T, ...]:
    """What the documents of a file declare, or those of all YAML files of a folder, sorted by name, each name once."""
    files = sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml")) if path.is_dir() else [path]
    found: dict[str, T] = {}
    for file in files:
        for document in documents(_read(file), str(file)):
            declared = read(document)
            if declared.name in found:
                raise FileRefused(f"{document.where}: metadata.name is {declared.name!r}, expected each {kind.lower()} once")
            found[declared.name] = declared
    if not found:
        raise FileRefused(f"{path}: found no document, expected at least one of kind {kind}")
    return tuple(found[name] for name in sorted(found))


def parse_fleet(text: str, file: str, *, must_fit: bool = True) -> Fleet:
    """The one fleet that a YAML text declares; `file` is its name in messages.

    With `must_fit` a service that no node can hold is refused. False is for a fleet that was accepted before: its services and nodes
    may have been changed since, and it must still load.
    Raises: FileRefused with file, line, what was found and what was expected.
    """
    found = documents(text, file)
    if len(found) != 1:
        raise FileRefused(f"{file}: found {len(found)} documents, expected one of kind Fleet")
    return fleet_of(found[0], must_fit=must_fit)


def _read(path: Path) -> str:
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if path == _STDIN else path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        return content.decode("utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: found no such file, expected a YAML declaration") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}), expected a YAML declaration") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise FileRefused(f"{path}:{line}: found the byte 0x{content[error.start]:02x}, expected UTF-8 text") from error
