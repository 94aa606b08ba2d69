"""What operators take while they run, besides what they return.

On CPU, oneDNN convolves images in blocks of 16 channels: it copies those that lie plainly in memory,
and what it makes it copies back. Where an image or a kernel lies in channels_last, it copies what does
not, and nothing else. In half precision it multiplies in tiles where there is AMX, and does so differently
without. What it does was read from the allocations of PyTorch 2.13 on two CPUs with AVX-512, one of them
with AMX; elsewhere it is an estimate, which a measured step corrects. On a GPU nothing is known beforehand.

Shapes: an image is `(batch, channels, *spatial)`, a kernel `(out, in / groups, *sizes)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

from fullconv.planning._recurrent import lstm_backward_scratch, lstm_scratch

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
        if settings[
            3
        ]:  # a transposed convolution is the way back of one from its result to its image
            return _mkldnn_of_image(
                image, made[0], kernel, strided=max(settings[0]) > 1, alone=False
            )
        return _mkldnn_forward(image, kernel, made[0], alone=_are_alone(image, settings))
    return _columns(backend, image, kernel, made[0])


def _convolution_backward(args: Sequence[Any], made: Sequence[Tensor]) -> int:
    del made
    grad, image, kernel, bias_sizes, *settings, mask = args
    bias = kernel.new_empty(bias_sizes) if bias_sizes and bias_sizes[0] else None
    backend = _backend(image, kernel, bias, settings)
    if not backend.startswith("Mkldnn"):
        return _columns(backend, image, kernel, grad) if mask[1] else 0
    strided, alone = max(settings[0]) > 1, _are_alone(image, settings)
    if settings[3]:
        of_image, ends = _mkldnn_forward(grad, kernel, image, alone=False), (image, grad)
    else:
        of_image = _mkldnn_of_image(grad, image, kernel, strided=strided, alone=alone)
        ends = grad, image
    of_image *= mask[0]
    of_kernel = _mkldnn_of_kernel(*ends, kernel, alone=alone) if mask[1] else 0
    # The image's gradient comes first: the kernel's is not there yet.
    return max(of_image - (_bytes(kernel) if mask[1] else 0), of_kernel)


def _backend(image: Tensor, kernel: Tensor, bias: Tensor | None, settings: Sequence[Any]) -> str:
    """Return the name of what PyTorch convolves with here, such as ``Mkldnn``."""
    name = torch._C._select_conv_backend(image, kernel, bias, *settings).name
    return "MkldnnTranspose" if name == "???" else name  # PyTorch has no name for it


def _are_alone(image: Tensor, settings: Sequence[Any]) -> bool:
    """Return whether a convolution is depthwise, and has kernels of its own for that."""
    return not settings[3] and settings[5] == image.shape[1] >= BLOCK


def _mkldnn_forward(image: Tensor, kernel: Tensor, out: Tensor, *, alone: bool) -> int:
    if _in_channels_last(image, kernel):
        return _bytes(kernel) + _moved(image)
    if _in_tiles(image) and not alone:
        return max(_bytes(image) + _bytes(kernel), 2 * _bytes(out))
    inside = _blocked(image) if image.shape[1] >= BLOCK else 0
    before = inside + _bytes(kernel) + _blocked(out) - _bytes(out)
    return max(before + _added_up(out, kernel), _blocked(out))


def _mkldnn_of_image(
    grad: Tensor, image: Tensor, kernel: Tensor, *, strided: bool, alone: bool
) -> int:
    if _in_channels_last(image, kernel):
        one = _of_each_thread(grad) if strided and not _in_tiles(image) else 0
        return _bytes(kernel) + _moved(grad, image) + one
    if (image.dtype in HALF and strided) or (_in_tiles(image) and not alone):
        return max(_bytes(grad) + _bytes(kernel), 2 * _bytes(image))
    if strided and image.shape[1] < BLOCK:
        return _blocked(grad) + _bytes(kernel) + _of_each_thread(grad)
    if strided:
        return _blocked(image) if alone else 2 * _bytes(image)
    before = _blocked(grad) + _bytes(kernel) + _blocked(image) - _bytes(image)
    return max(before + _added_up(image, kernel), _blocked(image))


def _mkldnn_of_kernel(grad: Tensor, image: Tensor, kernel: Tensor, *, alone: bool) -> int:
    weights = 2 * _bytes(kernel)
    if _in_channels_last(image, kernel):
        each = _of_channels_alone(grad, image, kernel) if alone else _turned(grad, image, kernel)
        return weights + _moved(grad, image) + each
    if alone and max(kernel.shape[2:]) > 3:  # one channel at a time, unfolded
        return prod(kernel.shape[2:]) * prod(grad.shape[2:]) * grad.element_size()
    if alone:
        return _blocked(grad) + _blocked(image)
    if _in_tiles(image):
        return _bytes(grad) + _bytes(image) + weights
    inside = _blocked(image) if image.shape[1] >= BLOCK else _bytes(image)
    if image.dtype not in HALF:
        return _blocked(grad) + inside
    if _is_one_px(kernel):
        return _blocked(grad) + _blocked(image) + weights
    if image.shape[1] < BLOCK:  # it lies as it must already
        return _blocked(grad) + _of_each_thread(grad) + weights
    return _blocked(grad) + inside + weights + _turned(grad, image, kernel)


def _turned(grad: Tensor, image: Tensor, kernel: Tensor) -> int:
    """Return the bytes of one image and its gradient, turned so that pairs of px lie together.

    Each thread turns its own, for the gradient of a kernel in half precision where there are no tiles.
    (Where threads share the channels of an image instead, they take less than that.)
    """
    if image.dtype not in HALF or _in_tiles(image):
        return 0
    small = image.shape[1] < BLOCK and not _is_one_px(kernel)
    across = 1 + (kernel.shape[-1] - 1) / image.shape[-1]
    turned = (
        torch.get_num_threads() * _bytes(image) // image.shape[0]
        if small
        else _of_each_thread(image)
    )
    return ceil(across * turned) + _of_each_thread(grad)


def _of_each_thread(image: Tensor) -> int:
    """Return the bytes of one image, in blocks, for each thread."""
    return torch.get_num_threads() * _blocked(image) // max(image.shape[0], 1)


def _added_up(result: Tensor, kernel: Tensor) -> int:
    """Return the bytes of one image of a result in which a kernel of one px adds up, for each thread."""
    if result.dtype not in HALF or not _is_one_px(kernel):
        return 0
    return torch.float32.itemsize // result.element_size() * _of_each_thread(result)


def _is_one_px(kernel: Tensor) -> bool:
    return prod(kernel.shape[2:]) == 1


def _in_tiles(image: Tensor) -> bool:
    """Return whether matrices of this type are multiplied in tiles."""
    return image.dtype in HALF and torch.cpu._is_amx_tile_supported()


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
    aten.mkldnn_rnn_layer: lstm_scratch,
    aten.mkldnn_rnn_layer_backward: lstm_backward_scratch,
}
