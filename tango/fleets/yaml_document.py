"""A strict YAML reader that keeps the line of every value, so that a refusal names file, line, key, found and expected.

PyYAML's loaders lose the lines, keep the last of two equal keys and accept any type. This reader composes YAML nodes and reads each key
by a stated type; keys that no code has asked for are refused as unknown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import yaml

from tango.domain.near_names import near_name
from tango.errors import FileRefused

T = TypeVar("T")

MAX_BYTES = 4 << 20
"""Longest declaration, bytes. A fleet of 10,000 nodes written out has 0.8 MB; anything larger is another kind of file."""

MOST_VALUES = 20_000
"""Values in one part that is taken as it is: a pod template of thousands of lines, and no bomb of aliases."""
MOST_MERGES = 100
"""Mappings that are merged into one (`<<`), those of their own merges counted: no bomb of aliases either."""

MOST_WHOLE = 2**63
"""The bound of whole numbers in what goes to Kubernetes, which reads 64 bits."""
MOST_DIGITS = 400
"""Characters of a number that is read as one; a longer one is none of those that are asked for, and Python writes none of 5,000 digits."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_MERGE = "tag:yaml.org,2002:merge"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
# Leading zeros, binary, base 60 and underscores.
_READ_IN_TWO_WAYS = re.compile(
    r"[-+]?(0[0-9_]+|0b[01_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|[0-9.xa-fA-F_]*_[0-9.eExa-fA-F_+-]*)"
)
_SUBDOMAIN = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader in Python. libyaml's is six times faster, but crashes on deeply nested input by overrunning the C stack."""


# Numbers such as 1e3, which YAML 1.1 takes for texts, and YAML 1.2, JSON and Kubernetes for numbers.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"), list("-+0123456789.")
)


