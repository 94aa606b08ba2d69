"""Maxima of neighbours, axis by axis, beside PyTorch's pooling."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fullconv.surgery._boxes import first_max

POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def _pooled(x: Tensor, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> Tensor:
    for dim in range(x.ndim - 1, 1, -1):
        x = first_max(x, dim, kernel[dim - 2], dilation[dim - 2])
    return x


def _sum_of_squares(x: Tensor) -> Tensor:
    return (first_max(x, 1, 3) ** 2).sum()


@given(data=st.data(), ndim=st.integers(1, 3), seed=st.integers(0, 2**31))
def test_maxima_and_their_gradients_are_those_of_pooling_where_many_are_equal(
    data: st.DataObject, ndim: int, seed: int
) -> None:
    kernel = tuple(data.draw(st.tuples(*[st.integers(1, 4)] * ndim)))
    dilation = tuple(data.draw(st.tuples(*[st.integers(1, 3)] * ndim)))
    extra = data.draw(st.tuples(*[st.integers(1, 4)] * ndim))
    shape = [(k - 1) * d + n for k, d, n in zip(kernel, dilation, extra, strict=True)]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(3, (2, 2, *shape), generator=generator).double().requires_grad_()
    native = POOLS[ndim](x, kernel, 1, 0, dilation)
    weight = torch.rand(native.shape, generator=generator, dtype=torch.float64)
    found = _pooled(x, kernel, dilation)
    assert torch.equal(found, native)
    expected = torch.autograd.grad((native * weight).sum(), x)[0]
    # The same terms, added in another order.
    assert torch.allclose(torch.autograd.grad((found * weight).sum(), x)[0], expected, atol=1e-14)


def test_gradients_of_gradients() -> None:
    x = torch.randperm(24, dtype=torch.float64).reshape(2, 12).requires_grad_()
    maxima = partial(first_max, dim=1, size=3, dilation=2)
    assert torch.autograd.gradcheck(maxima, x)
    assert torch.autograd.gradgradcheck(maxima, x)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_transforms_of_functions() -> None:
    x = torch.randn(3, 2, 9)
    one = torch.func.grad(_sum_of_squares)
    assert torch.equal(torch.func.vmap(one)(x), torch.stack([one(row) for row in x]))


@pytest.mark.parametrize("size", [1, 2])
def test_maxima_without_gradient(size: int) -> None:
    x = torch.tensor([3.0, 1.0, 2.0])
    assert first_max(x, 0, size).tolist() == x.unfold(0, size, 1).amax(1).tolist()
