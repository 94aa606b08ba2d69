"""Networks that start from weights of elsewhere, which bring their preprocessing along.

Every layer is accounted for: taken, left fresh for a reason that is known (scores of classes, bilinear
kernels), or left out for such a reason (the classifier's head). Anything else is an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from fullconv.errors import BadConfigError
from fullconv.networks._encoder import Encoder, Pixels, from_unit
from fullconv.networks._fcn import FCN, FixedEnlarging
from fullconv.networks._normalized import Normalized
from fullconv.networks._trunk import Trunk
from fullconv.networks._weight_files import read_tensors

# Of the authors' code, blue, green, red there; on pixels from 0 to 255, which are not scaled.
CAFFE = Pixels(mean=(122.67891434, 116.66876762, 104.00698793), std=(1.0, 1.0, 1.0))
IMAGENET = from_unit((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

_CAFFE_NAME = re.compile(
    r"(?P<layer>.+?)(?:[./:_](?P<word>weights?|bias(?:es)?|[wWbB])|[./:](?P<n>[01]))"
)
# Where torchvision and timm have the layers of VGG16.
_VGG16 = dict(
    zip(
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        ("1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "4_1", "4_2", "4_3", "5_1", "5_2", "5_3"),
        strict=True,
    )
)
_VGG16_LAYERS = (
    {f"features.{place}": f"conv{name}" for place, name in _VGG16.items()}
    | {"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "fc8"}
    | {"pre_logits.fc1": "fc6", "pre_logits.fc2": "fc7", "head.fc": "fc8"}
)
# The heads of classifiers, which no map needs.
_HEADS = re.compile(r"(fc8|prob|loss\d?|classifier)([/_.].*)?")
# By how much the same number in half precision may be off.
_ROUNDED = 2.0**-11
_SHOWN = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """What became of every layer.

    Attributes:
        source: What the weights are: ``run``, ``classifier``, ``Caffe`` or ``torchvision or timm``.
        taken: Names in the network that got their weights from the file.
        fresh: Names in the network that keep their fresh ones.
        unused: Names in the file that the network has no place for.
    """

    source: str
    taken: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]


def start_from(net: Normalized, path: str | Path) -> Start:
    """Give a network the weights in a file, and the preprocessing that goes with them.

    Understood are files of a run of this project (of the same network, or of the FCN with fewer
    skips), state dicts of torchvision and timm, and layers of Caffe by their names, as ``conv1_1.weight``,
    ``conv1_1/0`` or ``fc6_b``; fully connected layers may be flat. Weights for blue, green, red are
    turned, so that images stay red, green, blue.

    Args:
        net: The network on raw pixel values, with the preprocessing that the weights may change; it is
            changed in place, or not at all.
        path: The file, or a folder of ``.npy`` files.

    Raises:
        BadConfigError: If the file cannot be read, or a layer is missing, has another shape, has no
            place in the network, is there twice, or holds numbers that are not real and finite; the
            message names it. If `net` has no preprocessing.
    """
    _check_normalized(net)
    path = Path(path)
    found = read_tensors(path)
    _check_numbers(found, path)
    inner = _without_wrapper(net.net)
    if {"mean", "std"} <= found.keys():
        return _from_run(net, found, path)
    trunk = getattr(inner, "trunk", None)
    if isinstance(trunk, Encoder):
        return _from_classifier(net, trunk, found, path)
    if isinstance(trunk, Trunk):
        return _from_layers(net, inner, found, path)
    raise BadConfigError(
        f"`weights` = {path} must be those of a run for this network, which has no trunk that others "
        "have; got another file"
    )


def _check_normalized(net: nn.Module) -> None:
    if not isinstance(net, Normalized):
        raise BadConfigError(
            "`net` must be a `Normalized`, whose preprocessing the weights may change, got "
            f"{type(net).__name__}; give `Normalized(net, mean, std)` with the mean and std of each "
            "channel"
        )


def _check_numbers(found: Mapping[str, Tensor], path: Path) -> None:
    """Refuse what a network of 32-bit numbers cannot hold."""
    for name, value in found.items():
        if value.layout != torch.strided:
            raise BadConfigError(
                f"`weights` = {path} must hold dense tensors, got a sparse one in {name}; save its "
                "`to_dense()`"
            )
        if value.is_complex() or not torch.isfinite(value.float()).all():
            kind = "complex numbers" if value.is_complex() else "infinite ones or NaN"
            raise BadConfigError(
                f"`weights` = {path} must hold real numbers that are finite in 32 bits, got {kind} in "
                f"{name}; export it again, or take weights from before they grew so"
            )


def _renamed(
    found: Mapping[str, Tensor], names: Mapping[str, str], path: Path
) -> dict[str, Tensor]:
    """Return the tensors by other names, each of which may be that of one tensor only."""
    before: dict[str, str] = {}
    for name in found:
        if (new := names[name]) in before:
            raise BadConfigError(
                f"`weights` = {path} must have each layer once, got {new} twice, as {before[new]!r} "
                f"and {name!r}; leave one of them out"
            )
        before[new] = name
    return {names[name]: value for name, value in found.items()}


def _from_run(net: Normalized, found: Mapping[str, Tensor], path: Path) -> Start:
    wanted = net.state_dict()
    fresh = [n for n in _without_any(wanted, found) if _is_of_a_skip(n)]
    unused = [n for n in found if n not in wanted and re.search(r"\bupscore", n)]
    _refuse(path, wanted, found, fresh, unused)
    taken = [n for n in wanted if n in found]
    net.load_state_dict({n: found[n] for n in taken}, strict=False)
    return Start(source="run", taken=tuple(taken), fresh=tuple(fresh), unused=tuple(unused))


def _from_classifier(
    net: Normalized, encoder: Encoder, found: Mapping[str, Tensor], path: Path
) -> Start:
    """Start an encoder from the whole classifier that it is part of."""
    wanted = encoder.net.state_dict()
    short = {_flat(n): n for n in wanted}
    whole = {_flat(n): shape for n, shape in encoder.whole.items()}
    given = _renamed(found, {n: _flat(n) for n in found}, path)
    counts = [n for n in short if n.endswith("num_batches_tracked") and n not in given]
    unused = [n for n in given if n in whole and not _place(n, short)]
    mapped = _renamed(given, {n: _place(n, short) or n for n in given}, path)
    _refuse(path, wanted, mapped, [short[n] for n in counts], unused)
    _check_channels(net, encoder.pixels, path)
    taken = [n for n in wanted if n in mapped]
    encoder.net.load_state_dict({n: mapped[n] for n in taken}, strict=False)
    _set_pixels(net, encoder.pixels or IMAGENET)
    rest = [n for n in net.net.state_dict() if ".trunk." not in n]
    return Start(source="classifier", taken=tuple(taken), fresh=tuple(rest), unused=tuple(unused))


def _from_layers(net: Normalized, fcn: nn.Module, found: Mapping[str, Tensor], path: Path) -> Start:
    """Start one of the published networks from Caffe's layers, or from torchvision's and timm's VGG16."""
    is_vgg = "features.0.weight" in found
    named = _vgg16_names(found, path) if is_vgg else _caffe_names(found, path)
    wanted = fcn.state_dict()
    given, unused = _placed(fcn, named, wanted)
    scores = any(n.startswith("score_") for n in given)
    fresh = [n for n in _without_any(wanted, given) if _is_of_a_skip(n) or not scores]
    fresh = [n for n in fresh if n.startswith(("score_", "upscore"))]
    _refuse(path, wanted, given, fresh, unused)
    _check_fixed(fcn, {n: named[n] for n in unused}, path)
    _check_channels(net, CAFFE, path)
    if not is_vgg:
        first = next(n for n in wanted if n.endswith("weight"))
        given[first] = given[first].flip(1)
    taken = [n for n in wanted if n in given]
    fcn.load_state_dict({n: given[n] for n in taken}, strict=False)
    _set_pixels(net, IMAGENET if is_vgg else CAFFE)
    source = "torchvision or timm" if is_vgg else "Caffe"
    return Start(source=source, taken=tuple(taken), fresh=tuple(fresh), unused=tuple(unused))


