"""What one unit of a network depends on: traced, and seen by its gradient.

python examples/what_does_it_see.py
"""

import torch
from torch import nn

import fullconv as fc


def main() -> None:
    """Compare the traced field of the unit in the middle with the pixels that its gradient reaches."""
    net = nn.Sequential(
        nn.Conv2d(1, 2, 5, stride=2),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(2, 1, 3, dilation=2),
    )
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.5)  # positive, so that nothing cancels
    unit = (3, 3)
    field = fc.trace(net, channels=1).field_of(unit)

    image = torch.ones(1, 1, 64, 64, requires_grad=True)
    net(image)[0, 0, *unit].backward()
    assert image.grad is not None
    rows = image.grad[0, 0].abs().sum(1).nonzero().flatten()
    print(f"traced rows {field.start[0]} to {field.stop[0]}")
    print(f"seen   rows {rows[0]} to {rows[-1] + 1}")


if __name__ == "__main__":
    main()
