"""Image files of every kind against the pixels that were put in."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from fullconv.errors import BadDataError
from fullconv.images import image_files, read_image

from .conftest import Save
from .png import colour_png_16, grey_png


def pixels(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 3) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return generator.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    return generator.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def channels_first(image: np.ndarray) -> np.ndarray:
    return image.transpose(2, 0, 1) if image.ndim == 3 else image[np.newaxis]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4), (1, 1), (1, 9, 3), (9, 1)])
def test_lossless_files_give_back_what_was_saved(
    save: Save, suffix: str, shape: tuple[int, ...]
) -> None:
    image = pixels(shape)
    image = image[..., :3] if suffix == "bmp" and shape[-1] == 4 else image  # BMP has no alpha
    read = read_image(save(f"a.{suffix}", image))
    np.testing.assert_array_equal(read, channels_first(image))
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous


@pytest.mark.parametrize(("shape", "mode"), [((16, 24, 3), "RGB"), ((16, 24), "L")])
def test_jpeg_is_read_as_its_decoder_gives_it(
    save: Save, shape: tuple[int, ...], mode: str
) -> None:
    path = save("a.jpg", pixels(shape), quality=95)
    with Image.open(path) as picture:
        assert picture.mode == mode
        np.testing.assert_array_equal(read_image(path), channels_first(np.asarray(picture)))


@pytest.mark.parametrize("num_channels", [2, 3, 4])
def test_png_of_16_bits_keeps_all_of_them(tmp_path: Path, num_channels: int) -> None:
    image = pixels((5, 7, num_channels), "uint16")
    path = tmp_path / "a.png"
    path.write_bytes(colour_png_16(image))
    np.testing.assert_array_equal(read_image(path), channels_first(image))


def test_grey_png_of_16_bits_keeps_all_of_them(save: Save) -> None:
    image = pixels((5, 7), "uint16")
    np.testing.assert_array_equal(read_image(save("a.png", image)), image[np.newaxis])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_of_few_bits_spans_black_to_white(tmp_path: Path, depth: int) -> None:
    levels = np.arange(16, dtype=np.uint8).reshape(2, 8) % 2**depth
    path = tmp_path / "a.png"
    path.write_bytes(grey_png(levels, depth))
    np.testing.assert_array_equal(read_image(path), levels[np.newaxis] * (255 // (2**depth - 1)))


def test_an_alpha_channel_is_a_channel(save: Save) -> None:
    grey_alpha = pixels((5, 7, 2))
    np.testing.assert_array_equal(read_image(save("a.png", grey_alpha)), channels_first(grey_alpha))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_palette_image_becomes_its_colours(tmp_path: Path, suffix: str) -> None:
    indices, colours = pixels((5, 7)) % 4, pixels((4, 3))
    picture = Image.fromarray(indices)
    picture.putpalette(colours.tobytes())
    path = tmp_path / f"a.{suffix}"
    picture.save(path)
    np.testing.assert_array_equal(read_image(path), channels_first(colours[indices]))


def test_a_transparent_palette_entry_keeps_its_colour(tmp_path: Path) -> None:
    indices, colours = pixels((5, 7)) % 4, pixels((4, 3))
    picture = Image.fromarray(indices)
    picture.putpalette(colours.tobytes())
    picture.save(tmp_path / "a.png", transparency=bytes([0, 128, 255, 255]))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), channels_first(colours[indices]))


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_a_1_bit_image_is_0_and_255(tmp_path: Path, suffix: str) -> None:
    bits = pixels((5, 7)) > 128
    Image.fromarray(bits).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(
        read_image(tmp_path / f"a.{suffix}"), bits[np.newaxis] * np.uint8(255)
    )


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_becomes_rgb(tmp_path: Path, suffix: str) -> None:
    inks = np.zeros((16, 16, 4), dtype=np.uint8)
    inks[..., 1] = 255  # full magenta: red and blue light, no green
    Image.frombytes("CMYK", (16, 16), inks.tobytes()).save(tmp_path / f"a.{suffix}")
    read = read_image(tmp_path / f"a.{suffix}")
    assert read.shape == (3, 16, 16)
    np.testing.assert_allclose(read.mean(axis=(1, 2)), (255, 0, 255), atol=3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_the_orientation_tag_is_applied(save: Save, orientation: int, suffix: str) -> None:
    smooth = np.linspace(0, 255, 16 * 24 * 3).reshape(16, 24, 3).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(f"a.{suffix}", smooth, exif=exif)
    with Image.open(path) as picture:
        shown = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(read_image(path), channels_first(shown))
    assert read_image(path).shape[1:] == ((16, 24) if orientation < 5 else (24, 16))


def test_damaged_exif_does_not_spoil_a_sound_image(save: Save) -> None:
    path = save("a.jpg", pixels((16, 16, 3)), exif=b"Exif\0\0garbage that is no TIFF header")
    assert read_image(path).shape == (3, 16, 16)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "float16", "float32", "float64"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_keeps_its_type(tmp_path: Path, dtype: str, byteorder: str) -> None:
    image = pixels((5, 7), dtype)
    tifffile.imwrite(tmp_path / "a.tif", image, byteorder=byteorder)
    read = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(read, image[np.newaxis])
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative


@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd", "packbits"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_compressed_and_tiled_tiff(
    tmp_path: Path, compression: str, tile: tuple[int, int] | None
) -> None:
    image = pixels((40, 50, 3), "uint16")
    tifffile.imwrite(
        tmp_path / "a.tif", image, photometric="rgb", compression=compression, tile=tile
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), channels_first(image))


def test_channels_of_a_tiff_are_samples_planes_or_pages(tmp_path: Path) -> None:
    image = pixels((5, 12, 20), "uint16")
    plain = {"photometric": "minisblack"}
    tifffile.imwrite(
        tmp_path / "samples.tif", image.transpose(1, 2, 0), planarconfig="contig", **plain
    )
    tifffile.imwrite(tmp_path / "planes.tif", image, planarconfig="separate", **plain)
    tifffile.imwrite(tmp_path / "shaped.tif", image, **plain)
    tifffile.imwrite(tmp_path / "ome.ome.tif", image, metadata={"axes": "CYX"}, **plain)
    tifffile.imwrite(tmp_path / "imagej.tif", image, imagej=True, metadata={"axes": "CYX"})
    with tifffile.TiffWriter(tmp_path / "pages.tif") as file:
        for channel in image:
            file.write(channel, metadata=None, **plain)
    paths = sorted(tmp_path.glob("*.tif"))
    assert len(paths) == 6
    for path in paths:
        np.testing.assert_array_equal(read_image(path), image, err_msg=path.name)


def test_smaller_copies_inside_a_tiff_are_passed_over(tmp_path: Path) -> None:
    image = pixels((40, 60, 3))
    with tifffile.TiffWriter(tmp_path / "thumbnail.tif") as file:
        file.write(image, photometric="rgb", metadata=None)
        file.write(image[:13, :17], photometric="rgb", metadata=None, subfiletype=1)
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as file:
        file.write(image, photometric="rgb", metadata=None, subifds=1)
        file.write(image[::2, ::2], photometric="rgb", metadata=None, subfiletype=1)
    for name in ("thumbnail", "pyramid"):
        np.testing.assert_array_equal(
            read_image(tmp_path / f"{name}.tif"), channels_first(image), err_msg=name
        )


def test_white_is_zero_is_inverted_in_images(tmp_path: Path) -> None:
    image = pixels((5, 7))
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), 255 - image[np.newaxis])


def test_content_counts_not_the_suffix(save: Save) -> None:
    image = pixels((5, 7, 3))
    path = save("a.png", image).rename(save("b.png", image).with_name("really_png.jpg"))
    np.testing.assert_array_equal(read_image(path), channels_first(image))


@pytest.mark.parametrize("metadata", [{"axes": "ZYX"}, {"axes": "TYX"}])
def test_slices_and_times_are_not_taken_for_channels(
    tmp_path: Path, metadata: dict[str, str]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels((4, 8, 9)), imagej=True, metadata=metadata)
    with pytest.raises(BadDataError, match=r"a\.tif: a TIFF image must have the axes Y, X .* got"):
        read_image(tmp_path / "a.tif")


def test_channels_written_last_without_saying_so_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels((40, 50, 5), "uint16"))
    with pytest.raises(BadDataError, match=r"got 40 pages only 5 px wide; .*planarconfig='contig'"):
        read_image(tmp_path / "a.tif")


def test_pages_of_different_size_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(pixels((40, 60)), metadata=None)
        file.write(pixels((21, 31)), metadata=None)
    with pytest.raises(BadDataError, match="must hold one image, got 2 of different size or type"):
        read_image(tmp_path / "a.tif")


def test_cmyk_of_16_bits_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels((8, 9, 4), "uint16"), photometric="separated")
    with pytest.raises(BadDataError, match="a CMYK image must have 8 bits, got uint16"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float, dtype: str) -> None:
    image = pixels((5, 7), dtype)
    image[2, 3] = image[4, 6] = value
    tifffile.imwrite(tmp_path / "a.tif", image)
    with pytest.raises(BadDataError, match=r"must be finite, got NaN or infinity at 2 places"):
        read_image(tmp_path / "a.tif")


def test_complex_numbers_are_no_image(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), dtype=np.complex64))
    with pytest.raises(BadDataError, match=r"images must be of uint8, .* got complex64"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files_are_refused(save: Save, suffix: str, share: float) -> None:
    path = save(f"a.{suffix}", pixels((60, 70, 3)))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadDataError, match=rf"a\.{suffix}: cannot be decoded, perhaps truncated"):
        read_image(path)


def test_a_damaged_checksum_is_refused(save: Save) -> None:
    path = save("a.png", pixels((60, 70, 3)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(BadDataError, match=r"a\.png: cannot be decoded"):
        read_image(path)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"%PDF-1.7 and so on", "is not an image that can be read: PNG, JPEG, BMP or TIFF"),
        (b"\x89PNG\r\n\x1a\n", "cannot be decoded"),
        (b"II*\0", "cannot be decoded"),
        (b"MM\0*", "cannot be decoded"),
        (b"\xff\xd8\xff", "cannot be decoded"),
        (b"BM", "cannot be decoded"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes, rule: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(BadDataError, match=rf"a\.png: {rule}"):
        read_image(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"a\.png: cannot be opened \(No such file"):
        read_image(tmp_path / "a.png")


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"cannot be opened \(Is a directory"):
        read_image(tmp_path)


def test_image_files_expands_folders_in_order(save: Save, tmp_path: Path) -> None:
    image = pixels((4, 5))
    b, a, c = save("in/b.png", image), save("in/a.tif", image), save("c.jpg", image)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    (tmp_path / "in" / "._b.png").write_bytes(b"left by a desktop")
    assert image_files([c, tmp_path / "in", b]) == [c, a, b]


def test_image_files_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"none\.png: does not exist"):
        image_files([tmp_path / "none.png"])


def test_image_files_refuses_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"holds no image \(\.png .*\)$"):
        image_files([tmp_path])
    (tmp_path / "images").mkdir()
    with pytest.raises(BadDataError, match=r"holds no image .*; take its images/"):
        image_files([tmp_path])


def test_image_files_refuses_equal_stems(save: Save) -> None:
    image = pixels((4, 5))
    with pytest.raises(BadDataError, match=r"different stems, got .*a\.png and .*a\.jpg"):
        image_files([save("a.png", image), save("a.jpg", image)])