@dataclass(frozen=True, slots=True)
class YamlValue:
    """One value of a document, with its file and its key path such as `spec.clusters[0].name`."""

    file: str
    key: str
    node: yaml.Node

    @property
    def where(self) -> str:
        """`file:line`, 1-based."""
        return f"{self.file}:{self.line}"

    @property
    def line(self) -> int:
        """The value's line in the file, 1-based."""
        return int(self.node.start_mark.line) + 1

    def refuse(self, expected: str, *, found: str | None = None) -> NoReturn:
        """Raises: FileRefused with file, line, key, what was found (the value itself if `found` is None) and `expected`."""
        raise FileRefused(f"{self.where}: {self.key or 'document'} is {found or self._found()}, expected {expected}")

    def scalar(self) -> object:
        """The Python value of a scalar; None for a list or a mapping.

        Raises: FileRefused for a number that YAML 1.1 reads as another one than YAML 1.2: `010000` is 4096 or 10000, `4:16:00` is 15360 or
        a text.
        """
        if isinstance(self.node, yaml.ScalarNode) and self.node.tag in _NUMBERS and _READ_IN_TWO_WAYS.fullmatch(self.node.value):
            self.refuse(
                "a decimal number without a leading 0, colons or underscores, or a text in quotes",
                found=f"{self.node.value[:80]}, which versions of YAML read as different values",
            )
        return self._constructed()

    def _constructed(self) -> object:
        """The Python value of a scalar by the rules of YAML 1.1; None for a list or a mapping."""
        if not isinstance(self.node, yaml.ScalarNode):
            return None
        if self.node.tag in _NUMBERS and len(self.node.value) > MOST_DIGITS:
            return self.node.value
        loader = _Loader("")
        try:
            return loader.construct_object(self.node)
        except (yaml.YAMLError, ValueError, OverflowError, LookupError, AttributeError, TypeError):
            # What a tag such as !!timestamp is put to that is none.
            return self.node.value
        finally:
            loader.dispose()

    def _as_kubernetes_reads_it(self) -> object:
        """A scalar of a part that goes to Kubernetes: `0644` is octal there, and base 60 is not known."""
        if self.node.tag in _NUMBERS and ":" in self.node.value:
            return self.node.value
        return self._constructed()

    def text(self) -> str:
        """A non-empty string. This and the other readers below raise FileRefused for any other value."""
        value = self.scalar()
        if not isinstance(value, str) or not value:
            self.refuse("a non-empty string")
        return value

    def label(self) -> str:
        """A name that Kubernetes accepts as a label value and inside a pod name: an RFC 1123 label."""
        value = self.scalar()
        if not isinstance(value, str) or not _LABEL.fullmatch(value):
            self.refuse("a name of lower case letters, digits and '-' with at most 63 characters")
        return value

    def subdomain(self) -> str:
        """A name that Kubernetes accepts for a node: an RFC 1123 subdomain."""
        value = self.scalar()
        if not isinstance(value, str) or not _SUBDOMAIN.fullmatch(value):
            self.refuse("a name of lower case letters, digits, '-' and '.' with at most 253 characters")
        return value

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        value = self.scalar()
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.refuse(f"a whole number from {low} to {high}")
        return value

    def number(self, low: float, high: float) -> float:
        """A finite number from `low` to `high`, both included."""
        value = self.scalar()
        # NaN is in no range; math.isfinite would have to make a float of a whole number first, of which some are too large.
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            self.refuse(f"a number from {low:g} to {high:g}")
        return float(value)

    def boolean(self) -> bool:
        """true or false."""
        value = self.scalar()
        if not isinstance(value, bool):
            self.refuse("true or false")
        return value

    def one_of(self, *choices: str) -> str:
        """One of the given texts."""
        value = self.scalar()
        if not isinstance(value, str) or value not in choices:
            self.refuse(" or ".join(choices))
        return value

    def at(self, path: Iterable[str | int]) -> YamlValue:
        """The value at a path of keys and indices below this one, or the last one on the way that is there: for its line."""
        value = self
        for part in path:
            found = None
            if isinstance(part, str) and isinstance(value.node, yaml.MappingNode):
                found = next((below for key, below in value.node.value if key.value == part), None)
            elif isinstance(part, int) and isinstance(value.node, yaml.SequenceNode) and part < len(value.node.value):
                found = value.node.value[part]
            if found is None:
                return value
            value = YamlValue(self.file, f"{value.key}[{part}]" if isinstance(part, int) else f"{value.key}.{part}", found)
        return value

    def plain(self, most: int = MOST_VALUES) -> Any:
        """All of it as JSON has it, for a part whose keys somebody else knows; at most `most` values, aliases counted each time.

        What YAML takes for a date stays the text that it is; numbers are read as Kubernetes reads them, so that `defaultMode: 0644` is
        octal. Raises: FileRefused for what JSON does not have, and for what contains itself.
        """
        left = [most]

        def read(value: YamlValue) -> Any:
            left[0] -= 1
            if left[0] < 0:
                self.refuse(f"at most {most} values in it", found="larger")
            if isinstance(value.node, yaml.MappingNode):
                return {key: read(item) for key, item in value.mapping().values.items()}
            if isinstance(value.node, yaml.SequenceNode):
                return [read(item) for item in value.items()]
            found = value._as_kubernetes_reads_it()
            if isinstance(found, float) and not math.isfinite(found):
                value.refuse("a finite number")
            is_too_long = isinstance(found, str) and value.node.tag in _NUMBERS and len(found) > MOST_DIGITS
            if is_too_long or (isinstance(found, int) and not -MOST_WHOLE <= found < MOST_WHOLE):
                value.refuse("a whole number of at most 64 bits", found="larger")
            return found if found is None or isinstance(found, bool | int | float | str) else value.node.value

        try:
            return read(self)
        except RecursionError:
            self.refuse("values that are nested less deeply, and do not contain themselves", found="nested too deeply")

    def items(self) -> Iterator[YamlValue]:
        """The items of a list; their key paths are numbered from 0."""
        if not isinstance(self.node, yaml.SequenceNode):
            self.refuse("a list")
        for index, node in enumerate(self.node.value):
            yield YamlValue(self.file, f"{self.key}[{index}]", node)

    def mapping(self) -> YamlMapping:
        """The keys of a mapping, and those of the mappings that it merges (`<<`), of which its own and earlier ones go before.

        Raises: FileRefused for a key that is not a string or stands twice, and for a merge of anything else.
        """
        return YamlMapping(self, self._merged([MOST_MERGES]))

    def _merged(self, left: list[int]) -> dict[str, YamlValue]:
        if not isinstance(self.node, yaml.MappingNode):
            self.refuse("a mapping of keys to values")
        left[0] -= 1
        if left[0] < 0:
            self.refuse(f"at most {MOST_MERGES} merged mappings", found="more, or one that merges itself")
        values: dict[str, YamlValue] = {}
        merges: list[yaml.Node] = []
        for key_node, value_node in self.node.value:
            if key_node.tag == _MERGE:
                merges.extend(value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node])
                continue
            here = YamlValue(self.file, f"{self.key}.{key_node.value}" if self.key else str(key_node.value), key_node)
            if not isinstance(here.scalar(), str):
                here.refuse("a key that is a string")
            if key_node.value in values:
                here.refuse("each key once", found="given twice")
            values[key_node.value] = YamlValue(self.file, here.key, value_node)
        for node in merges:
            for key, value in YamlValue(self.file, f"{self.key}.<<" if self.key else "<<", node)._merged(left).items():
                values.setdefault(key, YamlValue(self.file, f"{self.key}.{key}" if self.key else key, value.node))
        return values

    def _found(self) -> str:
        if isinstance(self.node, yaml.MappingNode):
            return "a mapping"
        if isinstance(self.node, yaml.SequenceNode):
            return "a list"
        return repr(self._constructed())[:80]


