"""Images predicted from disk to disk, against the whole map in memory; ended, hindered and gone on with."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
import tifffile
import torch
import zarr
from torch import nn

import fullconv as fc
from fullconv.errors import BadConfigError, BadDataError, BadOutputError
from fullconv.execution import Behind, ahead, parse_memory
from fullconv.geometry import Box
from fullconv.images import ClassTable, open_image
from fullconv.networks import padded
from fullconv.prediction import Wanted, predict_to_disk
from fullconv.prediction._plan import planned
from fullconv.prediction._strips import Strips, in_chunks
from fullconv.regions import part_of

SIDES = (290, 350)
SMALL = "2 MiB"


def network(axes: int = 2, classes: int = 3) -> nn.Module:
    """A field of 9 px, padded; weights that label about evenly."""
    torch.manual_seed(0)
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[axes]
    pool = {2: nn.MaxPool2d, 3: nn.MaxPool3d}[axes]
    return nn.Sequential(
        conv(1, 6, 3, padding=1), nn.ReLU(), pool(3, 1, 1), conv(6, classes, 5, padding=2)
    ).eval()  # fmt: skip


def stored(folder: Path, sides: tuple[int, ...] = SIDES, **options: Any) -> tuple[Path, np.ndarray]:
    """An image on disk, `(1, *sides)`, and as an array."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, *sides), np.uint8)
    names = list("czyx"[:1] + "zyx"[3 - len(sides) :])
    chunks = (1, *(min(64, n) for n in sides))
    options = {"chunks": chunks, "dimension_names": names} | options
    if options.get("zarr_format") == 2:
        options.pop("dimension_names")
    path = folder / "image.zarr"
    array = zarr.create_array(str(path), shape=pixels.shape, dtype=pixels.dtype, **options)
    array[...] = pixels
    return path, pixels


