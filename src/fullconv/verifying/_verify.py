"""The certificate of a network: its geometry, put to the test."""

from __future__ import annotations

from torch import nn

from fullconv.errors import NotLocalError, UnknownOperatorError
from fullconv.geometry import Geometry
from fullconv.tracing import trace
from fullconv.verifying._certificate import Certificate, Finding
from fullconv.verifying._trial import Trial, make_trial
from fullconv.verifying._witnesses import WITNESSES


def verify(
    net: nn.Module,
    shape: tuple[int, ...] = (3, 256, 256),
    *,
    geometry: Geometry | None = None,
    seed: int = 0,
) -> Certificate:
    """Return the certificate of a network: field, windows and gradients, against plain runs of it.

    Everything runs in float64 on a copy of the network, on an image of random numbers.

    Args:
        net: Takes `(batch, channels, *spatial)` and returns a map; as it will be used (eval mode).
        shape: `(channels, *spatial)` of the image; large enough for windows inside it.
        geometry: What to test; by default what `fullconv.trace` says.
        seed: Draws the image, the windows and the units.

    Examples:
        >>> import torch, fullconv as fc
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.MaxPool2d(2))
        >>> fc.verify(net, shape=(3, 40, 40)).passed
        True
    """
    if geometry is None:
        try:
            geometry = trace(net, shape[0], shape=tuple(shape[1:]))
        except (NotLocalError, UnknownOperatorError) as error:
            refused = Finding(
                witness="trace", cases=0, error=float("inf"), passed=False, detail=str(error)
            )
            return Certificate(shape=tuple(shape), geometry=None, findings=(refused,))
    geometry.map_shape(tuple(shape[1:]))
    trial = make_trial(net, tuple(shape), geometry, seed)
    findings = tuple(_heard(name, trial) for name in WITNESSES)
    return Certificate(shape=tuple(shape), geometry=geometry, findings=findings)


def _heard(name: str, trial: Trial) -> Finding:
    """Return what a witness finds; that the network fails on what it should take is a finding, too."""
    try:
        return WITNESSES[name](trial)
    except RuntimeError as error:
        said = str(error).strip().split("\n")[0]
        return Finding(
            witness=name,
            cases=1,
            error=float("inf"),
            passed=False,
            detail=f"the network fails on a window or patch that it should take: {said}",
        )
