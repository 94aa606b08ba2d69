"""What a network is, as far as windows depend on it: its layers, and what they are told."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

# Types of what layers are told: strides, modes of padding.
SETTINGS = frozenset({bool, int, float, str, tuple})
# The momentum of norms may change from step to step.
NO_SETTINGS = frozenset({"momentum"})


def modes_of(net: nn.Module) -> tuple[object, ...]:
    """Return what is the same as long as what was found out about a network holds."""
    return (*_layers(net), *((p.requires_grad, p.dtype) for p in net.parameters()))


def _layers(net: nn.Module) -> Iterator[tuple[object, ...]]:
    """Yield the layers of a network, and the settings of those that are PyTorch's.

    Others may count their own calls and the like.
    """
    for module in net.modules():
        hooked = bool(module._backward_hooks or module._backward_pre_hooks)
        settings: list[object] = []
        if type(module).__module__.startswith("torch.nn."):
            named = ((k, v) for k, v in vars(module).items() if type(v) in SETTINGS)
            settings = [v for k, v in named if k[0] != "_" and k not in NO_SETTINGS]
        yield id(module), module.training, hooked, *settings
