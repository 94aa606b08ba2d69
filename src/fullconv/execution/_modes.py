"""What a network is, as far as windows depend on it: its layers, and what they are told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

# The momentum of norms may change from step to step.
NO_SETTINGS = frozenset({"momentum"})


def modes_of(net: nn.Module) -> tuple[object, ...]:
    """Return what is the same as long as what was found out about a network holds."""
    return (*_layers(net), *((p.requires_grad, p.dtype, *p.shape) for p in net.parameters()))


def _layers(net: nn.Module) -> Iterator[tuple[object, ...]]:
    """Yield the layers of a network, and what those that are PyTorch's, or made from such, are told."""
    for module in net.modules():
        hooked = bool(module._backward_hooks or module._backward_pre_hooks)
        names: Sequence[str] = getattr(type(module), "__constants__", ())
        settings = (repr(getattr(module, k, None)) for k in names if k not in NO_SETTINGS)
        yield id(module), module.training, hooked, *settings
