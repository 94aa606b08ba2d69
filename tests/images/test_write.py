"""Written files: read back, whole or absent, with their palette."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fullconv.errors import BadOutputError
from fullconv.images import (
    ClassTable,
    atomic,
    read_mask,
    write_labels,
    write_overlay,
    write_probabilities,
)

COLOURS = ((10, 20, 30), (255, 0, 0), (0, 0, 255))
THREE = ClassTable(names=("a", "b", "c"), colours=COLOURS)
LABELS = np.array([[0, 1, 2, 255], [2, 1, 0, 0], [255, 2, 2, 1]], dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff"])
@pytest.mark.parametrize(
    "table",
    [
        THREE,
        ClassTable(names=("a", "b", "c"), colours=COLOURS, indices=(3, 200, 254), ignored=(7,)),
        ClassTable(names=("a", "b", "c"), colours=COLOURS, indices=(0, 128, 255)),
        ClassTable(names=("a", "b", "c"), colours=COLOURS, indices=(0, 1, 255), ignored=(7,)),
        ClassTable(names=("a", "b", "c"), colours=COLOURS, indices=(0, 300, 40_000)),
        ClassTable(names=("a", "b", "c"), colours=COLOURS, indices=(0, 255, 65535), ignored=(9,)),
    ],
    ids=lambda table: str(table.indices),
)
@pytest.mark.parametrize("some_ignored", [False, True])
def test_labels_are_read_back(
    tmp_path: Path, suffix: str, table: ClassTable, some_ignored: bool
) -> None:
    labels = LABELS if some_ignored else np.where(LABELS == 255, 1, LABELS)
    path = tmp_path / f"m.{suffix}"
    write_labels(path, labels, table)
    np.testing.assert_array_equal(read_mask(path, table), labels)


def test_labels_of_many_classes_are_16_bit(tmp_path: Path) -> None:
    table = ClassTable.default(300)
    labels = np.array([[0, 255, 299], [65535, 256, 1]], dtype=np.uint16)
    for name in ("m.png", "m.tif"):
        write_labels(tmp_path / name, labels, table)
        np.testing.assert_array_equal(read_mask(tmp_path / name, table), labels)
    with Image.open(tmp_path / "m.png") as picture:
        assert np.asarray(picture).max() == 65535


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("indices", [(0, 1, 2), (4, 128, 255)])
def test_labels_look_like_their_classes_in_any_viewer(
    tmp_path: Path, suffix: str, indices: tuple[int, ...]
) -> None:
    table = ClassTable(names=("a", "b", "c"), colours=COLOURS, indices=indices)
    labels = np.where(LABELS == 255, 0, LABELS)
    write_labels(tmp_path / f"m.{suffix}", labels, table)
    with Image.open(tmp_path / f"m.{suffix}") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), np.array(indices)[labels])
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), np.array(COLOURS)[labels])


@pytest.mark.parametrize("suffix", ["tif", "npy"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("classes", [1, 2, 3, 5])
def test_probabilities_keep_value_and_type(
    tmp_path: Path, suffix: str, dtype: str, classes: int
) -> None:
    values = np.random.default_rng(2).random((classes, 6, 70)).astype(dtype)
    path = tmp_path / f"p.{suffix}"
    write_probabilities(path, values)
    read = np.load(path) if suffix == "npy" else tifffile.imread(path)
    np.testing.assert_array_equal(read.reshape(values.shape), values)
    assert read.dtype == np.dtype(dtype)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_overlays_mix_image_and_colour(tmp_path: Path, suffix: str) -> None:
    image = np.full((1, 32, 48), 100, dtype=np.uint8)
    labels = np.repeat(np.array([[1, 2, 255]], dtype=np.uint8), 32, axis=0).repeat(16, axis=1)
    path = tmp_path / "deep" / f"o.{suffix}"
    write_overlay(path, image, labels, THREE)
    with Image.open(path) as picture:
        middle = np.asarray(picture)[16, [8, 24, 40]]
    expected = [(178, 50, 50), (50, 50, 178), (100, 100, 100)]
    np.testing.assert_allclose(middle, expected, atol=4 if suffix == "jpg" else 0)


def test_ignored_pixels_need_an_index(tmp_path: Path) -> None:
    table = ClassTable(names=("a", "b", "c"), colours=COLOURS, indices=(0, 255, 65535))
    with pytest.raises(BadOutputError, match="must leave an index for ignored pixels, got classes"):
        write_labels(tmp_path / "m.png", LABELS, table)


def test_what_was_there_before_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    path.write_text("old")
    write_labels(path, LABELS, THREE)
    np.testing.assert_array_equal(read_mask(path, THREE), LABELS)
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_suffix_is_refused_with_those_that_work(tmp_path: Path) -> None:
    with pytest.raises(BadOutputError, match=r"end in \.png, \.tif, \.tiff; got m\.jpg"):
        write_labels(tmp_path / "m.jpg", LABELS, THREE)
    with pytest.raises(BadOutputError, match=r"end in \.npy, \.tif, \.tiff; got p\.png"):
        write_probabilities(tmp_path / "p.png", np.zeros((2, 3, 4), dtype=np.float32))


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadOutputError, match=r"file/m\.png must be writable, got: "):
        write_labels(tmp_path / "file" / "m.png", LABELS, THREE)


def test_a_folder_without_the_right_to_write_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(BadOutputError, match=r"m\.png must be writable, got: Permission denied"):
        write_labels(tmp_path / "m.png", LABELS, THREE)


FULL_DISK = """
import sys, numpy as np
from pathlib import Path
from fullconv.errors import BadOutputError
from fullconv.images import ClassTable, write_labels, write_overlay, write_probabilities
folder = Path(sys.argv[1])
noise = np.random.default_rng(0).integers(0, 2, (500, 600), dtype=np.uint8)
table = ClassTable.default(2)
jobs = {
    "m.png": lambda p: write_labels(p, noise, table),
    "m.tif": lambda p: write_labels(p, noise, table),
    "o.jpg": lambda p: write_overlay(p, noise[None] * 255, noise, table),
    "p.npy": lambda p: write_probabilities(p, noise[None].astype(np.float32)),
    "p.tif": lambda p: write_probabilities(p, noise[None] * np.random.default_rng(1).random((1, 500, 600))),
}
for name, job in jobs.items():
    try:
        job(folder / name)
    except BadOutputError as error:
        print(error)
"""


def no_room() -> None:
    """Let no file grow past 4 KiB, as on a full disk; without the signal, writing fails."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def test_a_full_disk_leaves_what_was_there_and_nothing_half_written(tmp_path: Path) -> None:
    names = ["m.png", "m.tif", "o.jpg", "p.npy", "p.tif"]
    for name in names:
        (tmp_path / name).write_text("before")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        preexec_fn=no_room,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.count("must be writable, got: ") == len(names), done.stdout + done.stderr
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == dict.fromkeys(names, "before")


def test_an_interruption_leaves_nothing_half_written(tmp_path: Path) -> None:
    def interrupted() -> None:
        with atomic(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
