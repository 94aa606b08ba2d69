"""A unit at every position of an image: densify beside patches, dilation and fragments by hand, and others.

Usage: python benchmarks/dense.py            (all cases, writes the result)
       python benchmarks/dense.py --trial    (one round, writes nothing)
       ... --device cuda                     (a GPU; its results are kept apart)
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import product
from typing import Any

import bench
import torch
from torch import Tensor, nn

import fullconv as fc
from fullconv.execution import multiplications
from fullconv.tracing import record

ROUNDS = 5
REPEATS = 3  # the fastest of so many runs counts; of what takes long the first
LONG_S = 0.2
PATCHES = 64  # so many are timed, and stand for all
METHOD = (
    "Forward, and forward with backward, of a map with a unit at every position of one image, by networks "
    "of convolutions and max pooling without padding. `patches` runs the network on the sub-image of each "
    f"unit: {PATCHES} of them are timed as one batch, and stand for all. `dilation` and `fragments` are "
    "written by hand with PyTorch's layers, `braindecode` is its to_dense_prediction_model (2-D alone, and "
    "where it is installed), `stitched` is fullconv.shift_and_stitch. `densify` is fullconv.densify, which "
    "chooses its way when it first sees an image; that is not timed, and `way` says which. The limit is the "
    "ratio of the multiplications of patches and of the dense network, by dilation. Settings, the same for "
    "all methods: float32; float32 in channels_last; autocast to bfloat16, in channels_last where there is "
    f"one. All in turn, {ROUNDS} rounds after one to warm up, of {REPEATS} runs each of which the fastest "
    "counts (one, where it takes long); ratios within each round."
)
LAYERS: dict[int, dict[str, Any]] = {
    1: {"conv": nn.Conv1d, "pool": nn.MaxPool1d},
    2: {"conv": nn.Conv2d, "pool": nn.MaxPool2d},
    3: {"conv": nn.Conv3d, "pool": nn.MaxPool3d},
}
LAST = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network as a list of kernels (positive: convolution, negative: pooling), and an image."""

    kernels: tuple[int, ...]
    channels: int
    width: int
    classes: int
    shape: tuple[int, ...]

    @property
    def axes(self) -> int:
        """Spatial axes."""
        return len(self.shape)


