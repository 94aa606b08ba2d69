"""Boxes of files of every format, against the array that was written, and the bytes that it takes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
import tifffile
import zarr
from PIL import Image

from fullconv.errors import BadDataError, FullconvError
from fullconv.images import read_image
from fullconv.regions import LazyArray, in_memory, open_array, opens, split_name

from .files import (
    FORMATS,
    bytes_read,
    geotiff,
    hdf5,
    npy,
    ome_tiff,
    ome_zarr,
    tiff,
    write,
    zarr_array,
)

SHAPE = (3, 301, 277)
linux = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux counts what is read")


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)


@pytest.mark.parametrize("name", FORMATS)
def test_a_box_is_that_of_the_array(name: str, array: np.ndarray, tmp_path: Path) -> None:
    image = open_array(write(name, tmp_path, array))
    assert (image.shape, image.dtype, image.spatial) == (SHAPE, np.uint8, "yx")
    draw = np.random.default_rng(1)
    for _ in range(8):
        spans = [sorted(draw.integers(0, n + 1, 2)) for n in SHAPE]
        place = tuple(slice(int(a), int(b)) for a, b in spans)
        found = image[place]
        assert found.dtype == np.uint8
        assert np.array_equal(found, array[place])
    assert np.array_equal(image[...], array)
    assert np.array_equal(image[:, 300, 5:9], array[:, 300, 5:9])
    assert np.array_equal(image[1], array[1])


@pytest.mark.parametrize("name", FORMATS)
def test_another_process_opens_it_again(name: str, array: np.ndarray, tmp_path: Path) -> None:
    image = pickle.loads(pickle.dumps(open_array(write(name, tmp_path, array))))
    assert np.array_equal(image[:, 100:120, 7:90], array[:, 100:120, 7:90])


def big(name: str, tmp_path: Path) -> tuple[Path, np.ndarray]:
    """An image of 3.7 million numbers that do not shrink when they are compressed."""
    array = np.random.default_rng(0).integers(0, 256, (3, 1280, 960), np.uint8)
    return write(name, tmp_path, array), array


@linux
@pytest.mark.parametrize("name", [n for n in FORMATS if n not in ("raster", "tiff-planar")])
def test_no_more_is_read_than_the_chunks_that_a_box_touches(name: str, tmp_path: Path) -> None:
    path, array = big(name, tmp_path)
    image = open_array(path)
    place = (slice(None), slice(1000, 1100), slice(700, 760))
    image[place]  # what is looked up once
    before = bytes_read()
    found = image[place]
    taken = bytes_read() - before
    assert np.array_equal(found, array[place])
    # Chunks of at most 64 rows and 64 columns; strips of 17 and rows of one are as wide as the image.
    sides = [(-(-1100 // c) - 1000 // c) * c for c in (image.chunks[1],)]
    columns = (-(-760 // image.chunks[2]) - 700 // image.chunks[2]) * image.chunks[2]
    if image.chunks[1] == 1:  # nothing is compressed: single numbers can be read
        columns = 60
    touched = 3 * sides[0] * columns
    assert taken <= 1.15 * touched + 40_000, (taken, touched)


@linux
def test_the_witness_sees_it_when_more_is_read(tmp_path: Path) -> None:
    path, _ = big("zarr-3", tmp_path)
    before = bytes_read()
    open_array(path)[...]
    assert bytes_read() - before > 3_600_000


@pytest.mark.parametrize("write_pyramid", [
    lambda p, a: ome_zarr(p / "a.zarr", a, 2),
    lambda p, a: ome_zarr(p / "a.zarr", a, 3),
    lambda p, a: ome_tiff(p / "a.ome.tif", a),
    lambda p, a: geotiff_with_overview(p / "a.tif", a),
])  # fmt: skip
def test_levels_are_called_by_name(
    write_pyramid: Callable[[Path, np.ndarray], Path], array: np.ndarray, tmp_path: Path
) -> None:
    path = write_pyramid(tmp_path, array)
    assert np.array_equal(open_array(path)[...], array)
    assert np.array_equal(open_array(f"{path}::0")[...], array)
    small = open_array(f"{path}::1")
    assert small.shape == (3, 151, 139)
    expected = overview(path) if path.name == "a.tif" else array[:, ::2, ::2]
    assert np.array_equal(small[:, 3:100, 9:77], expected[:, 3:100, 9:77])
    with pytest.raises(BadDataError, match=r"has no (level|array) `7`; there are: 0, 1"):
        open_array(f"{path}::7")


def geotiff_with_overview(path: Path, array: np.ndarray) -> Path:
    import rasterio
    from rasterio.enums import Resampling

    geotiff(path, array, tiled=True, blockxsize=64, blockysize=64)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2], Resampling.nearest)
    return path


def overview(path: Path) -> np.ndarray:
    import rasterio

    with rasterio.open(path, overview_level=0) as file:
        return file.read()


def test_the_size_of_a_pixel_is_known_in_each_level(array: np.ndarray, tmp_path: Path) -> None:
    for version in (2, 3):
        path = ome_zarr(tmp_path / f"{version}.zarr", array, version)
        facts = open_array(f"{path}::1").facts
        assert facts["pixel_size"] == {"y": 1.0, "x": 0.5}
        assert facts["unit"] == {"y": "micrometer", "x": "micrometer"}
    path = ome_tiff(tmp_path / "a.ome.tif", array)
    assert open_array(path).facts["pixel_size"] == {"x": 0.25, "y": 0.5}
    assert open_array(f"{path}::1").facts["pixel_size"] == {"x": 0.5, "y": 1.0}


def test_a_level_of_a_zarr_folder_has_a_path_of_its_own(array: np.ndarray, tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "a.zarr", array, 3) / "1"
    image = open_array(path, axes="tcyx")
    assert np.array_equal(image[...], array[:, ::2, ::2])


@pytest.mark.parametrize("axes", ["cxy", "xyc", "xcy", "yxc"])
def test_rows_come_before_columns_whatever_order_the_file_has(
    axes: str, array: np.ndarray, tmp_path: Path
) -> None:
    turned = np.transpose(array, ["cyx".index(a) for a in axes])
    chunks = tuple({"c": 3, "y": 64, "x": 48}[a] for a in axes)
    path = zarr_array(tmp_path / "a.zarr", turned, chunks=chunks, dimension_names=list(axes))
    image = open_array(path)
    assert (image.spatial, image.chunks) == ("yx", (3, 64, 48))
    assert np.array_equal(image[1:, 30:90, 7:200], array[1:, 30:90, 7:200])


VOLUME = (24, 70, 50)


def volumes() -> dict[str, Callable[[Path, np.ndarray], Path]]:
    def stack(path: Path, array: np.ndarray) -> Path:
        tifffile.imwrite(path / "v.tif", array, metadata={"axes": "ZYX"}, tile=(32, 32))
        return path / "v.tif"

    def imagej(path: Path, array: np.ndarray) -> Path:
        tifffile.imwrite(path / "v.tif", array, imagej=True, metadata={"axes": "ZYX"})
        return path / "v.tif"

    def ome(path: Path, array: np.ndarray) -> Path:
        pixels = np.stack([array, 255 - array], 1)
        tifffile.imwrite(path / "v.ome.tif", pixels, metadata={"axes": "ZCYX"}, tile=(32, 32))
        return path / "v.ome.tif"

    def named(path: Path, array: np.ndarray) -> Path:
        return zarr_array(path / "v.zarr", array, chunks=(8, 32, 32), dimension_names=list("zyx"))

    return {"stack": stack, "imagej": imagej, "ome": ome, "zarr": named}


@pytest.mark.parametrize("name", volumes())
def test_volumes_have_three_axes_in_space(name: str, tmp_path: Path) -> None:
    array = np.random.default_rng(2).integers(0, 256, VOLUME, np.uint8)
    image = open_array(volumes()[name](tmp_path, array))
    expected = np.stack([array, 255 - array]) if name == "ome" else array[None]
    assert image.shape == expected.shape
    assert image.spatial == "zyx"
    place = (slice(None), slice(3, 17), slice(20, 41), slice(5, 44))
    assert np.array_equal(image[place], expected[place])


@pytest.mark.parametrize("count", [16, 17])
def test_pages_without_names_are_channels_if_they_are_few(count: int, tmp_path: Path) -> None:
    """As an array without names of its axes in any other format."""
    pages = np.random.default_rng(0).integers(0, 255, (count, 40, 50), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in pages:
            file.write(page, contiguous=True, metadata=None)
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        for page in pages:
            file.write(page, compression="zlib", metadata=None)
    np.save(tmp_path / "c.npy", pages)
    for name in ("a.tif", "b.tif", "c.npy"):
        if count > 16:
            with pytest.raises(BadDataError, match="does not say which of its axes"):
                open_array(tmp_path / name)
            found = open_array(tmp_path / name, axes="zyx")
            assert (found.shape, found.spatial) == ((1, *pages.shape), "zyx")
            assert np.array_equal(found[0], pages)
        else:
            assert np.array_equal(open_array(tmp_path / name)[...], pages)


def test_axes_that_the_file_does_not_name_are_told_by_length_or_refused(tmp_path: Path) -> None:
    for shape, expected in [((40, 50), (1, 40, 50)), ((4, 40, 50), (4, 40, 50)),
                            ((40, 50, 3), (3, 40, 50)), ((20, 40, 50, 2), (2, 20, 40, 50))]:  # fmt: skip
        np.save(tmp_path / "a.npy", np.zeros(shape, np.uint16))
        assert open_array(tmp_path / "a.npy").shape == expected
    np.save(tmp_path / "a.npy", np.zeros((20, 40, 50), np.uint16))
    with pytest.raises(BadDataError, match=r"does not say which of its axes \(20, 40, 50\) are"):
        open_array(tmp_path / "a.npy")
    assert open_array(tmp_path / "a.npy", axes="zyx").shape == (1, 20, 40, 50)
    assert open_array(tmp_path / "a.npy", axes="cyx").shape == (20, 40, 50)
    for axes in ("yx", "yyx"):
        with pytest.raises(BadDataError, match="`axes` must have one letter for each"):
            open_array(tmp_path / "a.npy", axes=axes)
    with pytest.raises(BadDataError, match=r"at most one of channels, got tyx \(20, 40, 50\)"):
        open_array(tmp_path / "a.npy", axes="tyx")


def test_a_slide_is_rgb_on_the_colour_of_glass(array: np.ndarray, tmp_path: Path) -> None:
    """OpenSlide reads any tiled TIFF as a slide; its name says which library is asked."""
    pixels = np.moveaxis(array, 0, -1)
    tifffile.imwrite(tmp_path / "a.svs", pixels, photometric="rgb", tile=(64, 64))
    image = open_array(tmp_path / "a.svs")
    assert (image.shape, image.chunks) == (SHAPE, (3, 64, 64))
    assert np.array_equal(image[:, 33:200, 14:99], array[:, 33:200, 14:99])
    assert np.array_equal(pickle.loads(pickle.dumps(image))[1:, :9, :9], array[1:, :9, :9])


def test_arrays_of_hdf5_files_are_called_by_name(array: np.ndarray, tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", array)
    assert open_array(f"{path}::scans/raw").shape == SHAPE
    with h5py.File(path, "a") as file:
        file["labels"] = array[0]
    assert open_array(f"{path}::labels").shape == (1, *SHAPE[1:])
    with pytest.raises(BadDataError, match=r"holds 2 arrays; name one as .*a.h5::NAME; there are"):
        open_array(path)
    with pytest.raises(BadDataError, match="has no array `raw`; there are: labels, scans/raw"):
        open_array(f"{path}::raw")


def test_names_stand_behind_colons() -> None:
    assert split_name("a/b.h5::c/d") == (Path("a/b.h5"), "c/d")
    assert split_name(Path("a/b.tif")) == (Path("a/b.tif"), None)
    assert opens("x.OME.TIF")
    assert opens("x.zarr")
    assert not opens("x.png")


def truncated(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.mark.parametrize(("name", "options", "message"), [
    ("tiles", {"tile": (64, 48), "compression": "zlib"}, r"is cut off: tile \d+ should end at byte"),
    ("strips", {"rowsperstrip": 16}, r"is cut off"),
])  # fmt: skip
def test_a_tiff_that_is_cut_off_says_where(
    name: str, options: dict[str, Any], message: str, array: np.ndarray, tmp_path: Path
) -> None:
    path = truncated(tiff(tmp_path / f"{name}.tif", array, **options), 0.5)
    image = open_array(path)
    assert np.array_equal(image[:, :20, :20], array[:, :20, :20])
    with pytest.raises(BadDataError, match=message):
        image[:, 290:, :20]


def test_a_tiff_without_its_directory_is_refused(array: np.ndarray, tmp_path: Path) -> None:
    path = ome_tiff(tmp_path / "a.ome.tif", array)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(BadDataError, match="cannot be read, perhaps truncated"):
        open_array(path)


def test_a_damaged_tile_is_named(array: np.ndarray, tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", array, tile=(64, 48), compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[3]
    data = bytearray(path.read_bytes())
    data[offset : offset + 8] = bytes(8)
    path.write_bytes(bytes(data))
    image = open_array(path)
    assert np.array_equal(image[:, :64, :144], array[:, :64, :144])
    with pytest.raises(BadDataError, match="tile 3 cannot be decoded"):
        image[:, :64, 144:150]


def test_a_tile_of_no_bytes_is_nodata_where_that_is_stated(tmp_path: Path) -> None:
    array = np.full((1, 200, 200), 9, np.uint8)
    array[:, 100:] = 7
    for nodata in (7, None):
        path = geotiff(
            tmp_path / f"{nodata}.tif",
            array,
            tiled=True,
            blockxsize=64,
            blockysize=64,
            nodata=nodata,
        )
        with tifffile.TiffFile(path, mode="r+") as file:
            counts = list(file.pages[0].databytecounts)
            counts[15] = 0
            file.pages[0].tags[325].overwrite(counts)
        image = open_array(path)
        if nodata is None:
            with pytest.raises(
                BadDataError, match="tile 15 is missing, and the file states no nodata"
            ):
                image[:, 195:, 195:]
        else:
            assert np.array_equal(image[:, 190:, 190:], array[:, 190:, 190:])


def test_a_missing_chunk_is_the_fill_value_or_an_error_as_the_metadata_say(
    array: np.ndarray, tmp_path: Path
) -> None:
    filled = zarr_array(tmp_path / "a.zarr", array, chunks=(3, 64, 48), fill_value=9)
    (filled / "c/0/1/2").unlink()
    assert (open_array(filled)[:, 64:128, 96:144] == 9).all()
    options: dict[str, Any] = {"zarr_format": 2, "fill_value": None, "chunks": (3, 64, 48)}
    undefined = zarr_array(tmp_path / "b.zarr", array, **options)
    (undefined / "0.1.2").unlink()
    image = open_array(undefined)
    assert np.array_equal(image[:, :64, 96:144], array[:, :64, 96:144])
    with pytest.raises(
        BadDataError, match=r"chunk 0\.1\.2 is missing, and the metadata state no fill"
    ):
        image[:, 60:70, 90:100]


def test_a_damaged_chunk_is_named(array: np.ndarray, tmp_path: Path) -> None:
    path = zarr_array(tmp_path / "a.zarr", array, chunks=(3, 64, 48))
    truncated(path / "c/0/2/1", 0.5)
    with pytest.raises(BadDataError, match=r"chunk c/0/2/1 cannot be decoded, perhaps truncated"):
        open_array(path)[...]


def test_a_npy_file_that_is_cut_off_is_an_error(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    image = open_array(tmp_path / "a.npy")
    truncated(tmp_path / "a.npy", 0.5)
    assert np.array_equal(image[0], array[0])
    with pytest.raises(BadDataError, match="is cut off: there is nothing at byte"):
        image[2]


@pytest.mark.parametrize(("make", "message"), [
    (lambda p: p / "none.tif", "does not exist"),
    (lambda p: text(p / "a.txt"), "cannot be read by boxes"),
    (lambda p: text(p / "a.h5"), "cannot be read as HDF5"),
    (lambda p: text(p / "a.npy"), r"cannot be read as \.npy"),
    (lambda p: text(p / "a.svs"), "cannot be read as a slide"),
    (lambda p: text(p / "a.vrt"), "cannot be read as a raster"),
    (lambda p: p, "is a folder, and neither a Zarr array nor"),
    (lambda p: text(p / "z" / "zarr.json").parent, "cannot be opened as Zarr"),
    (lambda p: without_metadata(p / "o.zarr"), r"o\.zarr/0: cannot be opened"),
    (lambda p: npy(p / "n.npy", np.array(3)), "holds a single number"),
    (lambda p: nothing(p / "e.h5"), "its array `/scans` holds nothing"),
])  # fmt: skip
def test_what_cannot_be_opened_is_refused(
    make: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadDataError, match=message):
        open_array(make(tmp_path))


def text(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("no image")
    return path


def without_metadata(path: Path) -> Path:
    text(ome_zarr(path, np.zeros((3, 64, 48), np.uint8), 3) / "0" / "zarr.json")
    return path


def nothing(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["scans"] = h5py.Empty("u1")
    return path


def test_a_group_of_arrays_asks_for_a_name(array: np.ndarray, tmp_path: Path) -> None:
    group = zarr.create_group(str(tmp_path / "g.zarr"))
    for name in ("raw", "labels"):
        stored = group.create_array(name, shape=SHAPE, dtype="u1")
        stored[...] = array
    with pytest.raises(BadDataError, match=r"name one, such as .*g.zarr::labels"):
        open_array(tmp_path / "g.zarr")
    assert np.array_equal(open_array(f"{tmp_path}/g.zarr::raw")[...], array)
    with pytest.raises(BadDataError, match="has no array `x`; there are: labels, raw"):
        open_array(f"{tmp_path}/g.zarr::x")
    with pytest.raises(BadDataError, match="is a Zarr array, which has no parts"):
        open_array(f"{tmp_path}/g.zarr/raw::x")


def test_metadata_that_cannot_be_read_are_refused(array: np.ndarray, tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "a.zarr", array, 3)
    zarr.open_group(str(path)).attrs.update({"ome": {"multiscales": [{"axes": []}]}})
    with pytest.raises(BadDataError, match="its OME-Zarr metadata cannot be read"):
        open_array(path)


def test_a_raster_may_say_which_px_are_valid(array: np.ndarray, tmp_path: Path) -> None:
    path = geotiff(tmp_path / "a.tif", array, tiled=True, blockxsize=64, blockysize=64)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(array[0] > 20)
    assert np.array_equal(open_array(path)[...], array)
    assert np.array_equal(read_image(path), array)


@pytest.mark.parametrize("version", [2, 3])
def test_numbers_have_the_byte_order_of_the_machine(
    version: int, array: np.ndarray, tmp_path: Path
) -> None:
    path = zarr_array(tmp_path / "a.zarr", array.astype(">u2"), zarr_format=version)
    image = open_array(path, axes="cyx")
    assert image[0].dtype == image.dtype == np.dtype("=u2")
    assert np.array_equal(image[...], array)


def test_axes_are_named_by_words_or_not_at_all(array: np.ndarray, tmp_path: Path) -> None:
    last = np.moveaxis(array, 0, -1)
    for number, names in enumerate((["row", "col", "band"], ["y", "x", None], [None] * 3)):
        path = zarr_array(tmp_path / f"{number}.zarr", last, dimension_names=names)
        assert np.array_equal(open_array(path)[...], array)


def test_several_images_in_a_tiff_are_refused(array: np.ndarray, tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(array[0])
        file.write(array[0, :20])
    with pytest.raises(BadDataError, match="a TIFF file must hold one image, got 2"):
        open_array(tmp_path / "a.tif")


def test_a_library_that_is_not_there_is_named(
    array: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hdf5(tmp_path / "a.h5", array)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(
        BadDataError, match=r"takes h5py; install it with pip install 'fullconv\[hdf5\]'"
    ):
        open_array(path)


def test_an_array_in_memory_is_read_alike(array: np.ndarray) -> None:
    image = in_memory(array, "image")
    assert (image.spatial, image.nbytes, image.chunk_bytes) == ("yx", array.nbytes, array.itemsize)
    assert np.array_equal(image[..., 5:7], array[..., 5:7])
    assert image[:, 5:5].shape == (3, 0, 277)
    with pytest.raises(FullconvError, match="slices must have no steps"):
        image[::2]
    with pytest.raises(TypeError, match="cannot be handed to another process"):
        pickle.dumps(image)


def test_numpy_gets_all_of_it(array: np.ndarray, tmp_path: Path) -> None:
    image = open_array(npy(tmp_path / "a.npy", array))
    found = np.asarray(image)
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)
    assert np.asarray(image, np.float32).dtype == np.float32
    assert (np.asarray(image) == image[...]).all()


def test_a_function_of_the_channels_is_applied_to_what_is_read(array: np.ndarray) -> None:
    image: LazyArray = in_memory(array, "image")
    double = image.mapped(lambda part: part * 2.0, dtype=np.float64)
    assert np.array_equal(double[1:, :4, :5], array[1:, :4, :5] * 2.0)
    mean = image.mapped(lambda part: part.mean(0, keepdims=True), dtype=np.float64, channels=1)
    assert mean.shape == (1, *SHAPE[1:])
    assert np.allclose(mean[:, 3:9, 4:5], array[:, 3:9, 4:5].mean(0))


def test_a_picture_that_lies_nowhere_on_earth_is_read_without_a_warning(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.bmp")
    (tmp_path / "a.bmp").rename(tmp_path / "a.img")
    assert open_array(tmp_path / "a.img").shape == (1, 8, 8)
