"""Prints the part of requirements.txt that a package of the lock, or Tango without its tests, needs at run time, hashes and all.

    python deploy/image/locked.py 3.11.2                 # what setup.cfg's install_requires lead to, torch apart
    python deploy/image/locked.py 3.11.2 httptools       # one package and what it leads to

The first argument is the release of Python that they are for; what only others need is left out, and so are the markers, since the pip
that fetches may run under another. `make lock` writes under each release who asked for it (`# via`); that graph is followed from the top.
"""

from __future__ import annotations

import configparser
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.markers import Marker

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "tango-edge"
"""How the lock names Tango itself; with the packages that only its tests ask for, which is why `needed` begins at setup.cfg."""
_NAME = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==", re.MULTILINE)


def releases(lock: str) -> dict[str, str]:
    """Name of each package of a lock → its lines: release, marker, hashes, who asked for it."""
    starts = [match.start() for match in _NAME.finditer(lock)] + [len(lock)]
    return {_normal(match[1]): lock[match.start() : end] for match, end in zip(_NAME.finditer(lock), starts[1:], strict=True)}


def asked_by(block: str) -> set[str]:
    """Who asked for the package of this block, by its `# via` comment."""
    _, _, via = block.partition("# via")
    return {_normal(word) for word in re.findall(r"^[ #]*([A-Za-z0-9][A-Za-z0-9._-]*)", via, re.MULTILINE)}


def needed(lock: str, roots: Iterable[str], python: str) -> list[str]:
    """The blocks of these packages and of all that they lead to under a release of Python on Linux, without markers, in the lock's order.

    Raises: KeyError for a package that is not in the lock.
    """
    blocks = releases(lock)
    leads_to: dict[str, set[str]] = {}
    for name, block in blocks.items():
        for asker in asked_by(block):
            leads_to.setdefault(asker, set()).add(name)
    found: set[str] = set()
    waiting = {_normal(root) for root in roots}
    # torch is not in the lock, since its builds differ by index; what it needs is.
    for missing in waiting - blocks.keys() - {"torch"}:
        raise KeyError(f"{missing} is not in requirements.txt; run `make lock`")
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= leads_to.get(name, set()) - found
    wanted = (block.partition("    # via")[0] for name, block in blocks.items() if name in found)
    return [_without_marker(block) for block in wanted if _is_for(block, python)]


def _is_for(block: str, python: str) -> bool:
    _, semicolon, marker = block.partition("\n")[0].removesuffix("\\").partition(";")
    minor = ".".join(python.split(".")[:2])
    environment = {"python_full_version": python, "python_version": minor, "sys_platform": "linux", "platform_system": "Linux"}
    return not semicolon or Marker(marker).evaluate(environment)


def _without_marker(block: str) -> str:
    return re.sub(r" ;.*?(?= \\$)", "", block, count=1, flags=re.MULTILINE)


def runtime_roots(setup_cfg: str) -> list[str]:
    """The packages of setup.cfg's install_requires, by name."""
    parser = configparser.ConfigParser()
    parser.read_string(setup_cfg)
    lines = parser["options"]["install_requires"].split()
    return [re.split(r"[\[><=~!;]", line)[0] for line in lines]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(python: str, *names: str) -> None:
    """Print the blocks of the named packages, or of all that Tango needs to run."""
    lock = (ROOT / "requirements.txt").read_text()
    sys.stdout.write("".join(needed(lock, names or runtime_roots((ROOT / "setup.cfg").read_text()), python)))


if __name__ == "__main__":
    main(*sys.argv[1:])
