"""What operators take while they run, besides what they return.

On CPU, oneDNN convolves images in blocks of 16 channels: it copies those that lie plainly in memory,
and what it makes it copies back. Images in channels_last it takes as they are. What it does was read
from the allocations of PyTorch 2.13 on a CPU with AVX-512; elsewhere it is an estimate, which a
measured step corrects. On a GPU nothing is known beforehand.

Shapes: an image is `(batch, channels, *spatial)`, a kernel `(out, in / groups, *sizes)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor

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
        return _mkldnn_forward(image, kernel, made[0], transposed=settings[3])
    return _columns(backend, image, kernel, made[0])


def _convolution_backward(args: Sequence[Any], made: Sequence[Tensor]) -> int:
    del made
    grad, image, kernel, bias_sizes, *settings, mask = args
    bias = kernel.new_empty(bias_sizes) if bias_sizes and bias_sizes[0] else None
    backend = _backend(image, kernel, bias, settings)
    if not backend.startswith("Mkldnn"):
        return _columns(backend, image, kernel, grad) if mask[1] else 0
    strided = max(settings[0]) > 1
    of_image = _mkldnn_of_image(grad, image, kernel, strided=strided) if mask[0] else 0
    of_kernel = _mkldnn_of_kernel(grad, image, kernel) if mask[1] else 0
    # The image's gradient comes first: the kernel's is not there yet.
    return max(of_image - (_bytes(kernel) if mask[1] else 0), of_kernel)


def _backend(image: Tensor, kernel: Tensor, bias: Tensor | None, settings: Sequence[Any]) -> str:
    """Return the name of what PyTorch convolves with here, such as ``Mkldnn``."""
    return torch._C._select_conv_backend(image, kernel, bias, *settings).name


def _mkldnn_forward(image: Tensor, kernel: Tensor, out: Tensor, *, transposed: bool) -> int:
    if _is_channels_last(image):
        return _bytes(kernel) + (_bytes(image) if transposed else 0)
    if image.dtype in HALF:
        return max(_bytes(image) + _bytes(kernel), 2 * _bytes(out))
    if transposed:
        return 2 * _bytes(out)
    inside = _blocked(image) if image.shape[1] >= BLOCK else 0
    return max(inside + _bytes(kernel) + _blocked(out) - _bytes(out), _blocked(out))


def _mkldnn_of_image(grad: Tensor, image: Tensor, kernel: Tensor, *, strided: bool) -> int:
    if _is_channels_last(image):
        return _bytes(kernel)
    if image.dtype in HALF:
        return max(_bytes(grad) + _bytes(kernel), 2 * _bytes(image))
    if strided:
        return 2 * _bytes(image)
    extra = _blocked(image) - _bytes(image)
    return max(_blocked(grad) + _bytes(kernel) + extra, _blocked(image))


def _mkldnn_of_kernel(grad: Tensor, image: Tensor, kernel: Tensor) -> int:
    weights = 2 * _bytes(kernel)
    if _is_channels_last(image):
        return weights
    if image.dtype in HALF:
        return _bytes(grad) + _bytes(image) + weights
    inside = _blocked(image) if image.shape[1] >= BLOCK else _bytes(image)
    return _blocked(grad) + inside


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


def _is_channels_last(image: Tensor) -> bool:
    known = {4: torch.channels_last, 5: torch.channels_last_3d}.get(image.ndim)
    return (
        known is not None and not image.is_contiguous() and image.is_contiguous(memory_format=known)
    )


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