def _placed(
    fcn: nn.Module, named: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors by their names in the network, and those that it rightly has no place for."""
    places = {n.removeprefix("trunk."): n for n in wanted}
    scales = [f"{name}.weight" for name in _scales(fcn)]
    given: dict[str, Tensor] = {}
    unused: list[str] = []
    for name, value in named.items():
        layer, _, part = name.rpartition(".")
        enlarges = layer.startswith("upscore") and part == "weight"
        place = places.get(name)
        if place:
            given[place] = _unfolded(value, wanted[place])
        elif enlarges or name in scales or _HEADS.fullmatch(layer):
            unused.append(name)
        else:
            given[name] = value
    return given, unused


def _unfolded(value: Tensor, wanted: Tensor) -> Tensor:
    """Return a fully connected layer's weights as those of a convolution: the same numbers in order."""
    value = value.float()
    while value.ndim > 1 and value.shape[0] == 1 != wanted.shape[0]:
        value = value[0]
    same = value.shape[:1] == wanted.shape[:1] and value.numel() == wanted.numel()
    return value.reshape(wanted.shape) if same and value.ndim <= 2 else value


def _scales(fcn: nn.Module) -> dict[str, float]:
    """Return what the authors call the layers that scale a finer map, and the network's factors."""
    if not isinstance(fcn, FCN):
        return {}
    names = (score.replace("score_", "scale_") for score in fcn.scores)
    return dict(zip(names, fcn.scales, strict=True))


def _check_fixed(fcn: nn.Module, unused: Mapping[str, Tensor], path: Path) -> None:
    """Refuse other numbers than those that are fixed in the network."""
    scales = _scales(fcn)
    for name, value in unused.items():
        layer = name.rpartition(".")[0]
        fixed = getattr(fcn, layer, None)
        if isinstance(fixed, FixedEnlarging):
            _check_bilinear(fixed, layer, value, path)
        elif layer in scales:
            width = fcn.get_submodule(layer.replace("scale_", "score_")).in_channels
            _check_scale(scales[layer], cast(int, width), layer, value, path)


def _check_bilinear(fixed: FixedEnlarging, layer: str, value: Tensor, path: Path) -> None:
    """Refuse the kernels of an enlarging that was learned, or that is another one."""
    grouped = fixed.kernel.cpu()
    classes = torch.arange(len(grouped))
    dense = torch.zeros(len(classes), *grouped.shape[:1], *grouped.shape[2:])
    dense[classes, classes] = grouped[:, 0]
    expected = {k.shape: k for k in (grouped, dense)}.get(value.shape)
    if expected is None:
        raise BadConfigError(
            f"`weights` = {path} must have kernels of {tuple(dense.shape)} in {layer}, or one for "
            f"each class, {tuple(grouped.shape)}, got {tuple(value.shape)}; leave {layer} out: the "
            "network's kernels are fixed"
        )
    if not torch.allclose(value.float(), expected, atol=1e-4):
        raise BadConfigError(
            f"`weights` = {path} must have bilinear kernels in {layer}, got learned ones; build the "
            "network with `learned=all`"
        )


def _check_scale(scale: float, width: int, layer: str, value: Tensor, path: Path) -> None:
    """Refuse to scale a map by other factors than the network does."""
    found, expected = value.float(), torch.tensor(scale)
    if value.numel() in (1, width) and torch.allclose(found, expected, rtol=_ROUNDED, atol=0):
        return
    got = ", ".join(f"{number:g}" for number in found.flatten().unique()[:_SHOWN])
    raise BadConfigError(
        f"`weights` = {path} must have {scale:g} in {layer} for each of {width} channels, as the "
        f"network scales by that, got {got or 'none'} for {value.numel()}; take a network with those "
        "factors, or multiply the scores' weights by what differs, and leave the layer out"
    )


def _vgg16_names(found: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    names: dict[str, str] = {}
    for name in found:
        layer, _, part = name.rpartition(".")
        names[name] = f"{_VGG16_LAYERS.get(layer, layer)}.{part}"
    return _renamed(found, names, path)


def _caffe_names(found: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return tensors by ``LAYER.weight`` and ``LAYER.bias``, however the export wrote them."""
    names: dict[str, str] = {}
    for name in found:
        match = _CAFFE_NAME.fullmatch(name)
        if not match:
            raise BadConfigError(
                f"`weights` = {path} must name layers as conv1_1.weight and conv1_1.bias, got {name!r}"
            )
        is_bias = match["n"] == "1" or (match["word"] or "").lower().startswith("b")
        part = "bias" if is_bias else "weight"
        names[name] = f"{match['layer'].replace('/', '.')}.{part}"
    named = _renamed(found, names, path)
    return {n: v.flatten() if n.endswith(".bias") else v for n, v in named.items()}


def _refuse(
    path: Path,
    wanted: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    fresh: Sequence[str],
    unused: Sequence[str],
) -> None:
    """Raise unless every layer is taken, fresh or unused for a reason."""
    faults = [
        f"{n} is {tuple(given[n].shape)}, not {tuple(wanted[n].shape)}"
        for n in wanted
        if n in given and given[n].shape != wanted[n].shape
    ]
    faults += [f"{n} is missing" for n in wanted if n not in given and n not in fresh]
    faults += [f"{n} has no place" for n in given if n not in wanted and n not in unused]
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise BadConfigError(
            f"`weights` = {path} must hold the layers of this network, got others: "
            f"{'; '.join(faults[:_SHOWN])}{more}. Nothing was taken"
        )


def _check_channels(net: Normalized, pixels: Pixels | None, path: Path) -> None:
    if pixels is None or net.mean.numel() != len(pixels.mean):
        raise BadConfigError(
            f"`weights` = {path} must be for images of {net.mean.numel()} channels, got weights for "
            "red, green and blue; give images with 3 channels, or train from scratch"
        )


def _set_pixels(net: Normalized, pixels: Pixels) -> None:
    net.mean.copy_(torch.tensor(pixels.mean).view_as(net.mean))
    net.std.copy_(torch.tensor(pixels.std).view_as(net.std))


def _without_wrapper(net: nn.Module) -> nn.Module:
    inner = getattr(net, "net", net)
    return inner if isinstance(inner, nn.Module) else net


def _without_any(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """Return the tensors of layers of which nothing is given: half a layer is not fresh, but broken."""
    begun = {n.rpartition(".")[0] for n in given}
    return [n for n in wanted if n.rpartition(".")[0] not in begun]


def _is_of_a_skip(name: str) -> bool:
    """Return whether a stage of an FCN may have what the one before had not."""
    return bool(re.search(r"\b(score_pool\d|score_at\d+|upscore\w*)\.", name))


def _flat(name: str) -> str:
    """Return a name in which it does not matter how deep layers are nested."""
    return name.replace(".", "_")


def _place(name: str, short: Mapping[str, str]) -> str | None:
    """Return a tensor's name in the encoder, whose own names may have a prefix."""
    return short.get(name) or short.get(f"net_{name}")
