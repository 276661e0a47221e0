"""Computes an expression of a map over whole columns: numbers with NumPy, texts with Arrow.

Every step is told on which rows its value counts: of `A if CONDITION else B` each branch counts where it is taken, and of `and` and `or`
the second operand where the first does not decide. A value that cannot be used, such as a text where a number is expected, is a fault of
its row only where it counts. A value that is empty makes what is computed from it empty, and holds in no comparison but `!=`.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tango.domain.near_names import near_name
from tango.traces.column_map import SHOWN, UNITS_S, Expression
from tango.traces.columns import Mask, bools
from tango.traces.file_columns import FileColumn, Numbers, ValueKind, parsed
from tango.traces.schema import Kind


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts of n rows, as an Arrow array, or one for all of them."""

    values: Any

    @property
    def one(self) -> str | None:
        """The text that all rows have; None where each has its own."""
        return self.values if isinstance(self.values, str) else None


Value = FileColumn | Numbers | Mask | Texts
"""Of an expression over n rows: a column of the file; numbers or truths, shape (n,) or (); texts."""

_ARITHMETIC: Mapping[type[ast.operator], tuple[str, Callable[[Numbers, Numbers], Numbers]]] = {
    ast.Add: ("+", np.add),
    ast.Sub: ("-", np.subtract),
    ast.Mult: ("*", np.multiply),
    ast.Div: ("/", np.divide),
    ast.FloorDiv: ("//", np.floor_divide),
    ast.Mod: ("%", np.mod),
    ast.Pow: ("**", np.power),
}
_COMPARISON: Mapping[type[ast.cmpop], tuple[Callable[..., NDArray[np.bool_]], str]] = {
    ast.Eq: (operator.eq, "equal"),
    ast.NotEq: (operator.ne, "not_equal"),
    ast.Lt: (operator.lt, "less"),
    ast.LtE: (operator.le, "less_equal"),
    ast.Gt: (operator.gt, "greater"),
    ast.GtE: (operator.ge, "greater_equal"),
}
"""For numbers, and the name of Arrow's function for texts."""
_OF_NUMBERS: Mapping[str, Callable[[Numbers], Numbers]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "exp": np.exp,
    "floor": np.floor,
    "sqrt": np.sqrt,
}
_OF_TEXTS: Mapping[str, Callable[[pa.Array], pa.Array]] = {
    "lower": pc.utf8_lower,
    "strip": pc.utf8_trim_whitespace,
    "upper": pc.utf8_upper,
}
_TRUE = np.ones((), bool)


