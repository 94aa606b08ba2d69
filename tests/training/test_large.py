"""Training on images that are never in memory as a whole: Zarr and TIFF, read in parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import torch
import zarr

from fullconv.errors import BadConfigError, BadOutputError
from fullconv.images import open_dataset, open_image, survey
from fullconv.networks import build
from fullconv.sampling import Balanced, Patchwise, Sampled, Whole
from fullconv.training import ImageData, TrainConfig, evaluate, train
from fullconv.training._large import Labels, LargeImages, Pixels, parts_of
from fullconv.training._losses import criterion
from fullconv.training._order import Key
from fullconv.training._regime import regime
from fullconv.training._step import Step

SIDES = ((220, 300), (260, 240), (200, 210))
NETWORK: dict[str, Any] = {"options": {"width": 4, "depth": 1}}


def write_large(root: Path, kind: str = "zarr") -> Path:
    """Bright squares on noise; a row of units to ignore."""
    draw = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i, (height, width) in enumerate(SIDES):
        mask = np.zeros((height, width), np.uint8)
        for _ in range(6):
            y, x = draw.integers(0, height - 30), draw.integers(0, width - 30)
            mask[y : y + 30, x : x + 30] = 1
        image = (draw.integers(0, 60, (3, height, width)) + mask * 150).astype(np.uint8)
        mask[0] = 255
        if kind == "zarr":
            for name, array, axes in (("images", image, "cyx"), ("masks", mask, "yx")):
                chunks = (*(3,) * (array.ndim - 2), 64, 64)
                stored = zarr.create_array(
                    f"{root}/{name}/{i}.zarr", shape=array.shape, dtype="u1", chunks=chunks,
                    dimension_names=list(axes),
                )  # fmt: skip
                stored[...] = array
        else:
            tile = {"tile": (64, 64), "compression": "zlib"}
            tifffile.imwrite(root / "images" / f"{i}.tif", np.moveaxis(image, 0, -1), photometric="rgb", **tile)  # fmt: skip
            tifffile.imwrite(root / "masks" / f"{i}.tif", mask, **tile)
    return root


@pytest.fixture(scope="module")
def zarrs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_large(tmp_path_factory.mktemp("large") / "zarrs")


@pytest.fixture
def nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fullconv.training._data.CACHE_SHARE", 0)


SAMPLINGS = ("auto", "whole", "crop:2x64", "patchwise:8", "patchwise:2x32", "balanced:16",
             "balanced-unbiased:16", "sampled:0.5")  # fmt: skip
QUICK = ("auto", "whole", "patchwise:2x32")


@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
@pytest.mark.usefixtures("nothing_fits")
@pytest.mark.parametrize(
    "sampling",
    [s if s in QUICK else pytest.param(s, marks=pytest.mark.slow) for s in SAMPLINGS],
)
def test_every_sampling_learns_from_images_in_parts(
    sampling: str, zarrs: Path, tmp_path: Path
) -> None:
    config = TrainConfig(data=zarrs, out=tmp_path / "run", epochs=1, sampling=sampling, workers=0, **NETWORK)  # fmt: skip
    run = train(config)
    assert run.evaluation()["images"]
    name = run.evaluation()["images"][0]["name"]
    assert (run.predictions / f"{name}.zarr").exists()
    assert len(run.steps()) >= 1


@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
@pytest.mark.usefixtures("nothing_fits")
def test_hard_units_of_images_in_parts_are_refused(zarrs: Path, tmp_path: Path) -> None:
    config = TrainConfig(data=zarrs, out=tmp_path / "run", epochs=1, sampling="hard:0.5", **NETWORK)
    with pytest.raises(BadConfigError, match="`sampling` = hard needs the loss of every unit"):
        train(config)
    config = TrainConfig(data=zarrs, out=tmp_path / "b", epochs=1, sampling="whole", loss="dice", **NETWORK)  # fmt: skip
    with pytest.raises(
        BadConfigError, match="must be a sum over units for images that are read in"
    ):
        train(config)


def test_small_arrays_are_cached_and_train_as_pictures_do(zarrs: Path) -> None:
    dataset = open_dataset(zarrs)
    data = ImageData(dataset, survey(dataset))
    assert not data.large
    assert data.cached_bytes > 0
    data.setup()


@pytest.mark.usefixtures("nothing_fits")
@pytest.mark.parametrize(("memory", "workers", "some"), [
    (None, None, True), (2**30, None, False), (2**30, 1, True)
])  # fmt: skip
def test_processes_that_read_are_started_where_no_memory_is_given_or_they_are_asked_for(
    memory: int | None, workers: int | None, some: bool, zarrs: Path
) -> None:
    dataset = open_dataset(zarrs)
    data = ImageData(dataset, survey(dataset), memory=memory, workers=workers)
    data.follow(regime("crop:2x64", batch=1, ignore=255))
    data.setup()
    assert bool(data.train_dataloader().num_workers) == some


@pytest.mark.parametrize("kind", ["zarr", "tiff"])
def test_the_survey_of_pieces_is_that_of_the_whole(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fullconv.images._lazy.LARGE_BYTES", 0)
    monkeypatch.setattr("fullconv.regions._pieces.PIECE", 2**12)
    root = write_large(tmp_path / kind, kind)
    found = survey(open_dataset(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    images, masks = [], []
    for sample in open_dataset(root).splits["train"]:
        path = str(sample.image)
        whole = zarr.open_array(path)[...] if kind == "zarr" else tifffile.imread(path).transpose(2, 0, 1)  # fmt: skip
        images.append(whole.reshape(3, -1).astype(np.float64))
        mask = str(sample.mask)
        masks.append(
            (zarr.open_array(mask)[...] if kind == "zarr" else tifffile.imread(mask)).ravel()
        )
    pixels, labels = np.concatenate(images, 1), np.concatenate(masks)
    assert np.allclose(found.mean, pixels.mean(1), rtol=1e-12)
    assert np.allclose(found.std, pixels.std(1), rtol=1e-12)
    assert found.counts["train"] == ((labels == 0).sum(), (labels == 1).sum())
    assert found.ignored["train"] == (labels == 255).sum()


@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
def test_pairs_in_one_file_are_trained_on_and_scored(zarrs: Path, tmp_path: Path) -> None:
    rows = ["image,mask,split"]
    with h5py.File(tmp_path / "one.h5", "w") as file:
        for i, split in enumerate(("train", "train", "val")):
            file[f"s{i}/raw"] = zarr.open_array(f"{zarrs}/images/{i}.zarr")[...]
            file[f"s{i}/mask"] = zarr.open_array(f"{zarrs}/masks/{i}.zarr")[...]
            rows.append(f"one.h5::s{i}/raw,one.h5::s{i}/mask,{split}")
    (tmp_path / "data.csv").write_text("\n".join(rows) + "\n")
    config = TrainConfig(data=tmp_path / "data.csv", out=tmp_path / "run", epochs=1, sampling="whole", **NETWORK)  # fmt: skip
    run = train(config)
    assert [image["name"] for image in run.evaluation()["images"]] == ["one_s2_raw"]
    assert open_image(run.predictions / "one_s2_raw.zarr").shape == (1, *SIDES[2])
    with pytest.raises(BadOutputError, match="`out` must have no `::`"):
        train(replace(config, out=tmp_path / "a::b"))
    assert not (tmp_path / "a::b").exists()


def large(zarrs: Path, **options: Any) -> LargeImages:
    dataset = open_dataset(zarrs)
    return LargeImages(dataset.splits["train"], survey(dataset).classes, **options)


@pytest.mark.parametrize("sampler", [
    None, Whole(), Sampled(0.3), Patchwise(9), Patchwise(3, 40), Balanced(20), Balanced(20, unbiased=True),
])  # fmt: skip
def test_a_step_over_images_in_parts_is_that_in_memory(sampler: Any, zarrs: Path) -> None:
    """The units are drawn from parts; the same units in memory give the same loss and gradient."""
    images = large(zarrs)
    torch.manual_seed(0)
    net = build("unet", classes=2, width=4, depth=1).double().eval()
    loss: Any = criterion("cross-entropy", weights=[1.0, 3.0], ignore=255)
    loss.double()
    pairs = [images[Key(0)], images[Key(1)]]
    groups = [([image], [labels]) for image, labels in pairs]
    units: list[Any] = []

    def drawn(targets: Any, generator: torch.Generator) -> Any:
        units[:] = sampler(targets, generator)
        return list(units)

    step = Step(net, loss, sampler=None if sampler is None else drawn, memory=2**24)
    found = torch.autograd.grad(step(groups, (0, 1)), list(net.parameters()))
    held = [
        (torch.from_numpy(i[(...,)])[None].double(), torch.from_numpy(t[(...,)])[None].long())
        for i, t in pairs
    ]
    dense: list[Any] = [dense_units(u, t[0]) for u, (_, t) in zip(units or [None, None], held, strict=True)]  # fmt: skip
    plain = Step(net, loss, sampler=lambda *_: dense, memory=2**24)
    expected = torch.autograd.grad(plain(held, (0, 1)), list(net.parameters()))
    for one, exact in zip(found, expected, strict=True):
        assert (one - exact).norm() <= 1e-6 * exact.norm() + 1e-12


def dense_units(units: Any, target: torch.Tensor) -> torch.Tensor:
    if units is None:
        return torch.ones(target.shape)
    if hasattr(units, "boxes") or isinstance(units, list):
        boxes = getattr(units, "boxes", units)
        weights = getattr(units, "weights", None) or [1.0] * len(boxes)
        found = torch.zeros(target.shape)
        for box, weight in zip(boxes, weights, strict=True):
            found[box.slices] += weight
        return found
    return torch.from_numpy(units[tuple(slice(0, n) for n in target.shape)]).float()


@pytest.mark.parametrize("flips", [(), (0,), (1,), (0, 1)])
def test_draws_by_class_are_of_their_class_and_even(flips: tuple[int, ...], zarrs: Path) -> None:
    images = large(zarrs)
    image, labels = images[Key(0)]
    assert isinstance(image, Pixels)
    turned = Labels(labels.array.flipped(flips), flips, lambda: images.index(0))
    whole = turned[(...,)]
    boxes, counts = turned.blocks()
    for box, count in zip(boxes, counts, strict=True):
        assert [(whole[box.slices] == c).sum() for c in (0, 1)] == count.tolist()
    drawn = Balanced(40)([turned], torch.Generator().manual_seed(1))[0]
    classes = [int(whole[box.start]) for box in drawn.boxes]
    assert sorted(classes) == [0] * 20 + [1] * 20
    assert len({box.start for box in drawn.boxes}) == 40


def test_every_unit_of_a_class_is_drawn_equally_often(zarrs: Path) -> None:
    labels = large(zarrs)[Key(0)][1]
    whole = labels[(...,)]
    hits = np.zeros(whole.shape)
    for seed in range(60):
        drawn = Balanced(800)([labels], torch.Generator().manual_seed(seed))[0]
        for box in drawn.boxes:
            hits[box.start] += 1
    for label in (0, 1):
        some = hits[whole == label]
        left, right = some[: len(some) // 2].mean(), some[len(some) // 2 :].mean()
        assert left == pytest.approx(right, rel=0.1)
    assert not hits[whole == 255].any()


def test_a_random_share_is_the_same_whatever_part_is_asked_for() -> None:
    class Shaped:
        shape = (700, 900)

    units = Sampled(0.25, cell=3)([Shaped()], torch.Generator().manual_seed(0))[0]
    whole = units[(slice(0, 700), slice(0, 900))]
    assert whole.mean() == pytest.approx(0.25, abs=0.01)
    assert np.array_equal(units[(slice(301, 640), slice(250, 800))], whole[301:640, 250:800])
    cells = whole[:699].reshape(233, 3, 300, 3)
    assert (cells.all((1, 3)) == cells.any((1, 3))).all()


def test_the_index_of_classes_is_kept(zarrs: Path) -> None:
    seen: list[int] = []
    first = large(zarrs).index(0, lambda done, _: seen.append(done))
    seen.clear()
    again = large(zarrs).index(0, lambda done, _: seen.append(done))
    assert not seen
    assert np.array_equal(first.counts, again.counts)


def test_augmented_parts_are_those_of_the_augmented_whole(zarrs: Path) -> None:
    data = ImageData(dataset := open_dataset(zarrs), survey(dataset))
    data.__dict__["large"] = True
    data.setup()
    assert isinstance(data._train, LargeImages)
    for epoch in range(4):
        image, labels = data._train[Key(0, epoch)]
        whole = image[(...,)]
        assert whole.dtype == np.float32
        part = image[(slice(None), slice(30, 90), slice(100, 101))]
        assert np.array_equal(part, whole[:, 30:90, 100:101])
        assert np.array_equal(labels[30:90, 5:9], labels[(...,)][30:90, 5:9])
        bright = whole.mean(0)[labels[(...,)] == 1].mean()
        assert bright > whole.mean(0)[labels[(...,)] == 0].mean() + 50


def test_parts_to_validate_on_lie_in_their_images_and_cover_small_ones() -> None:
    keys = parts_of([(5000, 7000), (300, 200)])
    boxes = [key.box for key in keys]
    assert 40 <= len(keys) <= 80
    assert all(box is not None and box.size <= 512**2 for box in boxes)
    assert boxes[-1].shape == (300, 200)
    firsts = {box.start for box in boxes[:-1]}
    assert len(firsts) == len(boxes) - 1
    assert max(box.stop[0] for box in boxes[:-1]) > 4000


def test_metrics_from_disk_to_disk_are_those_in_memory(zarrs: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = build("unet", classes=2, width=4, depth=1).eval()
    dataset = open_dataset(zarrs)
    classes = survey(dataset).classes
    found = evaluate(net, dataset.samples, classes, memory="30 MiB", folder=tmp_path)
    matrix = np.zeros((2, 2), int)
    for sample in dataset.samples:
        pixels = torch.from_numpy(zarr.open_array(str(sample.image))[...].astype(np.float32))
        truth = zarr.open_array(str(sample.mask))[...]
        with torch.inference_mode():
            labels = net(pixels[None])[0].argmax(0).numpy()
        np.add.at(matrix, (truth[truth != 255], labels[truth != 255]), 1)
        assert np.array_equal(zarr.open_array(f"{tmp_path}/{sample.name}.zarr/0")[...], labels)
    assert np.array_equal(found.matrix, matrix)
