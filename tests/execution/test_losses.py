"""The loss of each unit, computed with the classes along whichever axis is faster."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fullconv as fc
from fullconv.execution import cross_entropy


@pytest.mark.parametrize("classes", [2, 15, 16, 40])
@pytest.mark.parametrize(
    "options", [{}, {"ignore_index": 1}, {"label_smoothing": 0.1}, {"weight": True}]
)
def test_cross_entropy_is_that_of_pytorch(classes: int, options: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(classes, 300, generator=generator, dtype=torch.float64).t()
    labels = torch.randint(0, classes, (300,), generator=generator)
    if "weight" in options:
        options = {"weight": torch.rand(classes, generator=generator, dtype=torch.float64)}
    found, expected = (logits.clone().requires_grad_() for _ in range(2))
    losses = cross_entropy(found, labels, **options)
    truth = F.cross_entropy(expected, labels, reduction="none", **options)
    torch.testing.assert_close(losses, truth, rtol=1e-13, atol=1e-14)
    factors = torch.randn(300, generator=generator, dtype=torch.float64)
    (losses * factors).sum().backward()
    (truth * factors).sum().backward()
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-13, atol=1e-14)


def test_a_criterion_derived_from_cross_entropy_keeps_its_own_forward() -> None:
    class Doubled(nn.CrossEntropyLoss):
        def forward(self, input: Tensor, target: Tensor) -> Tensor:
            return 2 * super().forward(input, target)

    net = nn.Conv2d(3, 2, 3, padding=1)
    image, labels = torch.rand(3, 12, 12), torch.randint(0, 2, (12, 12))
    once, twice = (
        fc.StepLoss(net, kind(reduction="none"))([image], [labels], [torch.ones(12, 12)])
        for kind in (nn.CrossEntropyLoss, Doubled)
    )
    torch.testing.assert_close(twice, 2 * once)