class _Missing(YamlValue):
    """Stands for the value of a key that is missing, and has the line of its mapping."""

    def _found(self) -> str:
        return "missing"


@dataclass(slots=True)
class YamlMapping:
    """A mapping whose keys are read one by one; `close` then refuses the keys that were not asked for."""

    owner: YamlValue
    values: dict[str, YamlValue]
    asked: list[str] = field(default_factory=list)

    def required(self, key: str, read: Callable[[YamlValue], T]) -> T:
        """The value of a key, read by `read`. Raises: FileRefused if the key is missing, with what `read` expects there."""
        self.asked.append(key)
        self.refuse_missing(key, read)
        return read(self.values[key])

    def refuse_missing(self, key: str, read: Callable[[YamlValue], object]) -> None:
        """Read nothing, but raise FileRefused if the key is missing, with what `read` expects there."""
        if key in self.values:
            return
        # As a value that no reader takes, it is refused in the reader's own words.
        nothing = yaml.ScalarNode("tag:yaml.org,2002:null", "", self.owner.node.start_mark, self.owner.node.end_mark)
        missing = _Missing(self.owner.file, f"{self.owner.key}.{key}" if self.owner.key else key, nothing)
        read(missing)
        missing.refuse("a value")

    def optional(self, key: str, read: Callable[[YamlValue], T], default: T) -> T:
        """The value of a key, or `default` if the key is missing."""
        self.asked.append(key)
        return read(self.values[key]) if key in self.values else default

    def given(self, readers: Readers) -> dict[str, object]:
        """The values of those keys among `readers` that are present."""
        self.asked.extend(readers)
        return {key: read(self.values[key]) for key, read in readers.items() if key in self.values}

    def fields(self, readers: Readers) -> dict[str, object]:
        """The values of those keys among `readers` that are present. Raises: FileRefused for any other key."""
        values = self.given(readers)
        self.close()
        return values

    def close(self) -> None:
        """Raises: FileRefused for the first key that was not asked for, with the list of known keys."""
        for key, value in self.values.items():
            if key not in self.asked:
                near = near_name(value.key.rpartition(".")[2], self.asked)
                raise FileRefused(
                    f"{value.where}: {value.key} is an unknown key{near}, expected one of: {', '.join(sorted(set(self.asked)))}"
                )


Readers = dict[str, Callable[[YamlValue], object]]
"""By key: the function that reads its value."""


@dataclass(frozen=True, slots=True)
class Names:
    """Names of one kind (such as node) with their lines, to refuse a name that is used twice."""

    kind: str
    lines: dict[str, int] = field(default_factory=dict)

    def once(self, value: YamlValue, read: Callable[[YamlValue], str]) -> str:
        """The name, read by `read`. Raises: FileRefused if it was used before, with both lines."""
        name = read(value)
        if name in self.lines:
            value.refuse(f"a {self.kind} name of its own", found=f"{name!r}, the name in line {self.lines[name]}")
        self.lines[name] = value.line
        return name


def documents(text: str, file: str) -> list[YamlValue]:
    """The non-empty documents of a YAML text; `file` is its name in messages.

    Raises: FileRefused if it is not YAML, nested too deeply or longer than `MAX_BYTES`.
    """
    if len(text) > MAX_BYTES:
        raise FileRefused(f"{file} has {len(text)} characters, expected at most {MAX_BYTES}")
    try:
        nodes = list(yaml.compose_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else file
        problem = getattr(error, "problem", None) or str(error)
        raise FileRefused(
            f"{where}: cannot be read as YAML: {problem}; look at indentation, colons and quotes of this line and the one before"
        ) from error
    except RecursionError as error:
        raise FileRefused(f"{file}: found values nested too deeply, expected a declaration") from error
    return [YamlValue(file, "", node) for node in nodes if node is not None and node.tag != "tag:yaml.org,2002:null"]
