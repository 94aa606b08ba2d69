"""Flags from a dataclass of settings: names, types and help stand in one place."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, field, fields, make_dataclass
from math import isfinite
from typing import Annotated, Any, get_args

from cyclopts import CoercionError, Parameter, Token, convert

TRUTHS = {"true": True, "yes": True, "false": False, "no": False}


def flags_of(settings: type, *, leave_out: Collection[str] = ()) -> type:
    """Return a dataclass with a flag for each field of `settings`; None where none was given.

    Args:
        settings: A dataclass; what its docstring says of each field becomes the help.
        leave_out: Fields that are no flags.
    """
    rows = [
        (f.name, _flag(f), field(default=None)) for f in fields(settings) if f.name not in leave_out
    ]
    flags = make_dataclass(
        f"{settings.__name__}Flags",
        rows,
        frozen=True,
        kw_only=True,
        namespace={"__module__": __name__, "__doc__": settings.__doc__},
    )
    return Parameter(name="*")(flags)


def given(flags: Any) -> dict[str, Any]:
    """Return the flags that were given; none for None, which stands for no flag at all."""
    if flags is None:
        return {}
    values = {f.name: v for f in fields(flags) if (v := getattr(flags, f.name)) is not None}
    return {name: read_table(v) if isinstance(v, dict) else v for name, v in values.items()}


def read_table(table: Mapping[str, str] | None) -> dict[str, int | float | bool | str]:
    """Return the numbers, truths and names that the texts of a table stand for."""
    return {key: _value(text) for key, text in (table or {}).items()}


def unrounded(kind: Any, tokens: Sequence[Token]) -> Any:
    """Return what a flag's texts stand for; where whole numbers are asked for, a fraction is refused.

    Cyclopts alone would round it.

    Args:
        kind: Type of the flag.
        tokens: The texts, or a table of them.

    Raises:
        CoercionError: If a whole number is asked for, and got a fraction.
    """
    kinds = set(_inside(kind))
    if int in kinds and not kinds & {str, float}:
        for token in tokens:
            if _is_fraction(token.value):
                raise CoercionError(
                    msg=f"must be whole numbers, got {token.value}; nearest is "
                    f"{round(float(token.value))}",
                    token=token,
                )
    return convert(kind, tokens)


def _inside(kind: Any) -> Iterator[Any]:
    """Yield the types that a type is made of."""
    yield kind
    for part in get_args(kind):
        yield from _inside(part)


def _is_fraction(text: str) -> bool:
    with suppress(ValueError):
        number = float(text)
        return isfinite(number) and not number.is_integer()
    return False


def _value(text: str) -> int | float | bool | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return TRUTHS.get(text.lower(), text)


def _flag(setting: Field[Any]) -> Any:
    """Return the type of a flag; the default of the setting is shown, if it has one to show."""
    is_table = setting.default_factory is not MISSING
    kind = dict[str, str] if is_table else setting.type
    default = None if is_table or setting.default is MISSING else setting.default

    def show(_: Any) -> str:
        return str(default)

    return Annotated[kind | None, Parameter(show_default=False if default is None else show)]