CASES = {
    "signal": Case(
        kernels=(11, -3, 9, -3, 7, -3, 5), channels=22, width=48, classes=4, shape=(6000,)
    ),
    "image": Case(
        kernels=(4, -2, 5, -2, 4, -2, 5), channels=3, width=48, classes=2, shape=(128, 128)
    ),
    "volume": Case(kernels=(3, -2, 3, -2, 3), channels=1, width=24, classes=2, shape=(36, 36, 36)),
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How every method is run."""

    name: str
    backward: bool

    @property
    def key(self) -> str:
        """What it is called in the result."""
        return f"{self.name}_{'forward_backward' if self.backward else 'forward'}"

    def image(self, image: Tensor) -> Tensor:
        """Return an image as the methods get it."""
        if self.name == "float32":
            return image
        return image.contiguous(memory_format=LAST[image.ndim - 2])

    def precision(self, device: str) -> AbstractContextManager[Any]:
        """Return what the methods run under."""
        half = self.name == "bfloat16"
        return torch.autocast(device, torch.bfloat16) if half else nullcontext()


def settings(axes: int) -> list[Setting]:
    """Return all settings; along one axis there is no channels_last."""
    names = ("float32", "channels_last", "bfloat16") if axes > 1 else ("float32", "bfloat16")
    return [Setting(name=name, backward=b) for name, b in product(names, (False, True))]


def strided(case: Case) -> nn.Sequential:
    """Return the network as it is for patches."""
    kinds, layers, before = LAYERS[case.axes], [], case.channels
    for k in case.kernels:
        if k < 0:
            layers.append(kinds["pool"](-k))
        else:
            layers += [kinds["conv"](before, case.width, k), nn.ReLU()]
            before = case.width
    return nn.Sequential(*layers, kinds["conv"](before, case.classes, 1)).eval()


def dilated(net: nn.Sequential, axes: int) -> nn.Sequential:
    """Return the network with dilation for its strides, by hand."""
    kinds, layers, apart = LAYERS[axes], [], 1
    for layer in net:
        if isinstance(layer, kinds["pool"]):
            layers.append(kinds["pool"](layer.kernel_size, 1, dilation=apart))
            apart *= layer.kernel_size
        elif isinstance(layer, kinds["conv"]):
            start, stop, kernel = layer.in_channels, layer.out_channels, layer.kernel_size
            wide = kinds["conv"](start, stop, kernel, dilation=apart)
            wide.weight, wide.bias = layer.weight, layer.bias
            layers.append(wide)
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


def on_fragments(net: nn.Sequential, axes: int, x: Tensor) -> Tensor:
    """Return the dense map by fragments: pooling at every position, then pieces side by side, by hand."""
    sizes, pieces = list(x.shape[2:]), 1
    pool, conv = LAYERS[axes]["pool"], LAYERS[axes]["conv"]
    for layer in net:
        if isinstance(layer, pool):
            k = layer.kernel_size
            x = apart(pool(k, 1)(x), k, axes)
            sizes = [n - (k - 1) * pieces for n in sizes]
            pieces *= k
        else:
            x = layer(x)
            if isinstance(layer, conv):
                sizes = [n - (layer.kernel_size[0] - 1) * pieces for n in sizes]
    return together(x, net, sizes, axes)


def apart(x: Tensor, k: int, axes: int) -> Tensor:
    """Return every k-th position along each axis, for each start, side by side in the batch."""
    x = nn.functional.pad(x, [m for n in reversed(x.shape[2:]) for m in (0, -n % k)])
    shape = [x.shape[0], x.shape[1]]
    for n in x.shape[2:]:
        shape += [n // k, k]
    starts, positions = [3 + 2 * a for a in range(axes)], [2 + 2 * a for a in range(axes)]
    x = x.reshape(shape).permute([*starts, 0, 1, *positions])
    return x.reshape(-1, *x.shape[axes + 1 :])


def together(x: Tensor, net: nn.Sequential, sizes: list[int], axes: int) -> Tensor:
    """Return the map that the pieces make, level by level from the last."""
    pool = LAYERS[axes]["pool"]
    for layer in reversed([m for m in net if isinstance(m, pool)]):
        k = layer.kernel_size
        x = x.reshape(*[k] * axes, -1, *x.shape[1:])
        order = [axes, axes + 1, *(n for a in range(axes) for n in (axes + 2 + a, a))]
        shape = [n * k for n in x.shape[axes + 2 :]]
        x = x.permute(order).reshape(x.shape[axes], x.shape[axes + 1], *shape)
    return x[(..., *(slice(n) for n in sizes))]


def by_braindecode(case: Case, net: nn.Module) -> nn.Module:
    """Return the network converted by braindecode."""
    from braindecode.models.base import EEGModuleMixin

    copied = strided(case)
    EEGModuleMixin.to_dense_prediction_model(copied)
    for name, weight in net.named_parameters():  # the same ones: gradients are asked for them
        layer, _, kind = name.rpartition(".")
        setattr(copied.get_submodule(layer), kind, weight)
    return copied


def methods(case: Case, net: nn.Sequential) -> dict[str, Run]:
    """Return the methods that take the whole image, by name."""
    options = {"channels": case.channels, "ndim": case.axes}
    runs: dict[str, Run] = {
        "densify": fc.densify(net, **options),
        "dilation": dilated(net, case.axes),
        "fragments": partial(on_fragments, net, case.axes),
        "stitched": fc.shift_and_stitch(net, **options),
    }
    if case.axes == 2 and find_spec("braindecode"):
        runs["braindecode"] = by_braindecode(case, net)
    return runs


def sub_images(image: Tensor, field: tuple[int, ...]) -> Tensor:
    """Return some sub-images of one field each, spread over the image."""
    starts = [n - f + 1 for n, f in zip(image.shape[2:], field, strict=True)]
    found: list[Tensor] = []
    for i in range(PATCHES):
        at = [i * 7919 * (a + 3) % n for a, n in enumerate(starts)]
        box = [slice(start, start + f) for start, f in zip(at, field, strict=True)]
        found.append(image[(..., *box)])
    return torch.cat(found)


def measure(name: str, device: str, rounds: int) -> dict[str, Any]:
    """Return the ratios of one network, in every setting."""
    torch.manual_seed(0)
    case = CASES[name]
    net = strided(case).to(device)
    field = fc.trace(net, case.channels, case.axes).field
    image = torch.randn(1, case.channels, *case.shape, device=device)
    runs = methods(case, net)
    with torch.no_grad():
        maps = {key: run(image) for key, run in runs.items()}
    units = maps["densify"][0, 0].numel()
    sub = units * multiplications(record(net, case.channels, field))
    limit = sub / multiplications(record(dilated(net, case.axes), case.channels, case.shape))
    found: dict[str, Any] = {
        "field": field, "units": units, "limit": limit,
        "largest_difference": max(float((y - maps["densify"]).abs().max()) for y in maps.values()),
    }  # fmt: skip
    timed = {"patches": (net, sub_images(image, field))} | {k: (r, image) for k, r in runs.items()}
    for setting in settings(case.axes):
        seconds = in_turn(timed, setting, rounds, list(net.parameters()))
        seconds["patches"] = [s * units / PATCHES for s in seconds["patches"]]
        dense = runs["densify"]
        found[setting.key] = ratios(seconds, limit) | {"way": list(dense._chosen.values())[-1][0]}  # type: ignore[attr-defined]
    return found


def in_turn(
    timed: Mapping[str, tuple[Run, Tensor]],
    setting: Setting,
    rounds: int,
    weights: list[nn.Parameter],
) -> dict[str, list[float]]:
    """Return the seconds of every method in every round but the first."""
    seconds: dict[str, list[float]] = {key: [] for key in timed}
    for turn in range(rounds + 1):
        for key, (run, image) in timed.items():
            took = fastest(run, setting.image(image), setting, weights)
            if turn:
                seconds[key].append(took)
    return seconds


def fastest(run: Run, image: Tensor, setting: Setting, weights: list[nn.Parameter]) -> float:
    """Return the seconds of the fastest of a few runs."""
    best = float("inf")
    for _ in range(REPEATS):
        wait()
        start = time.perf_counter()
        with setting.precision(image.device.type), torch.set_grad_enabled(setting.backward):
            y = run(image)
        if setting.backward:
            torch.autograd.grad(y.float().sum(), weights)
        wait()
        best = min(best, time.perf_counter() - start)
        if best > LONG_S:
            break
    return best


def wait() -> None:
    """Let a GPU finish."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratios(seconds: Mapping[str, list[float]], limit: float) -> dict[str, Any]:
    """Return by how much every method takes longer than densify, and the share of the limit."""
    by_hand = zip(seconds["dilation"], seconds["fragments"], strict=True)
    others = {**seconds, "better_by_hand": [min(pair) for pair in by_hand]}
    found: dict[str, Any] = {"densify_s": statistics.median(seconds["densify"])}
    for key, took in others.items():
        if key != "densify":
            found[f"{key}_over_densify"] = spread(took, seconds["densify"])
    found["of_limit"] = found["patches_over_densify"]["median"] / limit
    return found


def spread(one: list[float], other: list[float]) -> dict[str, float]:
    """Return the median, least and largest ratio within rounds."""
    found = [a / b for a, b in zip(one, other, strict=True)]
    return {"median": statistics.median(found), "min": min(found), "max": max(found)}


def main() -> None:
    """Measure all networks and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trial", action="store_true")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    rounds = 1 if options.trial else ROUNDS
    figures = {name: measure(name, options.device, rounds) for name in CASES}
    if options.trial:
        print(json.dumps(figures, indent=2))
        return
    suffix = "" if options.device == "cpu" else f"_{options.device}"
    bench.write(f"dense{suffix}", METHOD, figures)


if __name__ == "__main__":
    main()
