"""What operators take while they run, besides what they return.

On CPU, oneDNN convolves images in blocks of 16 channels: it copies those that lie plainly in memory,
and what it makes it copies back. Where an image or a kernel lies in channels_last, it copies what does
not, and nothing else. What it does was read from the allocations of PyTorch 2.13 on a CPU with AVX-512
and AMX; elsewhere it is an estimate, which a measured step corrects. On a GPU nothing is known beforehand.

Shapes: an image is `(batch, channels, *spatial)`, a kernel `(out, in / groups, *sizes)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

BLOCK = 16  # channels that oneDNN takes together
HALF = {torch.bfloat16, torch.float16}
aten = torch.ops.aten


def scratch_bytes(func: Any, args: Sequence[Any], made: Sequence[Tensor]) -> int:
    """Return the bytes that an operator takes beyond its arguments and results.

    Args:
        func: The operator.
        args: Its positional arguments.
        made: The tensors that it returned.
    """
    known = _KNOWN.get(func.overloadpacket)
    if known is None or not made or made[0].device.type != "cpu":
        return 0
    return max(0, known(args, made))


def _convolution(args: Sequence[Any], made: Sequence[Tensor]) -> int:
    image, kernel, bias, *settings = args
    backend = _backend(image, kernel, bias, settings)
    if backend.startswith("Mkldnn"):
        alone = _are_alone(image, settings)
        return _mkldnn_forward(image, kernel, made[0], transposed=settings[3], alone=alone)
    return _columns(backend, image, kernel, made[0])


def _convolution_backward(args: Sequence[Any], made: Sequence[Tensor]) -> int:
    del made
    grad, image, kernel, bias_sizes, *settings, mask = args
    bias = kernel.new_empty(bias_sizes) if bias_sizes and bias_sizes[0] else None
    backend = _backend(image, kernel, bias, settings)
    if not backend.startswith("Mkldnn"):
        return _columns(backend, image, kernel, grad) if mask[1] else 0
    strided, alone = max(settings[0]) > 1, _are_alone(image, settings)
    of_image = _mkldnn_of_image(grad, image, kernel, strided=strided, alone=alone) if mask[0] else 0
    of_kernel = _mkldnn_of_kernel(grad, image, kernel, alone=alone) if mask[1] else 0
    # The image's gradient comes first: the kernel's is not there yet.
    return max(of_image - (_bytes(kernel) if mask[1] else 0), of_kernel)


def _backend(image: Tensor, kernel: Tensor, bias: Tensor | None, settings: Sequence[Any]) -> str:
    """Return the name of what PyTorch convolves with here, such as ``Mkldnn``."""
    return torch._C._select_conv_backend(image, kernel, bias, *settings).name


def _are_alone(image: Tensor, settings: Sequence[Any]) -> bool:
    """Return whether a convolution is depthwise, and has kernels of its own for that."""
    return not settings[3] and settings[5] == image.shape[1] >= BLOCK


def _mkldnn_forward(
    image: Tensor, kernel: Tensor, out: Tensor, *, transposed: bool, alone: bool
) -> int:
    if _in_channels_last(image, kernel):
        return _bytes(kernel) + _moved(image) + (_bytes(image) if transposed else 0)
    if image.dtype in HALF and not alone:
        return max(_bytes(image) + _bytes(kernel), 2 * _bytes(out))
    if transposed:
        return 2 * _bytes(out)
    inside = _blocked(image) if image.shape[1] >= BLOCK else 0
    return max(inside + _bytes(kernel) + _blocked(out) - _bytes(out), _blocked(out))


def _mkldnn_of_image(
    grad: Tensor, image: Tensor, kernel: Tensor, *, strided: bool, alone: bool
) -> int:
    if _in_channels_last(image, kernel):
        return _bytes(kernel) + _moved(grad, image)
    if image.dtype in HALF and (strided or not alone):
        return max(_bytes(grad) + _bytes(kernel), 2 * _bytes(image))
    if strided:
        return _blocked(image) if alone else 2 * _bytes(image)
    extra = _blocked(image) - _bytes(image)
    return max(_blocked(grad) + _bytes(kernel) + extra, _blocked(image))


def _mkldnn_of_kernel(grad: Tensor, image: Tensor, kernel: Tensor, *, alone: bool) -> int:
    weights = 2 * _bytes(kernel)
    if _in_channels_last(image, kernel):
        each = _of_channels_alone(grad, image, kernel) if alone else 0
        return weights + _moved(grad, image) + each
    if alone and max(kernel.shape[2:]) > 3:  # one channel at a time, unfolded
        return prod(kernel.shape[2:]) * prod(grad.shape[2:]) * grad.element_size()
    if alone:
        return _blocked(grad) + _blocked(image)
    if image.dtype in HALF:
        return _bytes(grad) + _bytes(image) + weights
    inside = _blocked(image) if image.shape[1] >= BLOCK else _bytes(image)
    return _blocked(grad) + inside


def _of_channels_alone(grad: Tensor, image: Tensor, kernel: Tensor) -> int:
    """Return the bytes for the gradient of a depthwise kernel of more than 3 px, in channels_last.

    Each channel is filled up to a block: its kernel both ways, and with AMX the padded image and the
    gradient, both turned. A formula that fits ten measured ones to 2 % (30 px per side: 6 %).
    """
    sizes = kernel.shape[2:]
    if image.ndim != 4 or max(sizes) <= 3:
        return 0
    each = BLOCK * BLOCK * prod(sizes) * torch.float32.itemsize
    if image.dtype == torch.bfloat16:
        across, down = image.shape[3] + sizes[1] + 1, image.shape[2] + sizes[0] - 1
        each += BLOCK * (across * down + prod(grad.shape[2:])) * image.element_size()
    return image.shape[1] * each


def _columns(backend: str, image: Tensor, kernel: Tensor, out: Tensor) -> int:
    """Return the bytes of an image unfolded into one column per unit; of one image if dilated."""
    if "Slow" not in backend or prod(kernel.shape[2:]) == 1:
        return 0
    images = 1 if "Dilated" in backend else out.shape[0]
    units = prod((image if "Transpose" in backend else out).shape[2:])
    return images * units * prod(kernel.shape[1:]) * image.element_size()


def _of_copies(*positions: int) -> Callable[[Sequence[Any], Sequence[Tensor]], int]:
    """Return the rule of an operator that copies these arguments unless they lie plainly in memory."""

    def rule(args: Sequence[Any], made: Sequence[Tensor]) -> int:
        del made
        return sum(_bytes(args[p]) for p in positions if not args[p].is_contiguous())

    return rule


def _blocked(image: Tensor) -> int:
    """Return the bytes of an image in blocks of channels."""
    channels = image.shape[1]
    return _bytes(image) // channels * ceil(channels / BLOCK) * BLOCK if channels else 0


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _in_channels_last(*tensors: Tensor) -> bool:
    """Return whether one of them lies in channels_last: then a convolution takes all of them so."""
    return any(suggest_memory_format(t) != torch.contiguous_format for t in tensors)


def _moved(*tensors: Tensor) -> int:
    """Return the bytes of those that must be copied to lie in channels_last."""
    return sum(_bytes(t) for t in tensors if not _in_channels_last(t))


_KNOWN: dict[Any, Callable[[Sequence[Any], Sequence[Tensor]], int]] = {
    aten.convolution: _convolution,
    aten.convolution_backward: _convolution_backward,
    aten._log_softmax: _of_copies(0),
    aten._softmax: _of_copies(0),
    aten._log_softmax_backward_data: _of_copies(0),
    aten._softmax_backward_data: _of_copies(0),
    aten.native_layer_norm: _of_copies(0),
    aten.native_layer_norm_backward: _of_copies(0, 1),
}
