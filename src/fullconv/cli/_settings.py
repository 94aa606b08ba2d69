"""Flags from a dataclass of settings: names, types and help stand in one place."""

from collections.abc import Collection
from dataclasses import MISSING, Field, field, fields, make_dataclass
from typing import Annotated, Any

from cyclopts import Parameter


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
    return {f.name: v for f in fields(flags) if (v := getattr(flags, f.name)) is not None}


def _flag(setting: Field[Any]) -> Any:
    """Return the type of a flag; the default of the setting is shown, if it has one to show."""
    is_table = setting.default_factory is not MISSING
    kind = dict[str, bool | int | float | str] if is_table else setting.type
    default = None if is_table or setting.default is MISSING else setting.default

    def show(_: Any) -> str:
        return str(default)

    return Annotated[kind | None, Parameter(show_default=False if default is None else show)]
