"""A map that makes columns of Tango's own format of a file's: `arrival_s=end - duration,class='lc' if duration < 1 else 'be'`.

Each expression is parsed by Python's grammar and held to a list of what may stand in it: names of columns, numbers, texts, arithmetic,
comparisons, `and`, `or`, `not`, `X if CONDITION else Y`, and the functions of `SIGNATURES`. Nothing of it is ever run as code:
`expression_values` goes through the parsed tree and computes whole columns. Docs: docs/traces.md, "Any other table".
"""

from __future__ import annotations

import ast
import keyword
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from tango.domain.near_names import near_name
from tango.errors import UsageError
from tango.traces.own_format import COLUMNS

MOST_CHARACTERS = 10_000
"""Longest map. Python's parser takes memory by nesting, which the length bounds."""
SHOWN = 160
"""Characters of an expression that messages show."""
MOST_DEEP = 100
"""Deepest nesting of an expression."""

SIGNATURES: Mapping[str, tuple[int, int]] = {
    "abs": (1, 1),
    "ceil": (1, 1),
    "column": (1, 1),
    "default": (2, 2),
    "ends": (2, 2),
    "exp": (1, 1),
    "floor": (1, 1),
    "log": (1, 2),
    "lower": (1, 1),
    "max": (2, 20),
    "min": (2, 20),
    "number": (1, 1),
    "round": (1, 2),
    "seconds": (1, 2),
    "sqrt": (1, 1),
    "starts": (2, 2),
    "strip": (1, 1),
    "text": (1, 1),
    "upper": (1, 1),
}
"""The functions of expressions, with the least and greatest number of their arguments."""

UNITS_S: Mapping[str, float] = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
"""Units that `seconds(X, UNIT)` takes, in seconds."""

ALLOWED = "columns, numbers, texts, + - * / // % **, comparisons, in, and, or, not, X if CONDITION else Y, and functions"
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn)
_MOST = 1e300  # so that a number of the map is one of a column too
_OPEN, _CLOSE = "([{", ")]}"


@dataclass(frozen=True, slots=True)
class Expression:
    """The expression that gives one column."""

    column: str
    """One of Tango's own."""
    text: str
    """As it was written."""
    at: int
    """Where it begins in the map, from 0."""
    tree: ast.expr
    names: Mapping[str, str]
    """Columns of the file by how they stand in the tree."""

    def column_of(self, node: ast.expr) -> str | None:
        """The file's column that a node stands for; None for any other node."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, node.id)
        if isinstance(node, ast.Attribute):  # of a record: `resource_request.cpus`
            inner = self.column_of(node.value)
            return None if inner is None else f"{inner}.{node.attr}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "column":
            argument = node.args[0]
            return argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else None
        return None

    def source_of(self, node: ast.AST) -> str:
        """A node as it was written."""
        begin, end = self._offset(node), self._offset(node, end=True)
        return self.text[begin:end]

    def place_of(self, node: ast.AST) -> str:
        """Where a node stands, for messages: the expression, and the character of the map, from 1."""
        return f"{self.shown}, at character {self.at + self._offset(node) + 1} of the map"

    @property
    def shown(self) -> str:
        """Column and expression, as far as a message has room."""
        written = f"{self.column}={self.text}"
        return written if len(written) <= SHOWN else written[:SHOWN] + "…"

    def _offset(self, node: ast.AST, *, end: bool = False) -> int:
        """Character of the expression at which a node begins or ends; the parser counts bytes, after an opening bracket of ours."""
        column = getattr(node, "end_col_offset" if end else "col_offset", 1)
        return len(self.text_for_parser.encode()[:column].decode("utf-8", "replace")) - 1

    @property
    def text_for_parser(self) -> str:
        """The text as it was parsed: in brackets, so that it may go over several lines, with names for what stood in backquotes."""
        return f"({_without_backquotes(self.text)[0]})"


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """The expressions of a map, one for each column that it gives."""

    text: str
    expressions: tuple[Expression, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the file's columns that it reads, each once."""
        return tuple(dict.fromkeys(name for e in self.expressions for name in _columns_in(e)))

    def gives(self, column: str) -> bool:
        """Whether there is an expression for this column of Tango's own."""
        return any(e.column == column for e in self.expressions)


