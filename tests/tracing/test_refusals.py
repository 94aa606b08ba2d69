"""What has no finite field is refused by the name of the module, a true reason, and a remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fullconv as fc
from fullconv.tracing import trace_for
from fullconv.tracing._subject import Subject


class Do(nn.Module):
    """A network that is a function of the image, and the modules that it uses."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Any:
        return self.function(x, *self.parts)


def below(module: nn.Module) -> nn.Module:
    """The module two levels down, between convolutions."""
    return nn.Sequential(nn.Conv2d(2, 2, 3), nn.Sequential(nn.ReLU(), module), nn.Conv2d(2, 2, 1))


def squeeze_and_excite(x: Tensor, conv: nn.Module) -> Tensor:
    return x * torch.sigmoid(conv(x.mean((2, 3), keepdim=True)))


def attention(x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    mixed = torch.softmax(tokens @ tokens.transpose(1, 2), -1) @ tokens
    return mixed.transpose(1, 2).reshape(x.shape)


def boxes_of_halves(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[..., : x.shape[3] // 2] = x[..., : x.shape[3] // 2]
    return y


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (nn.GroupNorm(1, 2), r"`1\.1` \(GroupNorm\) .*GroupNorm normalises by statistics"),
        (nn.InstanceNorm2d(2), r"`1\.1` \(InstanceNorm2d\) .*InstanceNorm normalises"),
        (nn.BatchNorm2d(2).train(), r"`1\.1` \(BatchNorm2d\) .*BatchNorm in training.*eval\(\)"),
        (nn.AdaptiveAvgPool2d(1), r"`1\.1` \(AdaptiveAvgPool2d\) .*looks at the whole image"),
        (nn.AdaptiveAvgPool2d(7), r"`1\.1` .*to 7 positions whatever its size"),
        (Do(squeeze_and_excite, nn.Conv2d(2, 2, 1)), r"`1\.1` \(Do\) .*average .* whole image"),
        (Do(attention), r"`1\.1` \(Do\) .*every position with every other"),
        (
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            r"`1\.1` \(Upsample\) .*align_corners=True.*use `align_corners=False`",
        ),
        (nn.Upsample(scale_factor=2.5), r"`1\.1` \(Upsample\) .*not by a whole factor"),
        (nn.Upsample(size=(64, 64)), r"`1\.1` \(Upsample\) .*64 positions whatever its size"),
        (
            nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
            r"`1\.1` \(Conv2d\) .*circular.*pad with zeros or by reflection",
        ),
        (Do(lambda x: x.roll(1, 2)), r"`1\.1` .*wraps around"),
        (Do(lambda x: torch.cat([x[..., -1:], x], 3)), r"far side of the image.*wraps around"),
        (Do(lambda x: x.flip(3)), r"`1\.1` .*mirrors"),
        (Do(lambda x: x + x.mean(3, keepdim=True)), r"`1\.1` .*average"),
        (Do(lambda x: x.cumsum(2)), r"`1\.1` .*a running total runs over an axis that grows"),
        (Do(lambda x: torch.fft.fft2(x).real), r"`1\.1` .*a Fourier transform"),
        (Do(lambda x: x.softmax(2)), r"`1\.1` .*softmax runs over an axis that grows"),
        (Do(lambda x: x.sort(3)[0]), r"`1\.1` .*sorting runs over"),
        (Do(lambda x: F.layer_norm(x, x.shape[1:])), r"`1\.1` .*its norm runs over"),
        (Do(lambda x: x + torch.linspace(-1, 1, x.shape[3])), r"`1\.1` .*coordinates"),
        (Do(lambda x: x * torch.hann_window(x.shape[3])), r"`1\.1` .*position embedding"),
        (Do(lambda x: x / x.shape[3]), r"`1\.1` .*its `other` is computed from the size"),
        (Do(lambda x: x * torch.tensor(x.shape[3])), r"`1\.1` .*its `numbers` is computed from"),
        (Do(lambda x: x * torch.linspace(1, x.shape[3], 3)[1]), r"`1\.1` .*its `end` is computed"),
        (Do(lambda x: x * torch.arange(x.shape[3] - 1, x.shape[3])), r"`1\.1` .*its `end` is"),
        (Do(lambda x: x * torch.arange(x.shape[3]).max()), r"`1\.1` .*a number computed from the"),
        (Do(lambda x: x * torch.arange(x.shape[3])[-1]), r"`1\.1` .*coordinates of the whole image"),
        (Do(lambda x: F.pad(x, (x.shape[3] // 64, 0))), r"`1\.1` .*depends on the image's size"),
        (Do(boxes_of_halves), r"`1\.1` .*not the same all over the image"),
        (Do(lambda x: x * x[..., :1]), r"`1\.1` .*not the same all over the image"),
        (Do(lambda x: x * x[0, 0, 0, 0]), r"`1\.1` .*picks one position"),
        (Do(lambda x: x if x.sum() > 0 else -x), r"`1\.1` \(Do\) .*data-dependent"),
        (Do(lambda x: x * x.amax().item()), r"`1\.1` \(Do\) .*data-dependent"),
        (
            Do(lambda x: F.grid_sample(x, x.movedim(1, -1), align_corners=False)),
            r"`1\.1` .*where it reads is a fraction of the image's size",
        ),
        (
            Do(lambda x: F.max_unpool2d(x[..., ::2, ::2], (x[..., ::2, ::2] * 9).long(), 2)),
            r"`1\.1` .*puts a maximum back depends on the image",
        ),
        (
            Do(lambda x: F.max_unpool2d(*F.max_pool2d(x, 3, 2, 1, return_indices=True), 2, 2)),
            r"`1\.1` .*puts a maximum back depends .*side by side",
        ),
        (Do(lambda x: x * F.avg_pool2d(x, x.shape[2:])), r"`1\.1` .*its windows grow with the image"),
        (
            Do(lambda x, mix: mix(x.flatten(2)).reshape(x.shape), nn.Conv1d(2, 2, 3, padding=1)),
            r"`1\.1\.parts\.0` \(Conv1d\) .*from the end of a row it reads on into the next",
        ),
        (
            Do(lambda x: torch.ones(9, 9, 2)[(x[:, 0] > 0).int(), (x[:, 1] > 0).int()].movedim(3, 1)),
            r"`1\.1` .*its `self` does not depend on the image where other arguments do",
        ),
        (Do(lambda x: F.conv2d(x, x[:, :, :3, :3])), r"`1\.1` .*kernel .* computed from the image"),
    ],
    ids=lambda v: "" if isinstance(v, str) else type(v).__name__,
)  # fmt: skip
def test_what_is_not_local_is_refused_by_name_reason_and_remedy(
    module: nn.Module, why: str
) -> None:
    net = below(module)
    if not isinstance(module, nn.BatchNorm2d):
        net.eval()
    with pytest.raises(fc.NotLocalError, match=why) as caught:
        fc.trace(net, 2)
    assert caught.value.remedies
    assert "What can be done: " in str(caught.value)


def test_a_layer_that_looks_along_one_axis_is_refused_for_that_axis() -> None:
    """Strips: whole rows are averaged, columns are not."""
    net = nn.Sequential(nn.Conv2d(2, 2, 3), Do(lambda x: x + x.mean(2, keepdim=True)))
    with pytest.raises(fc.NotLocalError, match=r"`1` \(Do\)"):
        fc.trace(net, 2)


def test_a_network_that_takes_another_path_for_large_images_is_refused() -> None:
    conv = nn.Conv2d(2, 2, 3, padding=1)
    net = below(Do(lambda x, inner: inner(x) if x.shape[3] > 1000 else x, conv))
    why = r"`1\.1` \(Do\) .*another path at 64 x 2944 px than at 64 x 64 px"
    with pytest.raises(fc.NotLocalError, match=why):
        fc.trace(net, 2)


@pytest.mark.parametrize("divisor", [3, 5, 7])
def test_a_network_that_branches_on_the_remainder_of_the_size_is_refused(divisor: int) -> None:
    conv = nn.Conv2d(2, 2, 3, padding=1)
    net = Do(lambda x, a: a(a(x)) if x.shape[2] % divisor else a(x), conv)
    with pytest.raises(fc.NotLocalError, match=r"`net` itself \(Do\) .*another path"):
        fc.trace(net, 2)


class Remembers(nn.Module):
    """Makes its coordinates once for each size of image."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[3]
        if size not in self.made:
            self.made[size] = torch.linspace(0, 1, size, device=x.device)
        return x * self.made[size]


def test_coordinates_that_are_remembered_are_refused_where_they_are_made() -> None:
    with pytest.raises(fc.NotLocalError, match=r"`1\.1` \(Remembers\) .*another path"):
        fc.trace(below(Remembers()), 2)


def test_a_network_that_changes_its_image_is_refused() -> None:
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(2, 2, 3))
    with pytest.raises(fc.NotLocalError, match=r"`0` \(ReLU\) .*into the image that it is"):
        fc.trace(net, 2)


def test_what_nothing_comes_of_is_not_in_the_way() -> None:
    def run(x: Tensor, conv: nn.Module) -> Tensor:
        F.adaptive_avg_pool2d(x, 1).softmax(1)
        return conv(x)

    assert fc.trace(Do(run, nn.Conv2d(2, 2, 3)), 2).field == (3, 3)


@pytest.mark.parametrize("limit", [12, 100])
def test_windows_stay_above_the_size_below_which_a_network_takes_another_path(limit: int) -> None:
    """Below so many px it returns the image as it is, so windows must not be that small."""
    conv = nn.Conv2d(2, 2, 3, padding=1)
    net = Do(lambda x, inner: inner(x) if x.shape[2] > limit else x, conv)
    geometry, size = fc.trace(net, 2), 3 * limit + 4
    assert geometry.field == (3, 3)
    assert geometry.smallest_shape == (1, 1)
    x = torch.randn(2, size, 40)
    assert torch.allclose(fc.predict(net, x, memory=2**18), net(x[None])[0], atol=1e-6)
    shapes = {geometry.window(fc.geometry.Box(start=(i, 3), stop=(i + 1, 4)), (size, 40)).reads.shape
              for i in range(size)}  # fmt: skip
    assert all(height > limit for height, _ in shapes)


def test_an_image_so_small_that_the_network_takes_another_path_is_refused() -> None:
    net = Do(lambda x, inner: inner(x) if x.shape[3] > 100 else x, nn.Conv2d(2, 2, 3, padding=1))
    with pytest.raises(fc.NotLocalError, match=r"another path at 64 x 2944 px"):
        fc.trace(net, 2, shape=(64, 64))


@pytest.mark.parametrize("layers", [nn.LSTM(2, 2), nn.GRU(2, 2)], ids=["LSTM", "GRU"])
def test_a_recurrent_layer_is_refused(layers: nn.Module) -> None:
    net = Do(lambda x, cell: cell(x.permute(2, 0, 1))[0].permute(1, 2, 0), layers)
    with pytest.raises(fc.NotLocalError, match=r"`parts\.0` .*(more operators|another path)"):
        fc.trace(net, 2, ndim=1)


def test_a_recurrent_layer_is_refused_before_it_runs_on_large_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sides: list[int] = []
    record = Subject.record

    def noted(self: Subject, shape: tuple[int, ...], *args: Any, **settings: Any) -> Any:
        sides.extend(shape)
        return record(self, shape, *args, **settings)

    monkeypatch.setattr(Subject, "record", noted)
    net = Do(lambda x, cell: cell(x.permute(2, 0, 1))[0].permute(1, 2, 0), nn.LSTM(2, 2))
    for trace in (lambda: fc.trace(net, 2, shape=(900,)), lambda: trace_for(net, 2, (900,))):
        with pytest.raises(fc.NotLocalError, match=r"`parts\.0` \(LSTM\) .* more operators"):
            trace()
    assert max(sides) < 300


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda x: {"out": x, "aux": x}, r"a dict with keys \['aux', 'out'\]: wrap it in a module"),
        (lambda x: (x, x), r"got a tuple: wrap it in a module"),
        (lambda x: [x], r"got a list: wrap it"),
    ],
)
def test_outputs_that_are_not_one_tensor_are_refused_with_the_remedy(
    function: Callable[[Tensor], Any], what: str
) -> None:
    with pytest.raises(fc.FullconvError, match=what):
        fc.trace(Do(function), 2)


def test_a_classifier_is_told_to_become_fully_convolutional() -> None:
    net = nn.Sequential(nn.Conv2d(2, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 5))
    with pytest.raises(fc.FullconvError, match=r"\(2, 5\) .*made fully convolutional first"):
        fc.trace(net, 2)
    fixed = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(2 * 62 * 62, 5))
    with pytest.raises(fc.FullconvError, match="made fully convolutional first"):
        fc.trace(fixed, 2)


def test_a_network_that_takes_no_image_says_what_the_network_said_and_where() -> None:
    net = nn.Sequential(nn.ReLU(), nn.Conv2d(5, 2, 3))
    why = r"for each of those tried.* with 2 channels\. At .* it is in `1` \(Conv2d\): .*got 2 channels instead\. Give"
    with pytest.raises(fc.FullconvError, match=why):
        fc.trace(net, 2)
    # Too small for the kernel at first; what counts is what it says of large ones.
    fixed = nn.Sequential(
        nn.Conv1d(2, 2, 150), nn.Flatten(), nn.Linear(851, 5), nn.Unflatten(1, (1, 5))
    )
    with pytest.raises(fc.FullconvError, match=r"it is in `2` \(Linear\): "):
        fc.trace(fixed, 2)


def test_a_size_is_found_also_where_tensors_without_numbers_do_not_do() -> None:
    """Most sizes are refused; the others need a tensor made in `forward`, which meta tensors lack."""

    def run(x: Tensor, conv: nn.Module) -> Tensor:
        if x.shape[2] % 224 or x.shape[3] % 224:
            raise ValueError(f"224 does not divide {x.shape[2:]}")
        return conv(x) + torch.ones(2, 1, 1)

    geometry = fc.trace(Do(run, nn.Conv2d(2, 2, 60, stride=56, padding=2)), 2)
    assert (geometry.field, geometry.stride, geometry.period) == ((60,) * 2, (56,) * 2, (224,) * 2)
    assert geometry.nearest_shapes((300, 300)) == ((224, 224), (448, 448))


def test_the_module_that_takes_one_size_is_named() -> None:
    fixed = Do(lambda x, score: score(x.flatten(2))[..., None].expand_as(x), nn.Linear(3844, 1))
    net = nn.Sequential(nn.Conv2d(2, 2, 3), fixed)
    with pytest.raises(fc.NotLocalError, match=r"`1\.parts\.0` \(Linear\) .*none of 2944 x 64 px"):
        fc.trace(net, 2)


def test_sizes_that_a_network_takes_are_found_among_those_it_does_not() -> None:
    """Its layers need multiples of 256 px, or a period of 81 px, or there is no map below 379 px."""
    blocks = Do(lambda x: x.unflatten(2, (x.shape[2] // 256, 256)).flatten(2, 3))
    steps = nn.Sequential(*[nn.MaxPool1d(3) for _ in range(4)])
    late = Do(lambda x: x.unfold(2, 379, 1).amax(3).squeeze(2))
    assert fc.trace(nn.Sequential(blocks, nn.Conv1d(2, 2, 3)), 2).field == (3,)
    assert (fc.trace(steps, 2).field, fc.trace(steps, 2).period) == ((81,), (81,))
    assert fc.trace(late, 2, ndim=1).field == (379,)


def test_a_network_that_repeats_too_late_is_refused_by_the_layer_from_which_it_does() -> None:
    net = nn.Sequential(nn.AvgPool1d(4096), nn.ReLU(), nn.AvgPool1d(125))
    with pytest.raises(fc.NotLocalError, match=r"`2` \(AvgPool1d\) .*only every 512000 px"):
        fc.trace(net, 2, shape=(512_000,))


def test_attention_is_refused_as_such_where_small_images_take_another_path() -> None:
    """Of a single position PyTorch makes a view, of many a copy."""
    pool, mix = nn.AvgPool2d(64), nn.MultiheadAttention(2, 1, batch_first=True)

    def run(x: Tensor, pool: nn.Module, mix: nn.Module) -> Tensor:
        x = pool(x)
        tokens = x.flatten(2).transpose(1, 2)
        return mix(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2).reshape(x.shape)

    with pytest.raises(fc.NotLocalError, match=r"`parts\.1` .*every position\s+with every other"):
        fc.trace(Do(run, pool, mix).eval(), 2)


def test_what_takes_too_much_memory_to_follow_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fullconv.tracing._sweep.MOST_NUMBERS", 500)
    why = r"values of few positions, got [\d,]+ that each .* at `0` \(ReLU\): following .*memory"
    with pytest.raises(fc.FullconvError, match=why):
        fc.trace(nn.Sequential(nn.ReLU(), nn.AvgPool2d(2)), 2)


def test_coordinates_counted_from_ones_are_refused_as_such() -> None:
    net = below(Do(lambda x: x + torch.ones_like(x[:, :1]).cumsum(2)))
    with pytest.raises(fc.NotLocalError, match=r"`1\.1` .*coordinates"):
        fc.trace(net, 2)


def test_a_slice_that_counts_from_the_end_to_the_same_start_is_followed() -> None:
    net = Do(lambda x: x[..., -(x.shape[3] - 4) :])
    assert fc.trace(net, 2).field_of((0, 0)).start == (0, 4)


def test_a_fixed_position_embedding_is_refused() -> None:
    net = Do(lambda x, conv: conv(x) + torch.ones(64, 64).tril(), nn.Conv2d(2, 2, 1))
    why = r"`net` itself \(Do\) .*takes an image of 64 x 64 px, and none of 2944 x 64 px: .*size"
    with pytest.raises(fc.NotLocalError, match=why):
        fc.trace(net, 2)


def test_a_shape_of_too_few_axes_is_answered_with_how_many_there_are() -> None:
    why = r"`shape` must have a size for each spatial axis .* by its first layer 2, got 1"
    with pytest.raises(fc.FullconvError, match=why):
        fc.trace(nn.Conv2d(2, 2, 3), 2, shape=(40,))


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("numpy", lambda x: torch.from_numpy(x.numpy() * 2)),
        ("tolist", lambda x: torch.tensor(x.tolist())),
    ],
)
def test_a_network_that_leaves_pytorch_is_refused_by_name(
    name: str, way: Callable[[Tensor], Tensor]
) -> None:
    net = below(Do(way))
    with pytest.raises(fc.FullconvError, match=rf"operators, got `{name}` .* `1\.1` \(Do\)"):
        fc.trace(net, 2)


def test_lazy_modules_are_refused() -> None:
    net = nn.Sequential(nn.LazyConv2d(4, 3))
    with pytest.raises(fc.FullconvError, match="lazy modules: run it once on an image first"):
        fc.trace(net, 2)


def test_an_output_without_the_axes_of_the_image_is_refused() -> None:
    for function in (lambda x: x.transpose(2, 3), lambda x: x[..., :5]):
        with pytest.raises(fc.NotLocalError, match="do not grow with those of the image"):
            fc.trace(Do(function), 2)


class EmptyBetween(nn.Module):
    """A crop that leaves nothing of small images, which no pooling takes; padding comes after it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = (size // 3 for size in x.shape[2:])
        small = F.adaptive_avg_pool2d(x[..., : 3 * height, : 3 * width], [height, width])
        return F.pad(small, (2, 2, 2, 2))


def test_sizes_that_leave_nothing_between_are_not_taken() -> None:
    net = EmptyBetween()
    geometry = fc.trace(net, 1, shape=(60, 60))
    for size in range(1, 8):
        try:
            taken = bool(net(torch.zeros(1, 1, size, 60)).numel())
        except RuntimeError:
            taken = False
        assert geometry.takes((size, 60)) == taken == (size >= 3), size


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x - x.mean(0),
        lambda x: x / x.amax((0, 1), keepdim=True),
        lambda x: x.softmax(0),
        lambda x: x + x.flip(0),
        lambda x: x + x.roll(1, 0),
        lambda x: x.flatten(0, 1).cumsum(0).unflatten(0, x.shape[:2]),
    ],
)
def test_what_mixes_the_images_of_a_batch_is_refused(mix: Any) -> None:
    class Mixing(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return mix(image)

    net = nn.Sequential(nn.Conv2d(3, 4, 3), Mixing())
    with pytest.raises(
        fc.NotLocalError, match=r"`1` \(Mixing\) is not local: it mixes the images of a batch"
    ):
        fc.trace(net)


def test_a_loop_over_the_images_keeps_them_apart() -> None:
    class Loop(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.stack([one - one.mean(0) for one in image])

    assert fc.trace(nn.Sequential(nn.Conv2d(3, 4, 3), Loop())).field == (3, 3)