class Misused(Exception):
    """An expression that no row can give a value for: what was found, and what was expected."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"found {found}, expected {expected}")
        self.found = found
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Wrong:
    """Rows of which an expression has no value."""

    rows: NDArray[np.int64]
    found: Callable[[int], str]
    """What stands in a row, for messages."""
    expected: str


@dataclass(slots=True)
class Evaluation:
    """One expression over the n rows of a file; `wrong` has what was found on the way."""

    of: Expression
    columns: Mapping[str, FileColumn]
    n: int
    wrong: list[Wrong] = field(default_factory=list)

    def as_numbers(self) -> Numbers:
        """The values as numbers, shape (n,), NaN where empty. Raises: Misused."""
        with np.errstate(all="ignore"):
            found = self._numbers(self.of.tree, np.ones(self.n, bool))
        return np.broadcast_to(found, (self.n,))

    def as_texts(self) -> pa.Array:
        """The values as texts, n of them, empty ones "". Raises: Misused."""
        with np.errstate(all="ignore"):
            found = self._texts(self.of.tree, np.ones(self.n, bool))
        return self._whole(found)

    # ---- nodes ---------------------------------------------------------------------------------------------------------------

    def _value(self, node: ast.expr, where: Mask) -> Value:
        name = self.of.column_of(node)
        if name is not None:
            return self.columns[name]
        match node:
            case ast.Constant(value=bool() as value):
                return np.array(value)
            case ast.Constant(value=str() as text):
                return Texts(text)
            case ast.Constant(value=int() | float() as number):
                return np.array(float(number))
            case ast.BinOp():
                return self._arithmetic(node, where)
            case ast.UnaryOp(op=ast.Not()):
                return ~self._truths(node.operand, where)
            case ast.UnaryOp(op=ast.USub()):
                return -self._numbers(node.operand, where)
            case ast.UnaryOp():
                return self._numbers(node.operand, where)
            case ast.BoolOp():
                return self._connected(node, where)
            case ast.Compare():
                return self._compared(node, where)
            case ast.IfExp():
                condition = np.broadcast_to(self._truths(node.test, where), (self.n,))
                return self._chosen(condition, node.body, node.orelse, where)
            case ast.Call(func=ast.Name(id=function)):
                return self._called(node, self.of.names.get(function, function), where)
        raise AssertionError(f"{ast.dump(node)} was let through")

    def _arithmetic(self, node: ast.BinOp, where: Mask) -> Value:
        sign, function = _ARITHMETIC[type(node.op)]
        if isinstance(node.op, ast.Add):
            left, right = self._value(node.left, where), self._value(node.right, where)
            if ValueKind.TEXT in (kind_of(left), kind_of(right)):
                parts = (self._as_texts(left, node.left), self._as_texts(right, node.right))
                return Texts(pc.binary_join_element_wise(*map(self._whole, parts), ""))
            a, b = self._as_numbers(left, node.left, where), self._as_numbers(right, node.right, where)
        else:
            a, b = self._numbers(node.left, where), self._numbers(node.right, where)
        return self._finite(function(a, b), where, (a, b), lambda x, y: f"{x:g} {sign} {y:g}", node)

    def _connected(self, node: ast.BoolOp, where: Mask) -> Mask:
        is_and = isinstance(node.op, ast.And)
        found = np.broadcast_to(np.array(is_and), (self.n,))
        for part in node.values:
            truths = self._truths(part, where & (found if is_and else ~found))
            found = (found & truths) if is_and else (found | truths)
        return found

    def _compared(self, node: ast.Compare, where: Mask) -> Mask:
        found, left = _TRUE, node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                within = self._within(left, right, where)
                found = found & (within if isinstance(op, ast.In) else ~within)
            else:
                found = found & self._pair(op, left, right, where)
            left = right
        return found

    def _within(self, left: ast.expr, right: ast.expr, where: Mask) -> Mask:
        if isinstance(right, ast.Tuple | ast.List | ast.Set):
            found: Mask = np.zeros((), bool)
            for one in right.elts:
                found = found | self._pair(ast.Eq(), left, one, where)
            return found
        sought = self._text_in_quotes(left, where)
        if sought is None:
            raise Misused(
                f"{self._written(left)!r} before in", f"a text in quotes, or a list in brackets after it {self._at(left)}"
            )
        return bools(pc.match_substring(self._whole(self._texts(right, where)), sought))

    def _pair(self, op: ast.cmpop, left: ast.expr, right: ast.expr, where: Mask) -> Mask:
        function, of_texts = _COMPARISON[type(op)]
        a, b = self._value(left, where), self._value(right, where)
        kinds = {kind_of(a), kind_of(b)}
        if ValueKind.TEXT in kinds:
            return bools(getattr(pc, of_texts)(self._whole(self._as_texts(a, left)), self._whole(self._as_texts(b, right))))
        if kinds == {ValueKind.TRUTH}:
            return function(self._as_truths(a, left), self._as_truths(b, right))
        return function(self._as_numbers(a, left, where), self._as_numbers(b, right, where))

    def _chosen(self, condition: Mask, body: ast.expr, other: ast.expr, where: Mask) -> Value:
        """The value of `body` where the condition holds, else that of `other`."""
        then, orelse = where & condition, where & ~condition
        a, b = self._value(body, then), self._value(other, orelse)
        kinds = {kind_of(a), kind_of(b)}
        if ValueKind.TEXT in kinds:
            texts = (self._whole(self._as_texts(a, body)), self._whole(self._as_texts(b, other)))
            return Texts(pc.if_else(pa.array(condition), *texts))
        if kinds == {ValueKind.TRUTH}:
            return np.where(condition, self._as_truths(a, body), self._as_truths(b, other))
        return np.where(condition, self._as_numbers(a, body, then), self._as_numbers(b, other, orelse))

    def _called(self, node: ast.Call, function: str, where: Mask) -> Value:
        first = node.args[0]
        if function in _OF_TEXTS:
            return Texts(_OF_TEXTS[function](self._whole(self._texts(first, where))))
        if function in ("starts", "ends"):
            return self._begins_or_ends(node, function, where)
        if function == "text":
            return self._texts(first, where)
        if function == "default":
            value = self._value(first, where)
            empty = self._is_empty(value, first, where)
            return self._chosen(~empty, first, node.args[1], where)
        if function == "number":
            value = self._value(first, where)
            if isinstance(value, Texts):
                return self._parsed(self._whole(value), Kind.FLOAT, first, where)
            return self._as_numbers(value, first, where)
        if function == "seconds":
            return self._seconds(node, where)
        if function in ("min", "max"):
            values = [self._numbers(argument, where) for argument in node.args]
            best = np.minimum if function == "min" else np.maximum
            found = values[0]
            for value in values[1:]:
                found = best(found, value)
            return found
        a = self._numbers(first, where)
        if function == "round":
            return np.round(a, self._digits(node))
        if function == "log":
            found = np.log(a)
            if len(node.args) == 2:
                found = found / np.log(self._numbers(node.args[1], where))
        else:
            found = _OF_NUMBERS[function](a)
        return self._finite(found, where, (a,), lambda x: f"{function} of {x:g}", node)

    def _begins_or_ends(self, node: ast.Call, function: str, where: Mask) -> Mask:
        sought = self._text_in_quotes(node.args[1], where)
        if sought is None:
            raise Misused(f"{self._written(node.args[1])!r}", f"a text in quotes {self._at(node)}")
        texts = self._whole(self._texts(node.args[0], where))
        return bools((pc.starts_with if function == "starts" else pc.ends_with)(texts, sought))

    def _seconds(self, node: ast.Call, where: Mask) -> Numbers:
        first = node.args[0]
        if len(node.args) == 2:
            unit = node.args[1]
            assert isinstance(unit, ast.Constant)
            assert isinstance(unit.value, str)
            return self._numbers(first, where) * UNITS_S[unit.value]
        value = self._value(first, where)
        if isinstance(value, Texts):
            return self._parsed(self._whole(value), Kind.TIMESTAMP, first, where)
        if isinstance(value, FileColumn) and (not value.is_text or value.kind is ValueKind.TEXT):
            seconds, wrong = value.times_s
            self._note(wrong, where, value.shown, Kind.TIMESTAMP.value, first)
            return seconds
        units = ", ".join(f"seconds(X, {unit!r})" for unit in UNITS_S)
        raise Misused(f"numbers in {self._written(first)!r}", f"their unit, one of {units} {self._at(node)}")

    def _digits(self, node: ast.Call) -> int:
        if len(node.args) == 1:
            return 0
        digits = node.args[1]
        if not (isinstance(digits, ast.Constant) and type(digits.value) is int and digits.value <= 15):
            raise Misused(f"{self._written(digits)!r}", f"a whole number of digits, 0 to 15 {self._at(node)}")
        return digits.value

    # ---- kinds ---------------------------------------------------------------------------------------------------------------

    def _numbers(self, node: ast.expr, where: Mask) -> Numbers:
        return self._as_numbers(self._value(node, where), node, where)

    def _text_in_quotes(self, node: ast.expr, where: Mask) -> str | None:
        value = self._value(node, where)
        return value.one if isinstance(value, Texts) else None

    def _texts(self, node: ast.expr, where: Mask) -> Texts:
        return self._as_texts(self._value(node, where), node)

    def _truths(self, node: ast.expr, where: Mask) -> Mask:
        return self._as_truths(self._value(node, where), node)

    def _as_numbers(self, value: Value, node: ast.expr, where: Mask) -> Numbers:
        if isinstance(value, FileColumn) and kind_of(value) is not ValueKind.TRUTH:
            numbers, wrong = value.numbers
            remedy = " (seconds(X) takes times)" if _is_time(value, wrong) else ""
            self._note(wrong, where, value.shown, f"a number{remedy}", node)
            return numbers
        if kind_of(value) is ValueKind.TEXT:
            raise Misused(f"a text, {self._written(node)!r}", f"a number {self._at(node)}; number(X) makes one of a text")
        return (value.truths if isinstance(value, FileColumn) else np.asarray(value)).astype(np.float64)

    def _as_texts(self, value: Value, node: ast.expr) -> Texts:
        if isinstance(value, FileColumn):
            return Texts(value.texts)
        if isinstance(value, Texts):
            return value
        if kind_of(value) is ValueKind.TRUTH:
            raise Misused(f"a condition, {self._written(node)!r}", f"a text {self._at(node)}; 'a' if X else 'b' makes one of it")
        return Texts(_written(np.broadcast_to(value.astype(np.float64), (self.n,))))

    def _as_truths(self, value: Value, node: ast.expr) -> Mask:
        if kind_of(value) is not ValueKind.TRUTH:
            found = f"{kind_of(value).value}, {self._written(node)!r}"
            raise Misused(found, f"a condition, such as a comparison {self._at(node)}")
        return value.truths if isinstance(value, FileColumn) else np.asarray(value)

    def _whole(self, texts: Texts) -> pa.Array:
        return texts.values if texts.one is None else pa.repeat(pa.scalar(texts.one, pa.string()), self.n)

    def _is_empty(self, value: Value, node: ast.expr, where: Mask) -> Mask:
        if isinstance(value, FileColumn) and value.is_text:
            empty = bools(pc.equal(value.texts, ""))
            if value.kind is ValueKind.NUMBER:  # where a text such as `nan` is nothing too
                numbers, wrong = value.numbers
                empty = empty | (np.isnan(numbers) & ~wrong)
            return empty
        if kind_of(value) is ValueKind.TEXT:
            return bools(pc.equal(self._whole(self._as_texts(value, node)), ""))
        return np.broadcast_to(np.isnan(self._as_numbers(value, node, where)), (self.n,))

    # ---- what goes wrong -------------------------------------------------------------------------------------------------------

    def _written(self, node: ast.AST) -> str:
        return self.of.source_of(node)[:SHOWN]

    def _at(self, node: ast.AST) -> str:
        return f"in {self.of.place_of(node)}"

    def _note(self, wrong: Mask, where: Mask, found: Callable[[int], str], expected: str, node: ast.AST) -> None:
        rows = np.flatnonzero(wrong & where)
        if len(rows):
            self.wrong.append(Wrong(rows, lambda row: f"{found(row)} in {self._written(node)}", f"{expected} {self._at(node)}"))

    def _parsed(self, texts: pa.Array, kind: Kind, node: ast.expr, where: Mask) -> Numbers:
        values, wrong = parsed(texts, kind)
        self._note(wrong, where, lambda row: repr(texts.slice(row, 1).to_pylist()[0][:80]), kind.value, node)
        return values

    def _finite(
        self, found: Numbers, where: Mask, operands: tuple[Numbers, ...], shown: Callable[..., str], node: ast.AST
    ) -> Numbers:
        """The values, empty where operands that are numbers have none, such as a division by zero, which is noted."""
        wrong = ~np.isfinite(found)
        if not wrong.any():
            return found
        operands = tuple(np.broadcast_to(operand, (self.n,)) for operand in operands)
        wrong = np.broadcast_to(wrong, (self.n,)).copy()
        for operand in operands:
            wrong &= np.isfinite(operand)
        rows = np.flatnonzero(wrong & where)
        if len(rows):
            self.wrong.append(
                Wrong(rows, lambda row: shown(*(float(a[row]) for a in operands)), f"something that has a value {self._at(node)}")
            )
        return np.where(wrong, np.nan, found)


def kind_of(value: Value) -> ValueKind:
    """What a value is; a column of the file by most of what it has."""
    if isinstance(value, FileColumn):
        return value.kind
    if isinstance(value, Texts):
        return ValueKind.TEXT
    return ValueKind.TRUTH if value.dtype == np.bool_ else ValueKind.NUMBER


def require_columns(of: Expression, used: tuple[str, ...], there: tuple[str, ...]) -> None:
    """Raises: Misused for a column of the expression that the file does not have."""
    for name in used:
        if name not in there:
            raise Misused(f"no column {name!r}{near_name(name, there)}", f"one of {', '.join(there)} in {of.shown}")


def _is_time(column: FileColumn, wrong: Mask) -> bool:
    return bool(wrong.any()) and column.is_text and bool(np.isfinite(column.times_s[0]).any())


def _written(values: Numbers) -> pa.Array:
    """Numbers as texts, whole ones without a fraction; NaN is empty."""
    distinct, index = np.unique(values, return_inverse=True)
    words = pa.array(["" if np.isnan(value) else f"{value:.15g}" for value in distinct.tolist()], pa.string())
    return words.take(pa.array(index))
