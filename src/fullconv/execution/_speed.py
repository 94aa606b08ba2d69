"""How many seconds the operations of a window take here, learned while steps run."""

from __future__ import annotations

from typing import Any

# Until something has been measured: seconds of an operation, and of starting a run of the network.
SECONDS, START = 1e-11, 5e-3
# A run starts several windows of one shape; in a cover's price each window carries this share.
START_SHARE = 0.25
# What each window costs beside its run: it is planned, cut out, and its units are picked. Measured:
# 60 to 100 microseconds on CPU.
WINDOW = 6e-5
# What older measurements count, each time a new one comes.
FADING = 0.97


class Speed:
    """Seconds as an affine function of operations, fitted to all runs so far, old ones fading."""

    def __init__(self) -> None:
        self._sums = [0.0] * 5  # of 1, x, t, x * x, x * t
        self.rate, self.start = SECONDS, START

    def seconds(self, operations: Any) -> Any:
        """Return the seconds that a window of that many operations takes, with its share of a start."""
        return self.rate * operations + START_SHARE * self.start + WINDOW

    def measured(self, operations: float, seconds: float) -> None:
        """Note how long one run of the network took."""
        news = (1.0, operations, seconds, operations**2, operations * seconds)
        self._sums = [FADING * old + new for old, new in zip(self._sums, news, strict=True)]
        n, x, t, xx, xt = self._sums
        spread = n * xx - x * x
        if spread > 0.01 * x * x:  # runs of different sizes: both can be told apart
            rate = (n * xt - x * t) / spread
            start = (t - rate * x) / n
            if rate > 0 and start > 0:
                self.rate, self.start = rate, start
                return
        self.rate = t / max(x + n * START / SECONDS, 1.0)
        self.start = self.rate * START / SECONDS
