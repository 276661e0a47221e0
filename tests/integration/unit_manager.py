"""As much of systemd as docs/operations/systemd.md uses: the units of `deploy/systemd`, started as processes of the test.

`systemctl` of the folder `bin` hands its words over a socket to the test's process, whose children the units therefore are: they end
with it. Of a unit what says how it runs is read (`EnvironmentFile`, `Environment`, `UnsetEnvironment`, `ExecStart`, `Type`) and what ties
units together (`WantedBy` once enabled, `Wants`, `PartOf`, `Requires`); what only protects a host is not.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import socketserver
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tango.stack.tether import tethered

ENDS_WITHIN_S = 45.0
"""As `TimeoutStopSec` of the units."""
SYSTEMCTL = """#!{python}
import json, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect({socket!r})
    line.sendall(json.dumps(sys.argv[1:]).encode() + b"\\n")
    status, said = json.loads(line.makefile().readline())
print(said, end="", file=sys.stderr if status else sys.stdout)
sys.exit(status)
"""


@dataclass(slots=True)
class Unit:
    """One unit of a file: `%i` and the like are filled in."""

    name: str
    keys: Mapping[str, list[str]]
    process: subprocess.Popen[bytes] | None = None
    has_run: bool = False
    """Of a oneshot that stays (`RemainAfterExit`): whether it has."""

    @property
    def is_active(self) -> bool:
        """Whether it runs, or has run and stays."""
        return self.has_run or (self.process is not None and self.process.poll() is None)


@dataclass(slots=True)
class UnitManager:
    """Units of a folder, with each path of theirs as `place` gives it, and logs in `logs`."""

    units: Path
    logs: Path
    place: Callable[[str], str]
    environment: Mapping[str, str]
    _known: dict[str, Unit] = field(default_factory=dict)
    _wanted: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By target, the units that were enabled for it."""

    def serve(self, bin_folder: Path) -> socketserver.BaseServer:
        """Put `systemctl` into a folder, and do what it says until the server is shut down."""
        socket = bin_folder.parent / "systemd.sock"
        manager = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                status, said = 0, ""
                try:
                    said = manager.systemctl(json.loads(self.rfile.readline()))
                except Exception as error:
                    status, said = 1, f"{error}\n"
                self.wfile.write(json.dumps([status, said]).encode() + b"\n")

        # One thread for all: a child's death signal comes with the end of the thread that made it.
        server = socketserver.UnixStreamServer(str(socket), Handler)
        threading.Thread(target=server.serve_forever, daemon=True, name="systemd").start()
        program = bin_folder / "systemctl"
        program.write_text(SYSTEMCTL.format(python=sys.executable, socket=str(socket)))
        program.chmod(0o755)
        return server

    def systemctl(self, words: list[str]) -> str:
        """Do it; gives what it prints. Raises: RuntimeError for a unit that does not start."""
        verb, now = words[0], "--now" in words
        named = [self._unit(word) for word in words[1:] if not word.startswith("-") and not word.endswith((".timer", "*"))]
        if verb == "status":
            return "".join(f"{unit.name} {'active' if unit.is_active else 'inactive'}\n" for unit in self._known.values())
        for unit in named:
            if verb == "enable":
                for target in unit.keys.get("WantedBy", ()):
                    self._wanted[target].add(unit.name)
            if verb in ("stop", "restart") or (verb == "disable" and now):
                was_active = self._stop(unit)
            if verb in ("start", "restart") or (verb == "enable" and now):
                self._start(unit)
            if verb == "restart":  # what was part of it and ran, runs again
                for part in was_active:
                    self._start(part)
        return ""

    def stop(self) -> None:
        """End all."""
        for unit in self._known.values():
            self._end(unit)

    def ended(self) -> list[str]:
        """Units that have ended by themselves: with a manager of the real kind they would be started again and again."""
        return [unit.name for unit in self._known.values() if unit.process is not None and unit.process.poll() is not None]

    def _unit(self, name: str) -> Unit:
        name = name if name.endswith((".service", ".target")) else f"{name}.service"
        if name not in self._known:
            stem, _, kind = name.rpartition(".")
            template, at, instance = stem.partition("@")
            text = (self.units / f"{template}{at}.{kind}").read_text()
            keys = defaultdict[str, list[str]](list)
            for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
                filled = value.replace("%i", instance).replace("%N", stem).replace("%t", "/run").replace("%%", "%")
                keys[key].append(filled)
            for key in ("Wants", "PartOf", "Requires", "WantedBy"):
                keys[key] = [word for value in keys[key] for word in value.split() if word.startswith("tango-")]
            self._known[name] = Unit(name, keys)
        return self._known[name]

    def _start(self, unit: Unit) -> None:
        for other in (*unit.keys["Requires"], *unit.keys["Wants"], *sorted(self._wanted[unit.name])):
            self._start(self._unit(other))
        if unit.is_active or "ExecStart" not in unit.keys:
            return
        variables = {**self.environment, **self._variables(unit)}
        [line] = unit.keys["ExecStart"]
        command = [word for word in self._words(line, variables) if word]
        with (self.logs / f"{unit.name}.log").open("ab") as log:
            if unit.keys.get("Type") == ["oneshot"]:
                done = subprocess.run(command, env=variables, stdout=log, stderr=log, timeout=300, check=False)
                if done.returncode:
                    raise RuntimeError(f"{unit.name} ended with {done.returncode}: {(self.logs / f'{unit.name}.log').read_text()}")
                unit.has_run = True
            else:
                starter = tethered(command, death_signal=signal.SIGKILL)
                unit.process = subprocess.Popen(starter, env=variables, stdout=log, stderr=log)

    def _stop(self, unit: Unit) -> list[Unit]:
        """End it and what is part of it; gives those that ran."""
        parts = [other for other in self._known.values() if unit.name in other.keys["PartOf"] and other.is_active]
        for part in (*parts, unit):
            if part.process is not None and part.process.poll() is None:
                part.process.terminate()
        for part in (*parts, unit):
            self._end(part)
        return parts

    def _end(self, unit: Unit) -> None:
        unit.has_run = False
        if unit.process is not None:
            unit.process.terminate()
            try:
                unit.process.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                unit.process.kill()
                unit.process.wait()
            unit.process = None

    def _variables(self, unit: Unit) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in unit.keys.get("Environment", ()):
            found |= dict(word.split("=", 1) for word in shlex.split(line))
        for file in unit.keys.get("EnvironmentFile", ()):
            lines = Path(self.place(file)).read_text().splitlines()
            found |= dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        for name in unit.keys.get("UnsetEnvironment", ()):
            found.pop(name, None)
        return {name: self.place(value) for name, value in found.items()}

    def _words(self, line: str, variables: Mapping[str, str]) -> list[str]:
        """As systemd splits a command: `${NAME}` is one word, `$NAME` as many as it has."""
        words = list[str]()
        for word in shlex.split(line):
            if word.startswith("$") and not word.startswith("${"):
                words += variables.get(word[1:], "").split()
            else:
                words.append(re.sub(r"\$\{(\w+)\}", lambda m: variables.get(m[1], ""), self.place(word)))
        return words
