"""The errors that fullconv raises for users. All of them are `ValueError`s.

A message has three parts: the argument and the rule; what was got; the nearest thing that works.
"""


class FullconvError(ValueError):
    """Base of all errors that a user can mend."""


class NotLocalError(FullconvError):
    """A layer looks at the whole image, so no unit has a finite receptive field."""


class UnknownOperatorError(FullconvError):
    """A network uses an operator for which no geometry rule is known."""


class BadDataError(FullconvError):
    """A data set cannot be used as it is; the message lists every bad file."""


class BadRunError(FullconvError):
    """A run folder, or a checkpoint in it, cannot be used."""


class BadConfigError(FullconvError):
    """A setting is unknown or out of range."""
