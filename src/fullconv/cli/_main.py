"""The program `fullconv`: its commands, and what becomes of errors."""

import sys
from collections.abc import Sequence
from pathlib import Path

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.text import Text

from fullconv import __version__
from fullconv.cli._compare import compare
from fullconv.cli._demo import demo
from fullconv.cli._evaluate import evaluate
from fullconv.cli._plan import plan
from fullconv.cli._predict import predict
from fullconv.cli._settings import unrounded
from fullconv.cli._status import DONE, INTERRUPTED, MENDABLE, USAGE
from fullconv.cli._trace import trace
from fullconv.cli._train import train
from fullconv.cli._verify import verify
from fullconv.errors import FullconvError

app = App(
    name="fullconv",
    help="Train and run convolutional networks on whole images of any size.",
    version=__version__,
    default_parameter=Parameter(converter=unrounded),
    help_format="markdown",
    suppress_keyboard_interrupt=False,
    exit_on_error=False,
    result_action="return_value",
)
for command in (demo, train, predict, evaluate, compare, plan, trace, verify):
    app.command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status.

    Args:
        arguments: What stands behind `fullconv` on the command line; None for that of the process.
    """
    sys.path.append(str(Path.cwd()))  # where `--net package.module:factory` may lie
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    framed = Console(stderr=True, highlight=False)  # a frame cuts off what is not wrapped
    try:
        status = app(arguments, error_console=framed)
    except CycloptsError:  # which has been shown
        return USAGE
    except FullconvError as error:
        errors.print(Text.assemble(("error: ", "bold red"), str(error)))
        return MENDABLE
    except KeyboardInterrupt:
        errors.print("stopped by Ctrl-C")
        return INTERRUPTED
    return status if isinstance(status, int) else DONE
