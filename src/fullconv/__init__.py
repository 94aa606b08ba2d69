"""Train and run convolutional networks on whole images of any size.

Nothing is computed here: this module names the public API and imports each name when it is first
used, so that ``import fullconv`` does not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fullconv import networks as networks
    from fullconv import surgery as surgery
    from fullconv import tracing as tracing
    from fullconv.errors import FullconvError as FullconvError
    from fullconv.errors import NotLocalError as NotLocalError
    from fullconv.errors import SurgeryError as SurgeryError
    from fullconv.errors import UnknownOperatorError as UnknownOperatorError
    from fullconv.execution import StepLoss as StepLoss
    from fullconv.execution import Streamed as Streamed
    from fullconv.geometry import Geometry as Geometry
    from fullconv.planning import plan as plan
    from fullconv.prediction import predict as predict
    from fullconv.sampling import Balanced as Balanced
    from fullconv.sampling import Hard as Hard
    from fullconv.sampling import Patchwise as Patchwise
    from fullconv.sampling import Sampled as Sampled
    from fullconv.sampling import Whole as Whole
    from fullconv.surgery import convolutionalize as convolutionalize
    from fullconv.surgery import densify as densify
    from fullconv.surgery import freeze_norms as freeze_norms
    from fullconv.surgery import shift_and_stitch as shift_and_stitch
    from fullconv.surgery import skip as skip
    from fullconv.tracing import rule as rule
    from fullconv.tracing import trace as trace
    from fullconv.verifying import verify as verify

__version__ = "0.1.0"

__all__ = [
    "Balanced",
    "FullconvError",
    "Geometry",
    "Hard",
    "NotLocalError",
    "Patchwise",
    "Sampled",
    "StepLoss",
    "Streamed",
    "SurgeryError",
    "UnknownOperatorError",
    "Whole",
    "convolutionalize",
    "densify",
    "freeze_norms",
    "networks",
    "plan",
    "predict",
    "rule",
    "shift_and_stitch",
    "skip",
    "surgery",
    "trace",
    "tracing",
    "verify",
]

_HOME = {
    "Balanced": "fullconv.sampling",
    "FullconvError": "fullconv.errors",
    "Geometry": "fullconv.geometry",
    "Hard": "fullconv.sampling",
    "NotLocalError": "fullconv.errors",
    "Patchwise": "fullconv.sampling",
    "Sampled": "fullconv.sampling",
    "StepLoss": "fullconv.execution",
    "Streamed": "fullconv.execution",
    "SurgeryError": "fullconv.errors",
    "UnknownOperatorError": "fullconv.errors",
    "Whole": "fullconv.sampling",
    "convolutionalize": "fullconv.surgery",
    "densify": "fullconv.surgery",
    "freeze_norms": "fullconv.surgery",
    "plan": "fullconv.planning",
    "predict": "fullconv.prediction",
    "rule": "fullconv.tracing",
    "shift_and_stitch": "fullconv.surgery",
    "skip": "fullconv.surgery",
    "trace": "fullconv.tracing",
    "verify": "fullconv.verifying",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in __all__:
        return import_module(f"fullconv.{name}")
    raise AttributeError(f"module 'fullconv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
