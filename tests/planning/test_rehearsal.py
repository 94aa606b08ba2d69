"""What a step takes, against what the allocator hands out when it is really run."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fullconv as fc
from fullconv.planning import Manner, rehearse_forward, rehearse_step, rehearse_windows

from .allocations import Steps, allocated, bytes_of

# The state of the random numbers, 5 kB, is no tensor that an operator makes.
PLAINLY = {"use_reentrant": False, "preserve_rng_state": False}


class Residual(nn.Module):
    """Views, a tensor that is read twice, a sum in place."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Conv2d(3, 8, 1)
        self.end = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.start(x)
        y[:, :, ::2] += y.exp()[:, :, ::2]
        return self.end(y.flatten(2).view_as(y) + y)


class Checkpointed(nn.Module):
    """Layers whose activations are computed again in backward."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = nn.Sequential(*(block(8, 8) for _ in range(3)))
        self.end = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(checkpoint(self.inner, self.start(x), **PLAINLY))


class Scales(nn.Module):
    """Two scales, put together."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = block(3, 8), block(8, 8)
        self.end = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        coarse = nn.functional.max_pool2d(self.coarse(fine), 2)
        large = nn.functional.interpolate(coarse, scale_factor=2, mode="bilinear")
        return self.end(torch.cat([fine, large], 1))


def block(start: int, stop: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(start, stop, 3, padding=1, bias=False),
        nn.BatchNorm2d(stop),
        nn.ReLU(inplace=True),
    )


def half_frozen() -> nn.Module:
    net = nn.Sequential(block(3, 8), block(8, 8), nn.Conv2d(8, 4, 1))
    net[0].requires_grad_(False).eval()
    return net


def depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 5, stride=2, padding=2, groups=32), nn.ReLU(),
        nn.Conv2d(32, 32, 7, padding=3, groups=32), nn.Conv2d(32, 4, 1),
    )  # fmt: skip


def to_one_channel() -> nn.Module:
    # The kernel has the shape of a depthwise one.
    up = nn.ConvTranspose2d(32, 1, 6, stride=2, padding=2)
    return nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), up, nn.Conv2d(1, 4, 1))


def instance_norms() -> nn.Module:
    # What comes out of these norms lies plainly, whatever goes in.
    norms = [nn.InstanceNorm2d(4), nn.InstanceNorm2d(24)]
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), norms[0], nn.PReLU(), nn.Conv2d(4, 24, 3, padding=1),
        norms[1], nn.PReLU(), nn.Conv2d(24, 4, 3, padding=1),
    )  # fmt: skip


NETWORKS = {
    "depthwise": depthwise,
    "instance norms": instance_norms,
    "to one channel": to_one_channel,
    "plain": lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3, stride=2)),
    "residual": Residual,
    "checkpointed": Checkpointed,
    "scales": Scales,
    "half frozen": half_frozen,
    "unet": lambda: fc.networks.build("unet", classes=3, width=4, depth=2),
    "elu and norms": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.ELU(), nn.Dropout(), nn.AvgPool2d(2)),
}  # fmt: skip


# Without oneDNN groups run one by one, and what is transposed is unfolded in other pieces.
ONLY_ONEDNN = {"depthwise", "to one channel"}


@pytest.fixture
def plain_convolutions() -> object:
    """Convolve without oneDNN, whose copies are a matter of the machine."""
    torch.backends.mkldnn.set_flags(False)
    yield
    torch.backends.mkldnn.set_flags(True)


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("optimizer", ["AdamW", "sgd"])
@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - ONLY_ONEDNN))
def test_a_step_takes_what_the_allocator_hands_out(name: str, optimizer: str) -> None:
    net = NETWORKS[name]()
    manner = Manner(optimizer=optimizer.lower())  # pyright: ignore[reportArgumentType]
    found = rehearse_step(net, (3, 40, 36), batch=2, manner=manner)
    assert found.peak_bytes == Steps(net, (2, 3, 40, 36), optimizer=optimizer).peak()


