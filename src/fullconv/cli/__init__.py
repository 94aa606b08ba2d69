"""The command line: one function per command, no logic.

What a command needs is imported inside it, so that help does not wait for PyTorch.
"""

from fullconv.cli._main import app, main

__all__ = ["app", "main"]