def whole_map(net: nn.Module, pixels: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return net(torch.from_numpy(pixels.astype(np.float32))[None])[0]


def labels_of(net: nn.Module, pixels: np.ndarray) -> np.ndarray:
    return whole_map(net, pixels).argmax(0).numpy()


OUTPUTS = ("labels.zarr", "labels.tif", "labels.ome.tif")


@pytest.mark.parametrize("name", OUTPUTS)
def test_labels_on_disk_are_those_of_the_whole_map(name: str, tmp_path: Path) -> None:
    net = network()
    path, pixels = stored(tmp_path)
    found = fc.predict(net, path, SMALL, tmp_path / "out" / name)
    expected = labels_of(net, pixels)
    assert len(np.unique(expected)) >= 2
    assert (found.shape, found.dtype) == ((1, *SIDES), np.uint8)
    assert np.array_equal(found[0], expected)
    read = zarr.open_array(f"{tmp_path}/out/{name}/0")[...] if name.endswith("zarr") else None
    read = tifffile.imread(tmp_path / "out" / name) if read is None else read
    assert np.array_equal(read, expected)


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("kind", ["probabilities", "quantised"])
def test_probabilities_on_disk_are_those_of_the_whole_map(
    name: str, kind: Any, tmp_path: Path
) -> None:
    net = network()
    path, pixels = stored(tmp_path)
    found = fc.predict(net, path, SMALL, tmp_path / name, kind=kind)
    expected = whole_map(net, pixels).softmax(0).numpy()
    assert found.shape == (3, *SIDES)
    wide = np.float32 if name.endswith("ome.tif") else np.float16
    assert found.dtype == (wide if kind == "probabilities" else np.uint8)
    shares = found[...].astype(np.float32) / (1 if kind == "probabilities" else 255)
    assert np.abs(shares - expected).max() <= (
        1e-3 if kind == "probabilities" else 0.5 / 255 + 1e-6
    )


def test_a_kind_that_is_none_is_refused(tmp_path: Path) -> None:
    path, _ = stored(tmp_path)
    kind: Any = "label"
    for out in (tmp_path / "a.zarr", None):
        with pytest.raises(
            BadConfigError,
            match="`kind` must be one of labels, probabilities, quantised, got 'label'",
        ):
            fc.predict(network(), path, SMALL, out, kind=kind)
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize(
    "options", [{"kind": "probabilities"}, {"kind": "labels"}, {"overwrite": True}]
)
def test_what_is_for_files_is_refused_without_one(options: dict[str, Any], tmp_path: Path) -> None:
    _, pixels = stored(tmp_path)
    name = next(iter(options))
    for out in (None, np.zeros((3, *SIDES), np.float32)):
        with pytest.raises(
            BadConfigError, match=f"`{name}` must come with a path as `out`, got none"
        ):
            fc.predict(network(), pixels, SMALL, out, **options)


@pytest.mark.parametrize("name", OUTPUTS)
def test_volumes(name: str, tmp_path: Path) -> None:
    net = network(axes=3)
    path, pixels = stored(tmp_path, (30, 50, 70))
    found = fc.predict(net, path, "3 MiB", tmp_path / name)
    assert np.array_equal(found[0], labels_of(net, pixels))
    assert found.spatial == "zyx"


def test_an_image_in_memory_may_go_to_disk(tmp_path: Path) -> None:
    net = network()
    _, pixels = stored(tmp_path)
    found = fc.predict(net, pixels, SMALL, tmp_path / "labels.zarr")
    assert np.array_equal(found[0], labels_of(net, pixels))
    assert np.array_equal(fc.predict(net, tmp_path / "image.zarr"), whole_map(net, pixels).numpy())


class Counted:
    """Gives parts of an array, and notes the largest; as a whole it is not to be had."""

    def __init__(self, array: np.ndarray) -> None:
        self._array, self.shape, self.dtype, self.most = array, array.shape, array.dtype, 0

    def __getitem__(self, place: Any) -> np.ndarray:
        part = self._array[place]
        self.most = max(self.most, part.size)
        return part

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise AssertionError("the whole image was asked for")


def test_what_can_be_sliced_goes_to_disk_in_parts(tmp_path: Path) -> None:
    net = network()
    _, pixels = stored(tmp_path, (900, 350))
    image = Counted(pixels)
    found = fc.predict(net, image, SMALL, tmp_path / "a.zarr")
    assert np.array_equal(found[0], labels_of(net, pixels))
    assert image.most < pixels.size / 2


def test_what_is_no_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(fc.FullconvError, match="`image` must be an array"):
        fc.predict(network(), [[1.0]], SMALL, tmp_path / "a.zarr")


def test_an_image_is_never_replaced_by_its_labels(tmp_path: Path) -> None:
    path, pixels = stored(tmp_path / "set.zarr")
    for image in (path, open_image(path)):
        for out in (path, tmp_path / "set.zarr"):
            with pytest.raises(BadOutputError, match="`out` must be another file than the image"):
                fc.predict(network(), image, SMALL, out, overwrite=True)
    assert np.array_equal(open_image(path)[...], pixels)


def test_an_output_inside_the_image_is_refused(tmp_path: Path) -> None:
    """It would make another image of it, so that what is done is never known again."""
    zarr.open_group(str(tmp_path / "set.zarr"), mode="w")
    path, _ = stored(tmp_path / "set.zarr")
    before = contents(tmp_path / "set.zarr")
    beside = tmp_path / "set.zarr" / "labels.zarr"
    named = f"{tmp_path}/set.zarr::image.zarr"
    for image, out in ((path, path / "labels" / "a.zarr"), (named, beside)):
        with pytest.raises(BadOutputError, match="`out` must lie outside of the image, which it"):
            fc.predict(network(), image, SMALL, out)
    assert contents(tmp_path / "set.zarr") == before
    for _ in range(2):  # the second time, it is known to be done
        fc.predict(network(), path, SMALL, beside)


def test_an_image_is_never_replaced_that_was_given_as_an_array(tmp_path: Path) -> None:
    path, pixels = stored(tmp_path)
    np.save(tmp_path / "map.tif", pixels)  # called by the name that it would be replaced under
    (tmp_path / "map.tif.npy").rename(tmp_path / "map.tif")
    mapped = np.load(tmp_path / "map.tif", mmap_mode="r")
    with h5py.File(tmp_path / "h5.tif", "w") as file:
        file["raw"] = pixels
    with h5py.File(tmp_path / "h5.tif", "r") as file:
        sources = [(zarr.open_array(str(path)), path), (file["raw"], tmp_path / "h5.tif")]
        sources += [(mapped, tmp_path / "map.tif"), (mapped[:, ::2], tmp_path / "map.tif")]
        for image, out in sources:
            before = contents(out)
            with pytest.raises(BadOutputError, match="`out` must be another file than the image"):
                fc.predict(network(), image, SMALL, out, overwrite=True)
            assert contents(out) == before


def test_many_classes_take_16_bits(tmp_path: Path) -> None:
    net = network(classes=300)
    path, pixels = stored(tmp_path, (64, 60))
    found = fc.predict(net, path, "40 MiB", tmp_path / "labels.tif")
    assert found.dtype == np.uint16
    assert np.array_equal(found[0], labels_of(net, pixels))
    shares = fc.predict(net, path, "40 MiB", tmp_path / "shares.tif", kind="probabilities")
    assert shares.shape == (300, 64, 60)


def test_a_pyramid_has_every_second_position(tmp_path: Path) -> None:
    net = nn.Conv2d(1, 2, 1)
    path, _ = stored(tmp_path, (1500, 2100))
    found = fc.predict(net, path, "30 MiB", tmp_path / "labels.zarr")
    fc.predict(net, path, "30 MiB", tmp_path / "labels.ome.tif")
    first = found[0]
    for name in ("labels.zarr", "labels.ome.tif"):
        for level, step in ((1, 2), (2, 4)):
            reduced = open_image(f"{tmp_path}/{name}::{level}")
            assert np.array_equal(reduced[0], first[::step, ::step])
    images = dict(zarr.open_group(str(tmp_path / "labels.zarr"), mode="r").attrs)["ome"]
    rows = images["multiscales"][0]["datasets"]
    assert [r["coordinateTransformations"][0]["scale"] for r in rows] == [[1, 1], [2, 2], [4, 4]]
    assert images["image-label"]["colors"][1] == {"label-value": 1, "rgba": [128, 0, 0, 255]}


def test_the_resolutions_of_a_volume_in_ome_tiff_have_all_its_pages(tmp_path: Path) -> None:
    net = nn.Conv3d(1, 2, 1).eval()
    path, pixels = stored(tmp_path, (5, 40, 1100))
    out = tmp_path / "labels.ome.tif"
    fc.predict(net, path, "20 MiB", out)
    labels = labels_of(net, pixels)
    assert np.array_equal(open_image(f"{out}::1")[0], labels[:, ::2, ::2])
    with tifffile.TiffFile(out) as file:
        assert [level.shape for level in file.series[0].levels] == [(5, 40, 1100), (5, 20, 550)]


def test_zarr_of_format_2_stays_what_it_was(tmp_path: Path) -> None:
    path, pixels = stored(tmp_path, zarr_format=2)
    fc.predict(network(), path, SMALL, tmp_path / "labels.zarr")
    group = json.loads((tmp_path / "labels.zarr" / ".zattrs").read_text())
    assert group["multiscales"][0]["version"] == "0.4"
    assert np.array_equal(zarr.open_array(f"{tmp_path}/labels.zarr/0")[...], labels_of(network(), pixels))  # fmt: skip


def test_the_size_of_pixels_goes_over_to_the_labels(tmp_path: Path) -> None:
    pixels = np.zeros((100, 90), np.uint8)
    sizes = {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeXUnit": "µm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, metadata=sizes)
    for name in ("b.ome.tif", "b.zarr"):
        found = fc.predict(network(), tmp_path / "a.ome.tif", SMALL, tmp_path / name)
        assert found.facts["pixel_size"] == {"x": 0.25, "y": 0.5}


def geotiff(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    transform = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_800_000)
    count, height, width = pixels.shape
    kind: dict[str, Any] = {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
    kind |= {"crs": "EPSG:32632", "transform": transform, "driver": "GTiff", "tiled": True}
    with rasterio.open(path, "w", blockxsize=64, blockysize=64, **(kind | options)) as file:
        file.write(pixels)
    return path


@pytest.mark.parametrize("suffix", [".tif", ".img"])
def test_coordinates_and_nodata_go_over_to_the_labels(suffix: str, tmp_path: Path) -> None:
    _, pixels = stored(tmp_path)
    pixels = pixels.clip(1)
    pixels[:, 200:, :40] = 0
    path = geotiff(tmp_path / f"a{suffix}", pixels, nodata=0, driver="HFA" if suffix == ".img" else "GTiff")  # fmt: skip
    fc.predict(network(), path, SMALL, tmp_path / "labels.tif")
    expected = labels_of(network(), pixels)
    expected[200:, :40] = 255
    with rasterio.open(tmp_path / "labels.tif") as found, rasterio.open(path) as image:
        assert np.array_equal(found.read(1), expected)
        assert found.transform == image.transform
        assert found.crs == image.crs
        assert found.nodata == 255


@pytest.mark.parametrize("kind", ["probabilities", "quantised"])
def test_probabilities_of_a_raster_are_its_bands(kind: Any, tmp_path: Path) -> None:
    _, pixels = stored(tmp_path)
    pixels = pixels.clip(1)
    pixels[:, 200:, :40] = 0
    path = geotiff(tmp_path / "a.tif", pixels, nodata=0)
    fc.predict(network(), path, SMALL, tmp_path / "shares.tif", kind=kind)
    expected = whole_map(network(), pixels).softmax(0).numpy()
    expected *= 255 if kind == "quantised" else 1
    expected[:, 200:, :40] = 0 if kind == "quantised" else -1
    with rasterio.open(tmp_path / "shares.tif") as found, rasterio.open(path) as image:
        assert found.count == 3
        assert np.abs(found.read().astype(np.float32) - expected).max() <= (
            0.501 if kind == "quantised" else 1e-3
        )
        assert (found.transform, found.crs) == (image.transform, image.crs)
        assert found.nodata == (None if kind == "quantised" else -1)
    with tifffile.TiffFile(tmp_path / "shares.tif") as file:
        assert len(file.pages) == 1


def test_nodata_that_is_no_number_is_refused_with_what_to_do(tmp_path: Path) -> None:
    _, pixels = stored(tmp_path)
    without = pixels.astype(np.float32)
    path = geotiff(tmp_path / "full.tif", without, nodata=np.nan)
    found = fc.predict(network(), path, SMALL, tmp_path / "labels.tif")
    assert np.array_equal(found[0], labels_of(network(), pixels))  # none of it is NaN
    without[:, 200:, :40] = np.nan
    path = geotiff(tmp_path / "some.tif", without, nodata=np.nan)
    with pytest.raises(
        BadDataError, match="its nodata value is NaN, which a network cannot see: write"
    ):
        fc.predict(network(), path, SMALL, tmp_path / "other.tif")


def test_progress_counts_the_units_of_all_windows(tmp_path: Path) -> None:
    path, _ = stored(tmp_path)
    seen: list[tuple[int, int]] = []
    fc.predict(
        network(), path, SMALL, tmp_path / "a.zarr", progress=lambda a, b: seen.append((a, b))
    )
    assert len(seen) > 3
    assert [b for _, b in seen] == [SIDES[0] * SIDES[1]] * len(seen)
    assert [a for a, _ in seen] == sorted({a for a, _ in seen})
    assert seen[-1][0] == SIDES[0] * SIDES[1]


def test_each_chunk_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows own whole chunks: no window changes what another one has written."""
    path, _ = stored(tmp_path)
    stores: list[str] = []
    put = zarr.storage.LocalStore.set

    async def counted(self: Any, key: str, value: Any) -> None:
        stores.append(key)
        await put(self, key, value)

    monkeypatch.setattr(zarr.storage.LocalStore, "set", counted)
    fc.predict(network(), path, SMALL, tmp_path / "a.zarr")
    chunks = [key for key in stores if "/c/" in f"/{key}"]
    assert len(chunks) == len(set(chunks)) > 3


CHILD = """
import os, signal, sys
import numpy as np, torch
import fullconv as fc
from fullconv.regions import _ome, _part
sys.path.insert(0, {tests!r})
from test_disk import network
moment = {moment!r}
def end(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def progress(done, total):
    if moment.startswith("share") and done >= float(moment[5:]) * total:
        end()
if moment == "pyramid":
    _ome._describe = lambda group, count, kind, old=_ome._describe: end() if count > 1 else old(group, count, kind)
if moment == "named":
    _part._replace = lambda *args, old=_part._replace: end() or old(*args)
if moment == "finished":
    _part._replace = lambda *args, old=_part._replace: old(*args) or end()
if moment == "plan":
    _part._write = end
fc.predict(network(), {image!r}, {memory!r}, {out!r}, progress=progress)
"""


def child(image: Path, out: Path, moment: str, before: str = "") -> int:
    code = before + CHILD.format(
        tests=str(Path(__file__).parent),
        moment=moment,
        image=str(image),
        out=str(out),
        memory=SMALL,
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, -signal.SIGKILL, 1), done.stderr
    child.said = done.stderr  # type: ignore[attr-defined]
    return done.returncode


def contents(path: Path) -> dict[str, bytes]:
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    return {str(p.relative_to(path.parent)): p.read_bytes() for p in files}


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    image, _ = stored(tmp_path)
    name = "labels.zarr"
    out = tmp_path / "out" / name
    for moment in ("share0.5", "named", "finished"):
        assert child(image, out, moment) == -signal.SIGKILL
        assert out.exists() == (moment == "finished")
    seen: list[int] = []
    fc.predict(network(), image, SMALL, out, progress=lambda done, _: seen.append(done))
    assert not seen  # nothing was left to compute
    fc.predict(network(), image, SMALL, tmp_path / "quiet" / name)
    assert contents(out) == contents(tmp_path / "quiet" / name)
    left = sorted(p.name for p in (out.parent / ".fullconv").iterdir())
    assert left == [f"{name}.json"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["labels.zarr", "labels.tif", "labels.ome.tif"])
def test_killed_often(name: str, tmp_path: Path) -> None:
    image, _ = stored(tmp_path, (1200, 1300))
    out = tmp_path / "out" / name
    moments = ["plan", *(f"share{share / 10}" for share in range(1, 10))]
    moments += ["pyramid"] if name != "labels.tif" else []
    moments += ["named", "finished"]
    for moment in moments:
        assert child(image, out, moment) in (-signal.SIGKILL, 0)
    fc.predict(network(), image, SMALL, out)
    fc.predict(network(), image, SMALL, tmp_path / "quiet" / name)
    assert contents(out).keys() == contents(tmp_path / "quiet" / name).keys()
    assert np.array_equal(open_image(out)[...], open_image(tmp_path / "quiet" / name)[...])


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    image, _ = stored(tmp_path)
    out = tmp_path / "a.zarr"

    def interrupt(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fc.predict(network(), image, SMALL, out, progress=interrupt)
    assert not out.exists()
    seen: list[int] = []
    fc.predict(network(), image, SMALL, out, progress=lambda done, _: seen.append(done))
    assert seen[0] > SIDES[0] * SIDES[1] / 2
    seen.clear()
    fc.predict(network(), image, SMALL, out, progress=lambda done, _: seen.append(done))
    assert seen == []


def test_a_note_that_a_full_disk_has_cut_off_stands_for_no_window(tmp_path: Path) -> None:
    with part_of(tmp_path / "a.zarr") as part:
        part.begin({})
        for number in (3, 12, 120):
            part.note(number)
        notes = part.folder / "done"
        for cut in range(1, 7):
            notes.write_bytes(notes.read_bytes()[:-cut])
            part.note(4)
            assert {3, 4} <= part.done() <= {3, 4, 12, 120}


def begun(tmp_path: Path) -> tuple[Path, Path]:
    """An image, and an output of which one window is done."""
    image, _ = stored(tmp_path)

    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fc.predict(network(), image, SMALL, tmp_path / "a.zarr", progress=interrupt)
    return image, tmp_path / "a.zarr"


def test_what_another_network_began_is_not_gone_on_with(tmp_path: Path) -> None:
    image, out = begun(tmp_path)
    other = network()
    with torch.no_grad():
        other[0].bias += 1
    with pytest.raises(BadOutputError, match="`out` must not be begun by something else"):
        fc.predict(other, image, SMALL, out)
    found = fc.predict(other, image, SMALL, out, overwrite=True)
    assert np.array_equal(found[0], labels_of(other, open_image(image)[...]))


class Steeper(nn.Module):
    """Runs a network's layers with another activation between them."""

    def __init__(self, net: nn.Module, slope: float) -> None:
        super().__init__()
        self.net, self.slope = net, slope

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first, _, pool, last = self.net.children()
        return last(pool(nn.functional.leaky_relu(first(image), self.slope)))


def mirroring() -> nn.Module:
    """The network with another padding, and the same weights."""
    net = network()
    net[3] = nn.Conv2d(6, 3, 5, padding=2, padding_mode="reflect")
    net[3].load_state_dict(network()[3].state_dict())
    return net


class Even(nn.Module):
    """Takes images of even sizes only."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        fine = self.net(image)
        return fine + nn.functional.interpolate(nn.functional.max_pool2d(fine, 2), scale_factor=2)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (network, mirroring),
        (lambda: Steeper(network(), 0.1), lambda: Steeper(network(), 0.2)),
        (lambda: padded(Even(), 1, "reflect"), lambda: padded(Even(), 1, "zero")),
    ],
    ids=["attribute", "forward", "padding"],
)
def test_the_same_weights_in_another_network_are_another_output(
    one: Callable[[], nn.Module], other: Callable[[], nn.Module], tmp_path: Path
) -> None:
    image, _ = stored(tmp_path, (291, 351))
    out = tmp_path / "a.zarr"
    fc.predict(one(), image, SMALL, out)
    seen: list[int] = []
    fc.predict(one(), image, SMALL, out, progress=lambda done, _: seen.append(done))
    assert seen == []
    with pytest.raises(BadOutputError, match="must not be there yet"):
        fc.predict(other(), image, SMALL, out)


def test_labels_are_not_taken_for_probabilities(tmp_path: Path) -> None:
    image, _ = stored(tmp_path)
    fc.predict(network(), image, SMALL, tmp_path / "a.zarr")
    with pytest.raises(BadOutputError, match="must not be there yet"):
        fc.predict(network(), image, SMALL, tmp_path / "a.zarr", kind="probabilities")


def test_what_was_begun_of_an_image_that_changed_is_begun_anew(tmp_path: Path) -> None:
    image, out = begun(tmp_path)
    zarr.open_array(str(image))[:, :9] = 7
    found = fc.predict(network(), image, SMALL, out)
    assert np.array_equal(found[0], labels_of(network(), zarr.open_array(str(image))[...]))


def test_what_was_made_of_an_image_that_changed_is_kept(tmp_path: Path) -> None:
    image, _ = stored(tmp_path)
    fc.predict(network(), image, SMALL, tmp_path / "a.zarr")
    zarr.open_array(str(image))[:, :9] = 7
    with pytest.raises(BadOutputError, match="must not be there yet"):
        fc.predict(network(), image, SMALL, tmp_path / "a.zarr")


def test_what_was_begun_of_another_image_is_not_gone_on_with(tmp_path: Path) -> None:
    image, out = begun(tmp_path)
    image.rename(tmp_path / "other.zarr")
    with pytest.raises(BadOutputError, match="left unfinished by another network, image or kind"):
        fc.predict(network(), tmp_path / "other.zarr", SMALL, out)


def test_less_memory_than_it_was_begun_with_is_refused(tmp_path: Path) -> None:
    image, out = begun(tmp_path)
    with pytest.raises(
        fc.FullconvError, match="must be as much as what is unfinished was begun with"
    ):
        fc.predict(network(), image, "900 KiB", out)
    fc.predict(network(), image, "900 KiB", out, overwrite=True)


def test_a_share_of_memory_goes_on_where_a_little_less_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, pixels = stored(tmp_path, (900, 350))

    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    def free(num_bytes: int) -> None:
        monkeypatch.setattr("fullconv.execution._memory.available_bytes", lambda: num_bytes)

    for mebibytes in (4, 5, 6):
        out = tmp_path / f"{mebibytes}.zarr"
        free(mebibytes * 2**20)
        with pytest.raises(KeyboardInterrupt):
            fc.predict(network(), image, "50%", out, progress=interrupt)
        free(int(0.91 * mebibytes * 2**20))
        assert np.array_equal(
            fc.predict(network(), image, "50%", out)[0], labels_of(network(), pixels)
        )


def test_an_output_that_is_there_stays_unless_it_may_be_overwritten(tmp_path: Path) -> None:
    image, pixels = stored(tmp_path)
    for name in OUTPUTS:
        out = tmp_path / name
        zarr.create_group(str(out)) if name.endswith("zarr") else out.write_text("mine")
        before = contents(out)
        with pytest.raises(BadOutputError, match=f"`out` must not be there yet, got .*{name}"):
            fc.predict(network(), image, SMALL, out)
        assert contents(out) == before
        found = fc.predict(network(), image, SMALL, out, overwrite=True)
        assert np.array_equal(found[0], labels_of(network(), pixels))


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    image, _ = stored(tmp_path)
    with (
        part_of(tmp_path / "a.zarr"),
        pytest.raises(BadOutputError, match="by one process at a time"),
    ):
        fc.predict(network(), image, SMALL, tmp_path / "a.zarr")
    fc.predict(network(), image, SMALL, tmp_path / "a.zarr")


@pytest.mark.parametrize("place", ["/proc/a.zarr", "/dev/null/a.zarr"])
def test_where_nothing_can_be_written(place: str, tmp_path: Path) -> None:
    image, _ = stored(tmp_path)
    with pytest.raises(BadOutputError, match=f"{place} must be writable, got: "):
        fc.predict(network(), image, SMALL, place)


FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))\n"


def test_a_full_disk_keeps_what_is_done(tmp_path: Path) -> None:
    """No file of the child may grow past 900 bytes, which is less than a chunk of labels."""
    image, pixels = stored(tmp_path)
    out = tmp_path / "a.zarr"
    assert child(image, out, "never", FULL) == 1
    assert "BadOutputError" in child.said  # type: ignore[attr-defined]
    assert "must be writable, got: File too large; what was done before is kept" in child.said  # type: ignore[attr-defined]
    assert not out.exists()
    assert np.array_equal(fc.predict(network(), image, SMALL, out)[0], labels_of(network(), pixels))


def test_a_damaged_image_leaves_no_output(tmp_path: Path) -> None:
    _, pixels = stored(tmp_path)
    tifffile.imwrite(tmp_path / "a.tif", pixels[0], tile=(64, 64), compression="zlib")
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: len(data) // 2])
    with pytest.raises(BadDataError, match=r"a\.tif: is cut off: tile \d+ should end"):
        fc.predict(network(), tmp_path / "a.tif", SMALL, tmp_path / "b.tif")
    assert not (tmp_path / "b.tif").exists()


def test_signals_go_to_zarr_alone(tmp_path: Path) -> None:
    net = nn.Conv1d(2, 3, 5, padding=2).eval()
    pixels = np.random.default_rng(0).random((2, 3000), np.float32)
    found = fc.predict(net, pixels, SMALL, tmp_path / "a.zarr")
    assert np.array_equal(found[0], labels_of(net, pixels))
    for name in ("a.tif", "a.ome.tif"):
        with pytest.raises(
            BadOutputError, match=r"`out` must end in \.zarr for images of one axis"
        ):
            fc.predict(net, pixels, SMALL, tmp_path / name)


def test_names_say_the_format(tmp_path: Path) -> None:
    image, _ = stored(tmp_path)
    with pytest.raises(
        BadOutputError, match=r"`out` must end in \.zarr, \.tif or \.ome\.tif, got a\.png"
    ):
        fc.predict(network(), image, SMALL, tmp_path / "a.png")


def test_classes_of_the_table_must_be_those_of_the_network(tmp_path: Path) -> None:
    image, _ = stored(tmp_path)
    wanted = Wanted(labels=tmp_path / "a.zarr", classes=ClassTable.default(5))
    with pytest.raises(fc.FullconvError, match="`net` must have the 5 classes of the table, got 3"):
        predict_to_disk(network(), open_image(image), wanted, memory=2**24)


def test_an_image_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="does not exist"):
        fc.predict(network(), tmp_path / "none.zarr", SMALL, tmp_path / "a.zarr")


def test_the_next_is_loaded_while_one_is_used() -> None:
    loading = threading.Event()

    def load(item: int) -> int:
        if item == 1:
            loading.set()
        return 10 * item

    seen: list[tuple[int, int]] = []
    for item, loaded in ahead(range(3), load):
        if item == 0:
            assert loading.wait(5)
        seen.append((item, loaded))
    assert seen == [(0, 0), (1, 10), (2, 20)]
    assert list(ahead([], load)) == []


def test_never_more_than_two_loads_are_held() -> None:
    held, most = 0, 0
    lock = threading.Lock()

    def load(_: int) -> None:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)

    for _ in ahead(range(20), load):
        time.sleep(0.001)
        with lock:
            held -= 1
    assert most == 2


def failing() -> None:
    raise BadOutputError("no")


def test_writing_goes_on_behind_in_order_and_its_errors_come_through() -> None:
    done: list[int] = []
    with Behind() as behind:
        for k in range(5):
            behind(done.append, k)
    assert done == [0, 1, 2, 3, 4]

    def run(last: Callable[..., Any]) -> None:
        with Behind() as behind:
            behind(failing)
            last(behind)

    for last in (lambda _: None, lambda behind: behind(done.append, 9)):
        with pytest.raises(BadOutputError, match="no"):
            run(last)
    assert 9 not in done


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_pieces_down_a_window_become_whole_rows_of_chunks(rows: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (2, 50, 7), np.uint8)
    cuts = [0, 3, 4, 5, 17, 18, 33, 34, 48, 50]

    def pieces() -> Any:
        for a, b in itertools.pairwise(cuts):
            units = Box(start=(96 + a, 5), stop=(96 + b, 12))
            yield units, {"labels": values[0, a:b], "shares": values[:, a:b]}

    made = list(in_chunks(pieces(), rows))
    ends = [box.stop[0] for box, _ in made]
    assert [end for end in ends if end % rows and end != 146] == []
    assert ends[-1] == 146
    assert [box.start[0] for box, _ in made] == [96, *ends[:-1]]
    assert np.array_equal(np.concatenate([part["labels"] for _, part in made]), values[0])
    assert np.array_equal(np.concatenate([part["shares"] for _, part in made], 1), values)


def test_rows_are_read_in_whole_chunks_and_each_once(tmp_path: Path) -> None:
    path, pixels = stored(tmp_path)
    image = open_image(path)
    reads: list[Box] = []

    def noted(box: Box) -> Any:
        reads.append(box)
        return image.read(box)

    part = Box(start=(70, 40), stop=(290, 100))
    strips = Strips(replace(image, read=noted), part, 16, nodata=7.0)
    found = [
        strips[(slice(None), slice(a, min(a + 16, 290)), slice(40, 100))]
        for a in range(70, 290, 16)
    ]
    assert np.array_equal(np.concatenate(found, 1), pixels[:, 70:290, 40:100])
    assert [(box.start[1], box.stop[1]) for box in reads] == [(70, 128), (128, 192), (192, 256), (256, 290)]  # fmt: skip
    nothing = strips.nothing(Box(start=(80, 50), stop=(200, 60)))
    assert np.array_equal(nothing, (pixels == 7).all(0)[80:200, 50:60])


def test_a_network_is_run_down_where_windows_would_read_more(tmp_path: Path) -> None:
    net = network()
    path, pixels = stored(tmp_path)
    fc.predict(net, path, "1 MiB", tmp_path / "a.zarr")
    plan = planned_way(net, path, "1 MiB", tmp_path)
    assert plan.way.rows > 0
    assert np.array_equal(zarr.open_array(f"{tmp_path}/a.zarr/0")[...], labels_of(net, pixels))


def planned_way(net: nn.Module, path: Path, memory: str, folder: Path) -> Any:
    wanted = Wanted(labels=folder / "other.zarr")
    with part_of(folder / "other.zarr") as part:
        return planned(
            net, open_image(path), wanted, parse_memory(memory), key="", part=part, overwrite=False
        )
