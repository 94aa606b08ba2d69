"""`fullconv predict` on images that go from disk to disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import pytest
import tifffile
import torch
import zarr

from fullconv.images import open_image
from fullconv.regions import part_of
from fullconv.runs import Run

PIXELS = np.random.default_rng(0).integers(0, 255, (3, 201, 322), np.uint8)


def expected(run: Path) -> np.ndarray:
    pixels = torch.from_numpy(PIXELS.astype(np.float32))[None]
    with torch.inference_mode():
        return Run(run).network()(pixels)[0].softmax(0).numpy()


def image(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if name.endswith(".zarr"):
        array = zarr.create_array(
            str(path),
            shape=PIXELS.shape,
            dtype="u1",
            chunks=(3, 64, 64),
            dimension_names=list("cyx"),
        )
        array[...] = PIXELS
    elif name.endswith(".npy"):
        np.save(path, PIXELS)
    else:
        tifffile.imwrite(path, np.moveaxis(PIXELS, 0, -1), photometric="rgb", tile=(64, 64))
    return path


@pytest.mark.parametrize(("name", "result"), [
    ("a.zarr", "a.zarr"), ("a.npy", "a.zarr"), ("a.ome.tif", "a.ome.tif"),
])  # fmt: skip
def test_images_stay_what_they_are(
    name: str, result: str, trained: Path, tmp_path: Path, fullconv: Any
) -> None:
    folder = image(tmp_path / "in", name).parent
    found = fullconv("predict", trained, folder, "--out", tmp_path / "out")
    assert (found.status, found.out) == (0, f"1 label images in {tmp_path / 'out'}\n")
    labels = open_image(tmp_path / "out" / result)
    assert np.array_equal(labels[0], expected(trained).argmax(0))
    again = fullconv("predict", trained, folder, "--out", tmp_path / "out")
    assert "1 label images in" in again.out
    assert "1 of them done before" in again.out


def test_arrays_in_one_file_are_told_apart(trained: Path, tmp_path: Path, fullconv: Any) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["s0/raw"], file["s1/raw"] = PIXELS, PIXELS[:, ::-1]
    names = [f"{tmp_path}/scan.h5::s{k}/raw" for k in range(2)]
    found = fullconv("predict", trained, *names, "--out", tmp_path / "out")
    assert found.status == 0, found.err
    labels = open_image(tmp_path / "out" / "scan_s0_raw.zarr")
    assert np.array_equal(labels[0], expected(trained).argmax(0))
    assert (tmp_path / "out" / "scan_s1_raw.zarr").exists()
    assert fullconv("predict", trained, names[0], "--out", tmp_path / "one").status == 0
    assert (tmp_path / "one" / "scan.zarr").exists()
    found = fullconv("predict", trained, *names, "--out", tmp_path / "a::b")
    assert found.status == 1
    assert "`out` must have no `::`, behind which the name of an array in a file" in found.err


def test_another_format_and_probabilities_of_8_bits(
    trained: Path, tmp_path: Path, fullconv: Any
) -> None:
    path = image(tmp_path, "a.tif")
    flags = ("--format", "zarr", "--quantised", "--memory", "8GiB")
    found = fullconv("predict", trained, path, "--out", tmp_path / "out", *flags)
    assert found.status == 0, found.err
    shares = open_image(tmp_path / "out" / "a.probabilities.zarr")
    assert np.abs(shares[...] / 255 - expected(trained)).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(open_image(tmp_path / "out" / "a.zarr")[0], expected(trained).argmax(0))


def test_small_pictures_have_probabilities_of_8_bits_too(
    trained: Path, tmp_path: Path, fullconv: Any
) -> None:
    path = image(tmp_path, "a.tif")
    assert fullconv("predict", trained, path, "--out", tmp_path / "out", "--quantised").status == 0
    shares = tifffile.imread(tmp_path / "out" / "a.probabilities.tif")
    assert shares.dtype == np.uint8
    assert np.abs(shares / 255 - expected(trained)).max() <= 1.5 / 255


def test_an_overlay_of_a_large_image_is_refused(
    trained: Path, tmp_path: Path, fullconv: Any
) -> None:
    path = image(tmp_path, "a.zarr")
    found = fullconv("predict", trained, path, "--out", tmp_path / "out", "--overlay")
    assert found.status == 1
    assert "`overlay` must be of images that are read whole, got" in found.err


def test_the_labels_of_an_image_never_replace_it(
    trained: Path, tmp_path: Path, fullconv: Any
) -> None:
    path = image(tmp_path, "a.zarr")
    found = fullconv("predict", trained, path, "--out", tmp_path, "--overwrite")
    assert found.status == 1
    assert "`out` must be another folder than that of the images" in found.err
    assert open_image(path).shape == PIXELS.shape


def test_bad_large_images_are_told_and_the_others_done(
    trained: Path, tmp_path: Path, fullconv: Any
) -> None:
    image(tmp_path / "in", "good.zarr")
    bad = image(tmp_path / "in", "bad.zarr")
    (bad / "c" / "0" / "1" / "1").write_bytes(b"no chunk")
    np.save(tmp_path / "in" / "grey.npy", PIXELS[0])
    (tmp_path / "in" / "none.zarr").mkdir()
    found = fullconv("predict", trained, tmp_path / "in", "--out", tmp_path / "out")
    assert found.status == 1
    assert "got 3 that are not; 1 other is done" in found.err
    assert "bad.zarr: chunk c/0/1/1 cannot be decoded" in found.err
    assert "grey.npy: as the network was trained, images must have 3 channels, got 1" in found.err
    assert "none.zarr: is a folder, and neither a Zarr array nor" in found.err
    assert (tmp_path / "out" / "good.zarr").exists()
    assert not (tmp_path / "out" / "bad.zarr").exists()


def test_an_image_that_was_mended_is_predicted_by_the_same_command(
    trained: Path, tmp_path: Path, fullconv: Any
) -> None:
    path = image(tmp_path / "in", "a.zarr")
    chunk = path / "c" / "0" / "3" / "5"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: len(whole) // 2])
    command = ("predict", trained, tmp_path / "in", "--out", tmp_path / "out", "--memory", "2GiB")
    assert "a.zarr: chunk c/0/3/5 cannot be decoded" in fullconv(*command).err
    chunk.write_bytes(whole)
    found = fullconv(*command)
    assert found.status == 0, found.err
    assert np.array_equal(open_image(tmp_path / "out" / "a.zarr")[0], expected(trained).argmax(0))


def test_an_output_that_another_process_writes_does_not_keep_the_others_from_being_done(
    trained: Path, tmp_path: Path, fullconv: Any
) -> None:
    for name in ("a.zarr", "b.zarr"):
        image(tmp_path / "in", name)
    with part_of(tmp_path / "out" / "a.zarr"):
        found = fullconv("predict", trained, tmp_path / "in", "--out", tmp_path / "out")
    assert found.status == 1
    assert "`images` must all be predicted, got 1 that are not; 1 other is done" in found.err
    assert "a.zarr must be written by one process at a time" in found.err
    assert (tmp_path / "out" / "b.zarr").exists()


@pytest.mark.slow
def test_the_process_stays_within_its_memory(trained: Path, tmp_path: Path) -> None:
    """An image of 432 MB, and a map of 1.2 GB, in a process that may have 560 MiB."""
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=(3, 12000, 12000), dtype="u1", chunks=(3, 512, 512),
        dimension_names=list("cyx"), fill_value=7,
    )  # fmt: skip
    array[:, 5000:5600, 5000:5600] = np.random.default_rng(0).integers(
        0, 255, (3, 600, 600), np.uint8
    )
    limit = 560
    command = [sys.executable, "-m", "fullconv", "predict", str(trained), str(tmp_path / "a.zarr")]
    command += ["--out", str(tmp_path / "out"), "--memory", f"{limit}MiB"]
    code = "import sys; from fullconv.cli import main; sys.exit(main(sys.argv[1:]))"
    command[1:3] = ["-c", code]
    process = psutil.Popen(command)
    peak = 0
    while process.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        try:
            process.wait(0.05)
        except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
            continue
    assert process.wait() == 0
    assert open_image(tmp_path / "out" / "a.zarr").shape == (1, 12000, 12000)
    assert peak <= 1.05 * limit * 2**20, f"{peak / 2**20:.0f} MiB"
