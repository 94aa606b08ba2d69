"""BatchNorm that never looks at the images of the batch."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from fullconv.errors import FullconvError
from fullconv.surgery._copying import same_weights

_Net = TypeVar("_Net", bound=nn.Module)


def freeze_norms(net: _Net) -> _Net:
    """Return a network whose norms keep their running statistics, in training too: a local network.

    BatchNorm of any kind, and InstanceNorm that tracks its statistics, normalise by the running mean
    and variance whatever mode the network is in, and do not move them. Scale and shift are still
    learned (`requires_grad_(False)` stops that). Norms without running statistics (LayerNorm,
    GroupNorm) have none to freeze, and stay as they are; `fullconv.trace` says which are not local.

    Args:
        net: Is left as it was; both hold the same weights.

    Raises:
        FullconvError: If a BatchNorm has no running statistics (``track_running_stats=False``).

    Examples:
        >>> import torch
        >>> net = freeze_norms(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).train())
        >>> net(torch.randn(4, 3, 9, 9)).shape, net[1].num_batches_tracked.item()
        (torch.Size([4, 8, 7, 7]), 0)
    """
    frozen = same_weights(net)
    for name, module in frozen.named_modules():
        if not isinstance(module, _NormBase):
            continue
        if module.running_mean is not None:
            module.register_forward_pre_hook(_hold)
            module.eval()
        elif "Batch" in type(module).__name__:
            raise FullconvError(
                f"`net` must have running statistics to freeze, and `{name}` "
                f"({type(module).__name__}) has none (`track_running_stats=False`): replace it by a "
                "norm over the channels of each position"
            )
    return frozen


def _hold(module: nn.Module, _args: Any) -> None:
    """Keep one norm in evaluation, whatever mode the network around it was put into."""
    if module.training:
        module.eval()
