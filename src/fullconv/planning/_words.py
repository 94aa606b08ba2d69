"""Amounts as people write them, and a plan as tables."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def amount(num_bytes: float) -> str:
    """Return bytes as people write them: ``7.12 GiB``, ``482 MiB``.

    Examples:
        >>> amount(3 * 980 * 980 * 4), amount(8 * 2**30)
        ('10.99 MiB', '8 GiB')
    """
    for name, size in UNITS:
        if num_bytes >= size:
            return f"{_figures(num_bytes / size)} {name}"
    return f"{num_bytes:.0f} B"


def enough(num_bytes: float) -> str:
    """Return an amount that holds so many bytes, as people write it: rounded up.

    Examples:
        >>> enough(194.2 * 2**20), enough(10.981 * 2**20)
        ('195 MiB', '10.99 MiB')
    """
    size = next((size for _, size in UNITS if num_bytes >= size), 1)
    step = size / 100 if size > 1 and num_bytes < 100 * size else size
    return amount(ceil(num_bytes / step) * step)


def _figures(value: float) -> str:
    if value == int(value):
        return str(int(value))
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def times(shape: Sequence[int]) -> str:
    """Return a shape as people write it: ``980 x 980``."""
    return " x ".join(map(str, shape))


def duration(seconds: float) -> str:
    """Return seconds as people write them: ``0.42 s``, ``3.5 min``, ``2.1 h``."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{_figures(seconds)} s" if seconds >= 1 else f"{seconds:.2g} s"


def count(number: float) -> str:
    """Return a large number as people write it: ``1.23 M``, ``960,400``."""
    for name, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{_figures(number / size)} {name}"
    return f"{number:,.0f}"


def ratio(value: float) -> str:
    """Return a factor: ``1.3``, ``41``, ``169,000``."""
    if value < 10:
        return f"{value:.1f}"
    return f"{float(f'{value:.3g}'):,.0f}"
