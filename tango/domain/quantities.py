"""Kubernetes quantities, with exact arithmetic. Parsed once, at the edge; inside, CPU is millicores and memory MiB.

The same few hundred quantities recur, so results are cached.

Source: k8s.io/apimachinery, pkg/api/resource/quantity.go (suffixes, canonical form).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, Decimal
from typing import TypeVar

_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([KMGTPE]i)|([numkMGTPE]))?", re.ASCII)
_MOST, _LEAST = Decimal(2**63 - 1), Decimal(1).scaleb(-9)
"""What Kubernetes takes a greater number for, and a smaller one that is not 0; of either sign."""
LARGEST = 10**9
"""Millicores or MiB that more are taken for, a million cores or a PiB: pods may ask for any number, and columns are no wider."""
LARGEST_EXTENDED = 2**53
"""The same of thousandths of extended resources, which some count in bytes."""

MAX_MEMORY_MIB = 64 << 20
"""64 TiB, more than any machine: a greater figure in a file is a slip of a unit."""

Amounts = tuple[tuple[str, int], ...]
"""(name, thousandths of one) of extended resources, in order of the names: pairs and not a dict, since what has them can be hashed."""

LONGEST = 1000
"""Characters of a quantity: bodies of requests have room for megabytes of digits, which would all be remembered."""
Quantity = str | int | float | Decimal
T = TypeVar("T")


def _remembered(read: Callable[[Quantity], T]) -> Callable[[Quantity], T]:
    known = functools.lru_cache(maxsize=4096, typed=True)(read)

    @functools.wraps(read)
    def recall(value: Quantity) -> T:
        if isinstance(value, bool) or not isinstance(value, Quantity):
            raise ValueError(f"quantity {value!r}, expected a number or text")
        if isinstance(value, str) and len(value) > LONGEST:
            raise ValueError(f"quantity {value[:20]!r}… of {len(value)} characters, expected at most {LONGEST}")
        return known(value)

    return recall


@_remembered
def parse_quantity(value: Quantity) -> Decimal:
    """The exact number of a quantity such as `1500m`, `0.5`, `64Mi` or `1e3`. Raises: ValueError for anything else."""
    if isinstance(value, int | float | Decimal):
        told = Decimal(value) if isinstance(value, int) else Decimal(str(value))
        if not told.is_finite():
            raise ValueError(f"quantity {value!r}, expected a finite number")
        return _bounded(told)
    found = _FORM.fullmatch(value.strip())
    if not found:
        raise ValueError(f"quantity {value!r}, expected a number with an optional suffix such as m, k, Mi or Gi")
    number, exponent, binary, decimal = found.groups()
    amount = _scaled(Decimal(number), int((exponent or "e0")[1:]))
    if binary:
        return _bounded(amount * Decimal(1024 ** _BINARY[binary]))
    return _bounded(amount.scaleb(_DECIMAL[decimal or ""]))


def _scaled(number: Decimal, power: int) -> Decimal:
    """The number times ten to a power, bounded; beyond powers of a million the decimal module does not go along."""
    at = number.adjusted() + power
    if number.is_zero() or not -30 < at < 30:
        return Decimal(0) if number.is_zero() else (_MOST if at > 0 else _LEAST).copy_sign(number)
    return _bounded(number.scaleb(power))


def _bounded(amount: Decimal) -> Decimal:
    """Source: k8s.io/apimachinery, pkg/api/resource/quantity.go, ParseQuantity: capped at 2^63 - 1, rounded up to a nano."""
    if amount.is_zero():
        return Decimal(0)
    if amount.adjusted() > 18 or abs(amount) > _MOST:
        return _MOST.copy_sign(amount)
    if amount.adjusted() < -9:
        return _LEAST.copy_sign(amount)
    return amount


@_remembered
def canonical(value: Quantity) -> str:
    """The canonical form that an API server writes: no fraction, the largest suffix that allows it, in the same family of suffixes.

    Raises: ValueError as `parse_quantity`.
    """
    amount = parse_quantity(value)
    text = str(value).strip()
    if text.endswith("i") and amount == amount.to_integral_value():
        whole = int(amount)
        # The largest power of 1024 that divides the number gives the suffix; without one the plain number is written.
        for suffix, power in reversed(_BINARY.items()):
            if whole and whole % 1024**power == 0:
                return f"{whole // 1024**power}{suffix}"
        return str(whole)
    found = _FORM.fullmatch(text)
    if found and found.group(2):
        return _exponent_form(amount)
    for suffix, power in sorted(_DECIMAL.items(), key=lambda item: -item[1]):
        scaled = amount.scaleb(-power)
        if scaled == scaled.to_integral_value():
            return f"{int(scaled)}{suffix}" if amount else "0"
    # Finer than a nano is rounded up.
    return f"{int(amount.scaleb(9).to_integral_value(ROUND_CEILING))}n"


@_remembered
def cpu_millicores(value: Quantity) -> int:
    """Millicores, rounded up as the scheduler does; at most `LARGEST`."""
    return min(int((parse_quantity(value) * 1000).to_integral_value(ROUND_CEILING)), LARGEST)


@_remembered
def memory_mib(value: Quantity) -> int:
    """MiB, rounded up; at most `LARGEST`."""
    return min(int((parse_quantity(value) / 2**20).to_integral_value(ROUND_CEILING)), LARGEST)


def is_extended(name: str) -> bool:
    """Whether a resource is an extended one, such as a device: those have a domain in their names.

    Source: k8s.io/kubernetes pkg/apis/core/v1/helper/helpers.go, IsExtendedResourceName; what Kubernetes itself owns, `cpu` or
    `hugepages-2Mi`, has none.
    """
    return "/" in name


def extended_amounts(quantities: Mapping[str, Quantity]) -> Amounts:
    """The extended resources above 0 in a map of quantities, in thousandths, rounded up, at most `LARGEST_EXTENDED`, in order of their
    names.

    Raises: ValueError as `parse_quantity`.
    """
    found = (
        (name, min(int((parse_quantity(value) * 1000).to_integral_value(ROUND_CEILING)), LARGEST_EXTENDED))
        for name, value in sorted(quantities.items())
        if is_extended(name)
    )
    return tuple((name, amount) for name, amount in found if amount > 0)


def format_extended(amounts: Amounts) -> dict[str, str]:
    """The quantities of extended resources, by name: `2`, or `500m` for half of one."""
    return {name: format_millicores(amount) for name, amount in amounts}


def format_millicores(millicores: int) -> str:
    """`1500m`, or `2` for whole cores."""
    return str(millicores // 1000) if millicores % 1000 == 0 else f"{millicores}m"


def format_mib(mib: int) -> str:
    """`64Mi`, `1Gi`."""
    return canonical(f"{mib}Mi")


def _exponent_form(amount: Decimal) -> str:
    """Exponents that are multiples of three, as the decimal-exponent family writes them."""
    for power in range(18, -12, -3):
        scaled = amount.scaleb(-power)
        if scaled == scaled.to_integral_value():
            return f"{int(scaled)}e{power}" if power else str(int(scaled))
    return str(amount)
