"""Numbers as people read them.

``—`` stands for a number that does not exist.
"""

import math
import re
from collections.abc import Collection

NONE = "—"
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def count(number: float) -> str:
    """Return a whole number with thin spaces between the thousands.

    Examples:
        >>> count(1234567).replace(chr(0x202F), "_")
        '1_234_567'
    """
    return f"{round(number):,}".replace(",", "\u202f")


def brief(number: float) -> str:
    """Return a count in two digits, with a prefix from a thousand on.

    Examples:
        >>> brief(481_123), brief(7_763_041), brief(31_000_000), brief(52), brief(0)
        ('0.48 M', '7.8 M', '31 M', '52', '0')
    """
    if number < 1000:
        return f"{round(number)}"
    unit, prefix = next((u, p) for u, p in _PREFIXES if number >= u / 10)
    value = number / unit
    digits = 2 if value < 0.995 else 1 if value < 9.95 else 0
    return f"{value:.{digits}f} {prefix}"


def memory(num_bytes: float) -> str:
    """Return bytes with a binary prefix.

    Examples:
        >>> memory(512), memory(11_524_800), memory(7.62 * 2**30)
        ('0.5 KiB', '11.0 MiB', '7.6 GiB')
    """
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes / 2**10:.1f} KiB"


def score(value: float, digits: int = 3) -> str:
    """Return a metric between 0 and 1.

    Examples:
        >>> score(0.71249), score(0.71249, 2), score(math.nan)
        ('0.712', '0.71', '—')
    """
    return f"{value:.{digits}f}" if math.isfinite(value) else NONE


def or_zero(value: float) -> float:
    """Return a share as the length of a bar: nothing for a number that does not exist."""
    return value if math.isfinite(value) else 0.0


def percent(share: float) -> str:
    """Return a share in per cent, with about two digits, never rounded to nothing or to all.

    Examples:
        >>> percent(0.926), percent(0.0157), percent(0.00001), percent(0.0), percent(0.99996)
        ('93 %', '1.6 %', '< 0.1 %', '0 %', '> 99.9 %')
    """
    if not math.isfinite(share):
        return NONE
    if share in (0, 1):
        return f"{share * 100:.0f} %"
    if share < 0.001:
        return "< 0.1 %"
    if share >= 0.995:
        return f"{share * 100:.1f} %" if share < 0.9995 else "> 99.9 %"
    return f"{share * 100:.1f} %" if share < 0.0995 else f"{share * 100:.0f} %"


def duration(seconds: float) -> str:
    """Return a time in the unit that fits it.

    Examples:
        >>> duration(1), duration(48.2), duration(186), duration(20_000), duration(300_000)
        ('1 second', '48 seconds', '3.1 minutes', '5.6 hours', '3.5 days')
    """
    for unit, name, limit in ((1, "second", 100), (60, "minute", 100), (3600, "hour", 48)):
        if seconds < unit * limit:
            value = f"{seconds / unit:.0f}" if unit == 1 else _short(seconds / unit)
            return f"{value} {name}{'' if value == '1' else 's'}"
    return f"{_short(seconds / 86400)} days"


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def plural(number: int, noun: str) -> str:
    """Return a count with its noun.

    Examples:
        >>> plural(1, "image"), plural(1200, "class").replace(chr(0x202F), "_")
        ('1 image', '1_200 classes')
    """
    many = f"{noun}es" if noun.endswith(("s", "x")) else f"{noun}s"
    return f"{count(number)} {noun if number == 1 else many}"


def sizes(shapes: Collection[tuple[int, ...]]) -> str:
    """Return the size of images, or their range, in px.

    Examples:
        >>> sizes([(966, 1296), (966, 1296)])
        '966 × 1296 px'
        >>> sizes([(500, 333), (300, 400), (20, 30)])
        '20 × 30 to 500 × 333 px'
    """
    ordered = sorted(set(shapes), key=lambda shape: (math.prod(shape), shape))
    if not ordered:
        return "unknown size"
    first, last = (" × ".join(map(str, shape)) for shape in (ordered[0], ordered[-1]))
    return f"{first} px" if len(ordered) == 1 else f"{first} to {last} px"


def unbroken(text: str) -> str:
    """Return a sentence whose numbers stay on one line with their units.

    Examples:
        >>> unbroken("in 3.1 minutes, 966 × 1296 px, 0.5 M parameters").replace(chr(0xA0), "_")
        'in 3.1_minutes, 966_×_1296_px, 0.5_M parameters'
    """
    return re.sub(r"(?<=\d) (?=\S)|(?<=×) ", "\u00a0", text)


def listing(words: Collection[str]) -> str:
    """Return words joined as in a sentence.

    Examples:
        >>> listing(["a"]), listing(["a", "b"]), listing(["a", "b", "c"])
        ('a', 'a and b', 'a, b and c')
    """
    *rest, last = words
    return f"{', '.join(rest)} and {last}" if rest else last
