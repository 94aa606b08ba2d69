"""Positions of a map that was made dense, along one spatial axis. Integers only.

In the network itself the positions of a map lie `coarse` px apart. In the dense one they lie `fine` px
apart, and `fine` divides `coarse`: between two neighbours of the original map lie others, of which each
belongs to the same map of an image that begins some px later. There are `dilation = coarse / fine` such
*fragments*; position y belongs to fragment y modulo dilation. A window that reads neighbours of the
original map reads, in the dense one, positions `dilation` apart: those of its own fragment.

What padding means follows from that: each fragment is padded as the original map is, where it begins and
ends. Nothing is padded, cropped or strided away other than in the network itself, but for one thing:
where a layer with stride s takes every s-th position, all s phases are kept, not the first alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd


@dataclass(frozen=True, slots=True, kw_only=True)
class Spacing:
    """How far apart positions lie, in px: in the network itself, and in the dense one."""

    coarse: int = 1
    fine: int = 1

    @property
    def dilation(self) -> int:
        """Positions of the dense map from one position of the original map to the next."""
        return self.coarse // self.fine

    def after(self, stride: int, target: int) -> Spacing:
        """Return the spacing after a layer of that stride, if every `target` px are wanted at last."""
        coarse = self.coarse * stride
        return Spacing(coarse=coarse, fine=gcd(target, coarse))


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What a layer reads along one axis of its map, in positions of the network itself.

    Attributes:
        kernel: Positions read.
        stride: Positions from one window to the next.
        dilation: Positions from one that is read to the next.
        before: Padding before the map; negative where the map is cropped.
        after: Padding behind it.
        ceil: Whether a last window may reach past the padding (``ceil_mode``).
    """

    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    ceil: bool = False

    @property
    def reach(self) -> int:
        """Positions from the first that is read to the last."""
        return (self.kernel - 1) * self.dilation

    @property
    def is_idle(self) -> bool:
        """Whether it reads each position by itself."""
        return self == Window()

    @property
    def most_after(self) -> int:
        """Padding behind the map with which every window of every phase fits.

        A window that starts behind the map and its padding before is left out, as PyTorch does.
        """
        if not self.ceil:
            return self.after
        return min(self.after + self.stride - 1, self.reach)

    def windows(self, size: int, dilation: int = 1) -> int:
        """Return in how many places a window fits into a map of `size`, in steps of one position.

        Args:
            size: Positions of a dense map.
            dilation: That of the map (see `Spacing`).
        """
        return size + (self.before + self.most_after - self.reach) * dilation


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a layer does along one axis of a map that is made dense.

    Attributes:
        window: What it does in the network itself.
        spacing: Of the map that it reads.
        result: Of the map that it makes.
    """

    window: Window
    spacing: Spacing
    result: Spacing

    @property
    def stride(self) -> int:
        """Positions of the dense map from one window to the next: what is left of the stride."""
        return self.result.fine // self.spacing.fine

    @property
    def pieces(self) -> int:
        """Fragments into which each fragment falls apart."""
        return self.window.stride // self.stride

    def size(self, size: int) -> int:
        """Return the positions of the dense map that comes out."""
        return -(-self.window.windows(size, self.spacing.dilation) // self.stride)


def plan(window: Window, spacing: Spacing, target: int) -> Plan:
    """Return what a window does to a map, if every `target` px are wanted at last."""
    return Plan(window=window, spacing=spacing, result=spacing.after(window.stride, target))
