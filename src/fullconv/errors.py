"""The errors that fullconv raises for users. All of them are `ValueError`s.

A message has three parts: the argument and the rule; what was got; the nearest thing that works.
"""

from __future__ import annotations


def named(module: str, module_class: str) -> str:
    """Return a module of a network in words: by its path, which is empty for the network itself."""
    return f"`{module}` ({module_class})" if module else f"`net` itself ({module_class})"


class FullconvError(ValueError):
    """Base of all errors that a user can mend."""


class NotLocalError(FullconvError):
    """A layer looks at the whole image, so no unit has a finite receptive field.

    Attributes:
        module: Path of the module in the way; empty for the network itself.
        module_class: Its class name.
        operator: The operator that it runs.
        why: What makes it depend on the whole image.
        remedies: What can be done about it.
    """

    module: str = ""
    module_class: str = ""
    operator: str = ""
    why: str = ""
    remedies: tuple[str, ...] = ()

    @classmethod
    def at(
        cls, *, module: str, module_class: str, operator: str, why: str, remedies: tuple[str, ...]
    ) -> NotLocalError:
        """Return the error for one module, with its message."""
        error = cls(
            f"{named(module, module_class)} is not local: {why} (operator {operator}). "
            f"What can be done: {'; '.join(remedies)}"
        )
        error.module, error.module_class, error.operator = module, module_class, operator
        error.why, error.remedies = why, remedies
        return error


class UnknownOperatorError(FullconvError):
    """A network uses an operator for which no geometry rule is known."""


class BadDataError(FullconvError):
    """A data set cannot be used as it is; the message lists every bad file."""


class BadRunError(FullconvError):
    """A run folder, or a checkpoint in it, cannot be used."""


class BadConfigError(FullconvError):
    """A setting is unknown or out of range."""


class BadOutputError(FullconvError):
    """A file or folder cannot be written; nothing half-written is left."""


class SurgeryError(FullconvError):
    """A layer cannot be rewritten so that the numbers stay what they are.

    Attributes:
        module: Path of the module in the way; empty for the network itself.
    """

    module: str = ""

    @classmethod
    def at(cls, *, module: str, where: str, why: str, remedy: str) -> SurgeryError:
        """Return the error for one layer, with its message."""
        error = cls(f"{where} cannot be rewritten exactly: {why}. What can be done: {remedy}")
        error.module = module
        return error
