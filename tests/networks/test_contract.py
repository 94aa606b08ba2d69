"""What every network of the registry must do."""

import itertools

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from fullconv.networks import NAMES, build

# Small variants, so that the contract takes seconds; a name without one fails the suite.
VARIANTS = {
    "unet": [
        {"depth": 2, "width": 4},
        {"depth": 3, "width": 3, "stem": 1},
        {"depth": 2, "width": 4, "norm": "layer"},
        {"depth": 2, "width": 4, "norm": "frozen"},
        {"depth": 2, "width": 4, "norm": "none"},
    ],
    "fcn8s": [{"width": 4}, {"width": 4, "norm": "layer"}],
    "fcn32s-vgg16": [{"thin": 32}],
    "fcn16s-vgg16": [{"thin": 32, "learned": "inner"}],
    "fcn8s-vgg16": [{"thin": 32, "learned": "all"}],
    "fcn8s-atonce-vgg16": [{"thin": 32}],
    "fcn-alexnet": [{"thin": 16}],
    "fcn-googlenet": [{"thin": 8}, {"thin": 8, "average": True}],
    "unet:efficientnet-lite0": [{"width": 2}, {"width": 2, "norms": "frozen"}],
    "unet:efficientnet-lite1": [{"width": 2}],
    "unet:efficientnet-lite2": [{"width": 2}],
}
CASES = [(name, options) for name, rows in VARIANTS.items() for options in rows]
cases = pytest.mark.parametrize(("name", "options"), CASES, ids=str)


# Networks that pad by 100 px: every image is large to them, so shapes are looked at without numbers.
PADDED = {name for name in VARIANTS if name.startswith("fcn") and "-" in name}


def network(name: str, options: dict[str, object]) -> nn.Module:
    """A network without the scores of zero that some begin with: they would agree with everything."""
    net = fresh(name, options)
    for parameter in net.parameters():
        if not parameter.detach().any():
            nn.init.normal_(parameter, std=0.1)
    return net


def fresh(name: str, options: dict[str, object]) -> nn.Module:
    torch.manual_seed(0)
    return build(name, classes=3, channels=2, **options)


def image(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def test_every_network_of_the_registry_is_tested() -> None:
    assert VARIANTS.keys() == set(NAMES)


@cases
def test_the_map_has_the_size_of_the_image(name: str, options: dict[str, object]) -> None:
    device = "meta" if name in PADDED else "cpu"
    net = network(name, options).eval().to(device)
    sizes = [1, 2, 3, 5, 16, 17, 31, 33, 65]
    for height, width in itertools.product(sizes, sizes[::3]):
        assert net(image(1, 2, height, width).to(device)).shape == (1, 3, height, width)


@cases
def test_training_works_down_to_a_single_px(name: str, options: dict[str, object]) -> None:
    net = network(name, options)
    for size in (1, 2, 7):
        net(image(1, 2, size, size)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@cases
def test_a_batch_equals_its_images_one_by_one(name: str, options: dict[str, object]) -> None:
    net = network(name, options).eval()
    x = image(3, 2, 37, 29)
    with torch.inference_mode():
        together, alone = net(x), torch.cat([net(x[i : i + 1]) for i in range(3)])
        again = net(x)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(together, again)


@cases
def test_saved_and_loaded_it_is_the_same(name: str, options: dict[str, object]) -> None:
    net = network(name, options)
    net(image(2, 2, 20, 20))  # moves the running statistics
    twin = build(name, classes=3, channels=2, **options)
    twin.load_state_dict(load(save(net.state_dict())))
    x = image(1, 2, 21, 19)
    assert torch.equal(net.eval()(x), twin.eval()(x))


@cases
def test_a_step_lowers_the_loss(name: str, options: dict[str, object]) -> None:
    net = fresh(name, options)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    x = image(1, 2, 33, 35)
    targets = (x[:, 0] > 0.5).long()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    losses: list[float] = []
    for _ in range(2):
        loss = nn.functional.cross_entropy(net(x), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]


@cases
def test_channels_last_changes_nothing_but_the_layout(
    name: str, options: dict[str, object]
) -> None:
    net = network(name, options).eval()
    x = image(1, 2, 30, 26)
    with torch.inference_mode():
        plain = net(x)
        net.to(memory_format=torch.channels_last)
        last = net(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(plain, last, atol=1e-5, rtol=1e-5)


# The period is that of the deepest layer: 2 for the stem, times 2 for each halving.
PERIODS = [
    ("unet", {"depth": 2, "width": 4}, 8),
    ("unet", {"depth": 3, "width": 3, "stem": 1}, 8),
    ("unet", {"depth": 2, "width": 4, "norm": "layer"}, 8),
    ("fcn8s", {"width": 4}, 32),
    ("fcn16s-vgg16", {"thin": 32}, 32),
    ("fcn-alexnet", {"thin": 16}, 32),
    ("fcn-googlenet", {"thin": 8}, 32),
    ("unet:efficientnet-lite0", {"width": 2}, 32),
    ("unet:efficientnet-lite1", {"width": 2}, 32),
    ("unet:efficientnet-lite2", {"width": 2}, 32),
]


@pytest.mark.parametrize(("name", "options", "period"), PERIODS, ids=str)
def test_a_window_that_starts_on_the_period_sees_what_the_whole_image_does(
    name: str, options: dict[str, object], period: int
) -> None:
    """In float64, at an odd size, far from the cut; off the period the difference is plain."""
    net = network(name, options).double().eval()
    halo = (40 if "lite" in name else 12) * period  # more than its field
    x = image(1, 2, 24, 3 * halo + 5).double()
    with torch.inference_mode():
        whole = net(x)[..., 2 * halo :]
        window = net(x[..., halo:])[..., halo:]
        off = net(x[..., halo + 1 :])[..., halo - 1 :]
    torch.testing.assert_close(window, whole, atol=1e-12, rtol=0)
    assert (off - whole).abs().max() > 1e-6