@lru_cache(maxsize=32)
def column_map(text: str) -> ColumnMap:
    """The map that a text like `arrival_s=t / 1000,service=name` describes.

    Raises: UsageError for what is no such map, with the expression and the place of what is wrong.
    """
    if len(text) > MOST_CHARACTERS:
        raise UsageError(f"--map has {len(text)} characters, expected at most {MOST_CHARACTERS}")
    for space in "\n\r\t":  # of the same length, so that places in one line are places in the map
        text = text.replace(space, " ")
    expressions = tuple(_expression(text[begin:end], begin) for begin, end in _parts(text))
    given = [e.column for e in expressions]
    for column in given:
        if given.count(column) > 1:
            raise UsageError(f"--map gives {column} twice, expected each column once")
    if "arrival_s" not in given:
        raise UsageError(
            f"--map {text!r} does not say when a request arrives, expected arrival_s=EXPRESSION among its parts; columns that it "
            f"can give: {', '.join(COLUMNS)}"
        )
    found = ColumnMap(text, expressions)
    if not found.columns:
        raise UsageError(f"--map {text!r} names no column of the file")
    return found


def _parts(text: str) -> Iterator[tuple[int, int]]:
    """(begin, end) of what stands between commas that are neither quoted nor in brackets."""
    begin, quote, deep = 0, "", 0
    for at, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"`":
            quote = sign
        elif sign in _OPEN:
            deep += 1
        elif sign in _CLOSE:
            deep -= 1
        elif sign == "," and deep <= 0:
            yield begin, at
            begin = at + 1
    if quote:
        raise UsageError(f"--map {text!r} has a {quote} that is not closed")
    if text[begin:].strip() or begin == 0:  # a comma at the end is no mistake
        yield begin, len(text)


def _expression(part: str, at: int) -> Expression:
    """The expression of `COLUMN=EXPRESSION`, which stands at `at` in the map."""
    column, sign, written = part.partition("=")
    name = column.strip()
    if not sign or written.startswith("="):
        raise UsageError(f"--map has {part.strip()!r} at character {at + 1}, expected COLUMN=EXPRESSION")
    if name not in COLUMNS:
        raise UsageError(
            f"--map gives {name!r} at character {at + 1}{near_name(name, COLUMNS)}, expected one of Tango's own columns: "
            f"{', '.join(COLUMNS)}"
        )
    begin = at + len(column) + 1 + len(written) - len(written.lstrip())
    written = written.strip()
    readable, names = _without_backquotes(written)
    if keyword.iskeyword(written):  # such as the column `class`, which Python's grammar has for itself
        readable, names = "_", {"_": written}
    where = f"{name}={written}"[:SHOWN]
    if not written:
        raise UsageError(f"--map {where}: an expression is missing at character {begin + 1}")
    try:
        with warnings.catch_warnings(action="ignore"):  # of what Python takes and thinks little of, such as `1if x else 2`
            tree = ast.parse(f"({readable})", mode="eval").body
    except SyntaxError as error:
        found = begin + max((error.offset or 2) - 2, 0) + 1
        reserved = next((word for word in _words(readable) if keyword.iskeyword(word) and word not in _GRAMMAR), "")
        remedy = f"; a column named {reserved} stands in backquotes or as column({reserved!r})" if reserved else ""
        raise UsageError(f"--map {where}: {error.msg} at character {found} of the map{remedy}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"--map {where}: it cannot be read ({str(error) or 'nested too deep'})") from error
    expression = Expression(name, written, begin, tree, names)
    _require_allowed(expression, tree, MOST_DEEP)
    return expression


_GRAMMAR = ("if", "else", "and", "or", "not", "in")


def _words(text: str) -> list[str]:
    return "".join(sign if sign.isalnum() or sign == "_" else " " for sign in text).split()


def _without_backquotes(text: str) -> tuple[str, dict[str, str]]:
    """(text, names): what stands in backquotes replaced by names of the same length, so that places stay what they are."""
    pieces, names = text.split("`"), {}
    if len(pieces) == 1:
        return text, {}
    free = (chr(code) for code in range(0x4E00, 0x9FFF) if chr(code) not in text)
    found = [pieces[0]]
    for at in range(1, len(pieces) - 1, 2):
        name = next(free).ljust(len(pieces[at]) + 2, "_")
        names[name] = pieces[at]
        found += [name, pieces[at + 1]]
    return "".join(found), names


def _require_allowed(of: Expression, node: ast.AST, deep: int) -> None:
    """Raises: UsageError for anything in an expression that is not meant to be there."""
    if not deep:
        raise UsageError(f"--map {of.place_of(node)}: it is nested deeper than {MOST_DEEP}")
    inner = _operands(of, node)
    if inner is None:
        raise UsageError(
            f"--map {of.place_of(node)}: {of.source_of(node)[:SHOWN]!r} may not stand in an expression, expected {ALLOWED} "
            f"({', '.join(SIGNATURES)})"
        )
    for part in inner:
        _require_allowed(of, part, deep - 1)


def _operands(of: Expression, node: ast.AST) -> list[ast.expr] | None:
    """The expressions that an allowed node is made of; None for one that is not allowed. Raises: UsageError for one with a mistake."""
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return [] if isinstance(value, str) or abs(value) < _MOST else None
        case ast.Name():
            return []
        case ast.Attribute():
            return None if of.column_of(node) is None else []
        case ast.BinOp(op=op) if isinstance(op, _OPERATORS):
            return [node.left, node.right]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not()):
            return [node.operand]
        case ast.BoolOp():
            return node.values
        case ast.Compare(ops=ops) if all(isinstance(op, _COMPARISONS) for op in ops):
            return [node.left, *(part for op, right in zip(ops, node.comparators, strict=True) for part in _members(op, right))]
        case ast.IfExp():
            return [node.test, node.body, node.orelse]
        case ast.Call():
            return _arguments(of, node)
    return None


