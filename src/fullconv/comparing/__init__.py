"""Regimes side by side on one's own data: loss and mean IU by step, by image and by second.

`compare` trains each from the same weights for the same time or epochs, and writes a page; `measure`
answers without training, from the gradient signal that each buys per second.
"""

from fullconv.comparing._compare import Comparison, compare
from fullconv.comparing._curve import Curve
from fullconv.comparing._quick import fitting, measure
from fullconv.comparing._verdict import Verdict, verdict

__all__ = ["Comparison", "Curve", "Verdict", "compare", "fitting", "measure", "verdict"]