KINDS = ["Adadelta", "Adagrad", "Adam", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop"]


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("optimizer", KINDS)
def test_other_optimizers_of_pytorch_take_what_the_allocator_hands_out(optimizer: str) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 200, 3), nn.ReLU(), nn.Conv2d(200, 300, 3), nn.Conv2d(300, 2, 1)
    )
    steps = Steps(net, (1, 3, 9, 9), optimizer=optimizer)
    taken = steps.peak()
    held = [v for each in steps.optimizer.state.values() for v in each.values()]
    course = rehearse_step(net, (3, 9, 9), manner=Manner(optimizer=optimizer.lower())).course  # pyright: ignore[reportArgumentType]
    assert course.alive(["optimizer"])[0] == sum(v.nbytes for v in held if isinstance(v, Tensor))
    assert course.peak_bytes == pytest.approx(taken, rel=0.001)


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("name", ["plain", "scales", "elu and norms"])
def test_a_forward_pass_takes_what_the_allocator_hands_out(name: str) -> None:
    net = NETWORKS[name]().eval()
    image = torch.rand(2, 3, 40, 36)

    def run() -> None:
        with torch.no_grad():
            net(image)

    run()
    real = bytes_of(*net.parameters(), *net.buffers(), image) + allocated(run)
    assert rehearse_forward(net, (3, 40, 36), batch=2).peak_bytes == real


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("name", ["plain", "scales"])
def test_windows_take_what_a_step_through_them_takes(name: str, together: int) -> None:
    net = NETWORKS[name]().eval()
    images = [torch.rand(3, 64, 64) for _ in range(2 * together)]
    with torch.no_grad():
        shape = tuple(net(images[0][None]).shape[2:])
    step = fc.StepLoss(net, nn.CrossEntropyLoss(reduction="none"))
    targets = [torch.zeros(shape, dtype=torch.long) for _ in images]
    window = step.cover(images[0], targets[0])[0]
    steps = Steps(net, (1, 3, 64, 64))

    def run() -> None:
        batches = list(step._batches(step._jobs(images, targets, None)[0]))
        rows = [
            batch[i : i + together] for batch in batches for i in range(0, len(batch), together)
        ]
        step._in_turn(rows, [], 1.0).backward()
        steps.optimizer.step()

    run()
    steps.optimizer.zero_grad()
    state = [v for each in steps.optimizer.state.values() for v in each.values()]
    data = bytes_of(*images, *targets)
    found = rehearse_windows(
        net, (3, 64, 64), owned=window.inside, together=together, held_bytes=data
    )
    real = bytes_of(*net.parameters(), *net.buffers(), *state) + data + allocated(run)
    assert found.peak_bytes == pytest.approx(real, rel=0.002)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    "name",
    ["scales", "unet", "checkpointed", "instance norms", "depthwise", "to one channel"],
)
def test_copies_inside_convolutions_are_known(
    name: str, half: bool, layout: torch.memory_format
) -> None:
    net = NETWORKS[name]().to(memory_format=layout)
    # Where matrices are multiplied in tiles, bf16 takes up to 0.7 MB besides, whatever the image.
    shape = (3, 288, 200) if half else (3, 96, 100)
    found = rehearse_step(net, shape, batch=2, manner=Manner(precision="bf16" if half else "32"))
    steps = Steps(net, (2, *shape), half=half, layout=layout)
    assert found.peak_bytes == pytest.approx(steps.peak(), rel=0.12 if half else 0.06)


def test_saved_activations_are_those_that_autograd_packs() -> None:
    net = NETWORKS["unet"]()
    image, packed = torch.rand(2, 3, 40, 36), {}

    def pack(tensor: Tensor) -> Tensor:
        packed[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = nn.functional.cross_entropy(net(image), torch.zeros(2, 40, 36, dtype=torch.long))
    for tensor in (*net.parameters(), *net.buffers(), image):
        packed.pop(tensor.untyped_storage()._cdata, None)
    labels = 2 * 40 * 36 * 8
    found = rehearse_step(net, (3, 40, 36), batch=2).course
    assert int(found.alive(["saved"]).max()) == sum(packed.values()) - labels + bytes_of(loss)


def test_parameters_gradients_and_state_are_counted_by_the_formula() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 4, 3, bias=False))
    weights = 4 * (3 * 8 * 9 + 8 * 4 * 9)
    course = rehearse_step(net, (3, 20, 20)).course
    assert course.alive(["parameters"])[0] == weights
    assert course.alive(["gradients"])[-1] == weights
    assert course.alive(["optimizer"])[0] == 2 * weights + 2 * 4  # and two counters of steps
    sgd = rehearse_step(net, (3, 20, 20), manner=Manner(optimizer="sgd")).course
    assert sgd.alive(["optimizer"])[0] == weights
    assert course.alive(["data"])[0] == 4 * 3 * 20 * 20 + 8 * 16 * 16


def test_a_terabyte_is_rehearsed_in_no_memory() -> None:
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(3, 4096, 1), nn.Conv2d(4096, 4096, 1), nn.Conv2d(4096, 2, 1))
    found = rehearse_step(net, (3, 10_000, 10_000))
    assert found.peak_bytes > 3e12
    assert found.map_shape == (2, 10_000, 10_000)


def test_the_network_stays_as_it_is() -> None:
    net = NETWORKS["unet"]()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    random = torch.get_rng_state()
    rehearse_step(net, (3, 40, 36))
    rehearse_forward(net, (3, 40, 36))
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert net.training
    assert torch.equal(random, torch.get_rng_state())


class Undecided(nn.Module):
    """Looks at the values of its image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.mean() > 0 else self.conv(-x)


class Locked(nn.Conv2d):
    """Holds what cannot be copied."""

    def __deepcopy__(self, memo: object) -> "Locked":
        raise TypeError("cannot pickle a lock")


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Undecided(), "`net` must not depend on the values of the image to be planned, got a Und"),
        (Locked(3, 4, 3), "`net` must be one that `copy.deepcopy` can copy, got a Locked that"),
        (nn.LazyConv2d(4, 3), "`net` must have its weights, got a LazyConv2d with lazy modules"),
        (nn.Conv2d(1, 4, 3), "`shape` must be one that the network takes, got 20 x 20 px with 3 ch"),
        (nn.Conv2d(3, 4, 3).requires_grad_(False), "`net` must have weights to train, got none"),
        (nn.Conv2d(3, 4, 30), "`shape` must be one that the network takes, got 20 x 20 px"),
    ],
)  # fmt: skip
def test_what_cannot_be_rehearsed_is_refused(net: nn.Module, message: str) -> None:
    with pytest.raises(fc.FullconvError, match=message):
        rehearse_step(net, (3, 20, 20))


@pytest.mark.parametrize("key", ["precision", "optimizer"])
def test_a_manner_is_one_of_few(key: str) -> None:
    with pytest.raises(fc.FullconvError, match=f"`{key}` must be one of .*, got 'other'"):
        Manner(**{key: "other"})  # pyright: ignore[reportArgumentType]
