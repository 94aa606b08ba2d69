"""Every unit of an image: patches one by one in batches, or one pass, beside what operations say.

Usage: python benchmarks/patchwise_vs_whole.py            (all cases, writes the result)
       python benchmarks/patchwise_vs_whole.py --trial    (once each, writes nothing)
       ... --device cuda                                  (a GPU; its results are kept apart)
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import product

import bench
import torch
from torch import Tensor, nn
from torch._prims_common import suggest_memory_format

import fullconv as fc
from fullconv.execution import multiplications
from fullconv.tracing import record

BATCH = 20
ROUNDS = 5
REPEATS = 3
FORMATS = (torch.contiguous_format, torch.channels_last)
METHOD = (
    "Forward, and forward with backward, over every unit of one image: `patches` cuts the sub-image "
    f"of each unit out and runs them in batches of {BATCH}, as a patchwise trainer would; `whole` is one "
    "step of fullconv.StepLoss over all units (its forward pass alone: the network on the image). "
    "The limit is the ratio of the multiplications of both. CPU, float32, all cores; each of the two in the "
    "memory format in which it took less time when it was tried once; patches and whole in turn, "
    f"{ROUNDS} rounds after one to warm up (of whole, the fastest of {REPEATS} runs each); ratios pair by "
    "pair. The gradients of both are compared once; "
    "CaffeNet pads between its layers, so that its patches see zeros where the map sees image."
)


def caffenet() -> nn.Module:
    """FCN-AlexNet without padding around the image (Long, Shelhamer & Darrell 2015, 21 classes)."""
    return nn.Sequential(
        nn.Conv2d(3, 96, 11, 4), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), nn.LocalResponseNorm(5),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.LocalResponseNorm(5), nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(256, 4096, 6), nn.ReLU(), nn.Conv2d(4096, 4096, 1), nn.ReLU(),
        nn.Conv2d(4096, 21, 1),
    )  # fmt: skip


def patch_net(width: int = 48) -> nn.Module:
    """A network of 63 x 63 px patches with a unit at every position: pooling carried by dilation."""
    return nn.Sequential(
        nn.Conv2d(3, width, 4), nn.ReLU(), nn.MaxPool2d(2, 1),
        nn.Conv2d(width, width, 5, dilation=2), nn.ReLU(), nn.MaxPool2d(2, 1, dilation=2),
        nn.Conv2d(width, width, 4, dilation=4), nn.ReLU(), nn.MaxPool2d(2, 1, dilation=4),
        nn.Conv2d(width, width, 5, dilation=8), nn.ReLU(), nn.Conv2d(width, 2, 1),
    )  # fmt: skip


def strided_patch_net(dense: nn.Module, width: int = 48) -> nn.Module:
    """The same weights as a classifier of patches: strides where the other has dilation."""
    net = nn.Sequential(
        nn.Conv2d(3, width, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(width, width, 5), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(width, width, 4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, width, 5), nn.ReLU(), nn.Conv2d(width, 2, 1),
    )  # fmt: skip
    net.load_state_dict(dense.state_dict())
    return net


def measure(name: str, device: str, rounds: int) -> dict[str, object]:
    """Return the ratios of one network."""
    torch.manual_seed(0)
    if name == "caffenet":
        whole_net, shape, classes, side = caffenet(), (500, 500), 21, 227
        patches_net = whole_net
    else:
        whole_net, shape, classes, side = patch_net(), (128, 128), 2, 63
        patches_net = strided_patch_net(whole_net)
    whole_net, patches_net = whole_net.to(device), patches_net.to(device)
    geometry = fc.trace(whole_net.eval(), shape=shape)
    map_shape = geometry.map_shape(shape)
    image = torch.randn(3, *shape, device=device)
    target = torch.randint(classes, map_shape, device=device)
    criterion = nn.CrossEntropyLoss(reduction="none")
    step = fc.StepLoss(whole_net, criterion)
    # Poolings that round up end on a unit whose patch reaches past the image.
    wide = nn.functional.pad(image, (0, side, 0, side))
    corners = [
        tuple(slice(u * p, u * p + side) for u, p in zip(unit, geometry.period, strict=True))
        for unit in product(*map(range, map_shape))
    ]
    labels = target.flatten()

    def patches(*, backward: bool) -> Tensor:
        total = torch.zeros((), device=device)
        for start in range(0, len(corners), BATCH):
            stack = torch.stack([wide[(slice(None), *c)] for c in corners[start : start + BATCH]])
            stack = stack.contiguous(
                memory_format=suggest_memory_format(next(patches_net.parameters()))
            )
            logits = patches_net(stack).flatten(1)
            loss = criterion(logits, labels[start : start + BATCH]).sum() / len(corners)
            if backward:
                loss.backward()
            total += loss.detach()
        return total

    def whole(*, backward: bool) -> Tensor:
        loss = step([image], [target])
        if backward:
            loss.backward()
        return loss.detach()

    formats = {
        "patches": _in_its_format(patches, patches_net), "whole": _in_its_format(whole, whole_net)
    }  # fmt: skip
    limit = len(corners) * _work(patches_net, (side, side)) / _work(whole_net, shape)
    found: dict[str, object] = {
        "units": len(corners), "limit": limit, "formats": formats, "gradient_difference": _difference(patches, whole, patches_net, whole_net),
    }  # fmt: skip
    for kind, backward in (("forward", False), ("forward_backward", True)):
        with torch.set_grad_enabled(backward):
            found[kind] = _ratio(patches, whole, backward=backward, rounds=rounds, limit=limit)
    return found


def _in_its_format(run: Callable[..., Tensor], net: nn.Module) -> str:
    """Leave a network in the memory format in which it is faster, and return its name."""
    took: dict[torch.memory_format, float] = {}
    for kind in FORMATS:
        net.to(memory_format=kind)
        run(backward=True)
        took[kind] = _seconds(run, backward=True)
    best = min(took, key=took.__getitem__)
    net.to(memory_format=best)
    return str(best).removeprefix("torch.")


def _ratio(
    patches: Callable[..., Tensor],
    whole: Callable[..., Tensor],
    *,
    backward: bool,
    rounds: int,
    limit: float,
) -> dict[str, object]:
    seconds: dict[str, list[float]] = {"patches": [], "whole": []}
    for turn in range(rounds + 1):
        for name, run in (("patches", patches), ("whole", whole)):
            repeats = 1 if name == "patches" else REPEATS
            took = min(_seconds(run, backward) for _ in range(repeats))
            if turn:
                seconds[name].append(took)
    pairs = [p / w for p, w in zip(*seconds.values(), strict=True)]
    ratio = statistics.median(pairs)
    found = {"median": ratio, "min": min(pairs), "max": max(pairs)}
    return {"patches_over_whole": found, "of_limit": ratio / limit}


def _seconds(run: Callable[..., Tensor], backward: bool) -> float:
    _wait()
    start = time.perf_counter()
    run(backward=backward)
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _work(net: nn.Module, shape: tuple[int, ...]) -> int:
    return multiplications(record(net, 3, shape))


def _difference(
    patches: Callable[..., Tensor], whole: Callable[..., Tensor], one: nn.Module, other: nn.Module
) -> float:
    """Return the largest relative difference of the gradients of both."""
    grads: list[list[Tensor]] = []
    for run, net in ((patches, one), (whole, other)):
        net.zero_grad()
        run(backward=True)
        grads.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
        net.zero_grad()
    return max(float((a - b).norm() / b.norm()) for a, b in zip(*grads, strict=True))


def main() -> None:
    """Measure both networks and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trial", action="store_true")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    rounds = 1 if options.trial else ROUNDS
    figures = {n: measure(n, options.device, rounds) for n in ("caffenet", "patch63")}
    if options.trial:
        print(json.dumps(figures, indent=2))
    else:
        suffix = "" if options.device == "cpu" else f"_{options.device}"
        bench.write(f"patchwise_vs_whole{suffix}", METHOD, figures)


if __name__ == "__main__":
    main()
