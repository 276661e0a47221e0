"""YAML with the place of every value, so that a refusal can name file, line, key, found and expected.

The plain loaders of PyYAML forget where a value stood, keep the last of two equal keys and take any type. This one composes
nodes and reads each key once, by a stated type; what was not read is an unknown key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

import yaml

from tango.errors import ConfigError

T = TypeVar("T")

MAX_BYTES = 4 << 20
"""A declaration is read by people; anything larger is a wrong file."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")


class _Loader(yaml.SafeLoader):
    """A safe loader in Python: libyaml's composes six times faster, but overruns the stack where values are nested deeply."""


@dataclass(frozen=True, slots=True)
class YamlValue:
    """One value of a document and where it stands."""

    file: str
    key: str
    node: yaml.Node

    @property
    def where(self) -> str:
        """`file:line`, 1-based."""
        return f"{self.file}:{self.line}"

    @property
    def line(self) -> int:
        """1-based."""
        return int(self.node.start_mark.line) + 1

    def refuse(self, expected: str, *, found: str | None = None) -> NoReturn:
        """Raise ConfigError with file, line, key, found and expected."""
        raise ConfigError(f"{self.where}: {self.key or 'document'} is {found or self._found()}, expected {expected}")

    def scalar(self) -> object:
        """The plain Python value of a scalar by YAML 1.1 rules; None for anything else."""
        if not isinstance(self.node, yaml.ScalarNode):
            return None
        loader = _Loader("")
        try:
            return loader.construct_object(self.node)
        except (yaml.YAMLError, ValueError):
            return self.node.value
        finally:
            loader.dispose()

    def text(self) -> str:
        """A non-empty string."""
        value = self.scalar()
        if not isinstance(value, str) or not value:
            self.refuse("a non-empty string")
        return value

    def label(self) -> str:
        """A name that Kubernetes takes as a label value and in a pod name (RFC 1123 label)."""
        value = self.scalar()
        if not isinstance(value, str) or not _LABEL.fullmatch(value):
            self.refuse("a name of lower case letters, digits and '-' with at most 63 characters")
        return value

    def subdomain(self) -> str:
        """A node name as Kubernetes takes it (RFC 1123 subdomain)."""
        value = self.scalar()
        if not isinstance(value, str) or not _SUBDOMAIN.fullmatch(value):
            self.refuse("a name of lower case letters, digits, '-' and '.' with at most 253 characters")
        return value

    def integer(self, low: int, high: int) -> int:
        """A whole number in low..high."""
        value = self.scalar()
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.refuse(f"a whole number from {low} to {high}")
        return value

    def number(self, low: float, high: float) -> float:
        """A finite number in low..high."""
        value = self.scalar()
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
            self.refuse(f"a number from {low:g} to {high:g}")
        return float(value)

    def one_of(self, *choices: str) -> str:
        """One of the given words."""
        value = self.scalar()
        if not isinstance(value, str) or value not in choices:
            self.refuse(" or ".join(choices))
        return value

    def items(self) -> Iterator[YamlValue]:
        """The items of a list, keys numbered from 0."""
        if not isinstance(self.node, yaml.SequenceNode):
            self.refuse("a list")
        for index, node in enumerate(self.node.value):
            yield YamlValue(self.file, f"{self.key}[{index}]", node)

    def mapping(self) -> YamlMapping:
        """The keys of a mapping. Raises: ConfigError for a key that is not a string or stands twice."""
        if not isinstance(self.node, yaml.MappingNode):
            self.refuse("a mapping of keys to values")
        values: dict[str, YamlValue] = {}
        for key_node, value_node in self.node.value:
            here = YamlValue(self.file, f"{self.key}.{key_node.value}" if self.key else str(key_node.value), key_node)
            if not isinstance(here.scalar(), str):
                here.refuse("a key that is a string")
            if key_node.value in values:
                here.refuse("each key once", found="given twice")
            values[key_node.value] = YamlValue(self.file, here.key, value_node)
        return YamlMapping(self, values)

    def _found(self) -> str:
        if isinstance(self.node, yaml.MappingNode):
            return "a mapping"
        if isinstance(self.node, yaml.SequenceNode):
            return "a list"
        return repr(self.scalar())[:80]


@dataclass(slots=True)
class YamlMapping:
    """A mapping whose keys are read one by one; `close` refuses those nobody asked for."""

    owner: YamlValue
    values: dict[str, YamlValue]
    asked: list[str] = field(default_factory=list)

    def required(self, key: str, read: Callable[[YamlValue], T]) -> T:
        """The value of a key that must be there."""
        self.asked.append(key)
        if key not in self.values:
            name = f"{self.owner.key}.{key}" if self.owner.key else key
            raise ConfigError(f"{self.owner.where}: {name} is missing, expected a value")
        return read(self.values[key])

    def optional(self, key: str, read: Callable[[YamlValue], T], default: T) -> T:
        """The value of a key, or `default` where it is absent."""
        self.asked.append(key)
        return read(self.values[key]) if key in self.values else default

    def given(self, readers: Readers) -> dict[str, object]:
        """The keys among `readers` that are there, read."""
        self.asked.extend(readers)
        return {key: read(self.values[key]) for key, read in readers.items() if key in self.values}

    def fields(self, readers: Readers) -> dict[str, object]:
        """The keys among `readers` that are there, read; any other key is refused."""
        values = self.given(readers)
        self.close()
        return values

    def close(self) -> None:
        """Raises: ConfigError for the first key that was never asked for; the message lists the known ones."""
        for key, value in self.values.items():
            if key not in self.asked:
                raise ConfigError(f"{value.where}: {value.key} is an unknown key, expected one of: {', '.join(sorted(self.asked))}")


Readers = dict[str, Callable[[YamlValue], object]]
"""How each of some keys is read."""


@dataclass(frozen=True, slots=True)
class Names:
    """Names of one kind and the lines that have them, to refuse the second where it stands."""

    kind: str
    lines: dict[str, int] = field(default_factory=dict)

    def once(self, value: YamlValue, read: Callable[[YamlValue], str]) -> str:
        """The name as read. Raises: ConfigError if it was met before, naming both lines."""
        name = read(value)
        if name in self.lines:
            value.refuse(f"a {self.kind} name of its own", found=f"{name!r}, the name in line {self.lines[name]}")
        self.lines[name] = value.line
        return name


def documents(text: str, file: str) -> list[YamlValue]:
    """The non-empty documents of a YAML text.

    Raises: ConfigError if it is not YAML or too large.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{file} has {len(text)} characters, expected at most {MAX_BYTES}")
    try:
        nodes = list(yaml.compose_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else file
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{where}: found {problem}, expected YAML") from error
    except RecursionError as error:
        raise ConfigError(f"{file}: found values nested too deeply, expected a declaration") from error
    return [YamlValue(file, "", node) for node in nodes if node is not None and node.tag != "tag:yaml.org,2002:null"]