def _members(op: ast.cmpop, right: ast.expr) -> list[ast.expr]:
    """What stands in the list after `in`; the right side itself in any other comparison."""
    listed = isinstance(op, ast.In | ast.NotIn) and isinstance(right, ast.Tuple | ast.List | ast.Set)
    return right.elts if listed else [right]  # type: ignore[attr-defined]


def _arguments(of: Expression, node: ast.Call) -> list[ast.expr]:
    """The arguments that are expressions. Raises: UsageError for a function that there is not, or another number of arguments."""
    where = of.place_of(node)
    if not isinstance(node.func, ast.Name):
        raise UsageError(
            f"--map {where}: {of.source_of(node)[:SHOWN]!r} calls no function that there is; functions: {', '.join(SIGNATURES)}"
        )
    name = of.names.get(node.func.id, node.func.id)
    if name not in SIGNATURES:
        raise UsageError(
            f"--map {where}: there is no function {name!r}{near_name(name, SIGNATURES)}, expected one of {', '.join(SIGNATURES)}"
        )
    least, most = SIGNATURES[name]
    if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
        raise UsageError(f"--map {where}: {name} takes plain arguments")
    if not least <= len(node.args) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise UsageError(f"--map {where}: {name} has {len(node.args)} arguments, expected {wanted}")
    if name == "column":
        if of.column_of(node) is None:
            raise UsageError(f"--map {where}: column takes a name in quotes")
        return []
    if name == "seconds" and len(node.args) == 2:
        unit = node.args[1]
        if not (isinstance(unit, ast.Constant) and unit.value in UNITS_S):
            raise UsageError(f"--map {where}: the unit of seconds is {of.source_of(unit)}, expected one of {', '.join(UNITS_S)}")
        return node.args[:1]
    return node.args


def _columns_in(of: Expression) -> Iterator[str]:
    """The file's columns in an expression, from left to right."""

    def walk(node: ast.AST) -> Iterator[str]:
        name = of.column_of(node) if isinstance(node, ast.expr) else None
        if name is not None:
            yield name
            return
        for child in ast.iter_child_nodes(node):
            if not (isinstance(node, ast.Call) and child is node.func):
                yield from walk(child)

    yield from walk(of.tree)
