"""The demo: real digits over real photographs, composed into large images with exact masks.

`make_scenes` yields the images, `run_demo` learns from them: patches first, then whole images.
Needs scikit-learn, whose wheel ships the originals: ``pip install 'fullconv[demo]'``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fullconv.demo._network import digit_net as digit_net
    from fullconv.demo._run import Stage as Stage
    from fullconv.demo._run import run_demo as run_demo
    from fullconv.demo._scenes import Digit as Digit
    from fullconv.demo._scenes import Scene as Scene
    from fullconv.demo._scenes import make_scenes as make_scenes

__all__ = ["Digit", "Scene", "Stage", "digit_net", "make_scenes", "run_demo"]

_HOME = {
    "Digit": "_scenes",
    "Scene": "_scenes",
    "Stage": "_run",
    "digit_net": "_network",
    "make_scenes": "_scenes",
    "run_demo": "_run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fullconv.demo' has no attribute {name!r}")
    return getattr(import_module(f"fullconv.demo.{_HOME[name]}"), name)
