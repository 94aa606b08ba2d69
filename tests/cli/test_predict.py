"""`fullconv predict`: files, against the network called by hand."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from fullconv.prediction import _predict
from fullconv.runs import Run


def opened(path: Path) -> Image.Image:
    """The whole image; its file is closed."""
    with Image.open(path) as image:
        image.load()
        return image.copy()


def logits(run: Path, image: Path) -> torch.Tensor:
    pixels = np.asarray(opened(image)).astype(np.float32)
    with torch.inference_mode():
        return Run(run).network()(torch.from_numpy(pixels).movedim(-1, 0)[None])[0]


def test_labels_have_the_size_of_the_image_and_the_colours_of_the_classes(
    trained: Path, data: Path, tmp_path: Path, fullconv: Any
) -> None:
    found = fullconv("predict", trained, data / "images", "--out", tmp_path / "out")
    assert (found.status, found.out) == (0, f"6 label images in {tmp_path / 'out'}\n")
    for image in sorted((data / "images").iterdir()):
        labels = opened(tmp_path / "out" / image.name)
        assert np.array_equal(np.asarray(labels), logits(trained, image).argmax(0).numpy())
        palette = labels.getpalette()
        assert palette is not None
        assert palette[:6] == [0, 0, 255, 255, 128, 0]


def test_overlays_and_probabilities(
    trained: Path, data: Path, tmp_path: Path, fullconv: Any
) -> None:
    image = data / "images" / "0.png"
    flags = ("--overlay", "--probabilities")
    assert fullconv("predict", trained, image, "--out", tmp_path, *flags).status == 0
    found = tifffile.imread(tmp_path / "0.probabilities.tif")
    assert found.dtype == np.float16
    wanted = logits(trained, image).softmax(0).numpy()
    assert np.abs(found.astype(np.float32) - wanted).max() < 1e-3
    assert opened(tmp_path / "0.overlay.png").size == opened(image).size


def test_a_tiff_gives_a_tiff(trained: Path, data: Path, tmp_path: Path, fullconv: Any) -> None:
    pixels = np.asarray(opened(data / "images" / "0.png"))
    tifffile.imwrite(tmp_path / "a.TIFF", pixels, photometric="rgb")
    assert fullconv("predict", trained, tmp_path / "a.TIFF", "--out", tmp_path / "out").status == 0
    labels = tifffile.imread(tmp_path / "out" / "a.tif")
    assert np.array_equal(labels, logits(trained, data / "images" / "0.png").argmax(0).numpy())


def test_an_image_in_windows_is_labelled_as_the_whole_image(
    trained: Path, tmp_path: Path, fullconv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is said to hold all but 66 MiB of its memory, so that windows are needed."""
    pixels = np.random.default_rng(0).integers(0, 255, (601, 422, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    monkeypatch.setattr("fullconv.prediction._process._resident_bytes", lambda: 10**9 - 66 * 2**20)
    written: list[Any] = []
    write = _predict._write

    def counted(*arguments: Any) -> None:
        written.append(arguments)
        write(*arguments)

    monkeypatch.setattr(_predict, "_write", counted)
    for out, memory in (("whole", ()), ("windows", ("--memory", "1GB"))):
        found = fullconv("predict", trained, tmp_path / "a.png", "--out", tmp_path / out, *memory)
        assert found.status == 0, found.err
    whole, windows = (np.asarray(opened(tmp_path / o / "a.png")) for o in ("whole", "windows"))
    assert np.array_equal(whole, windows)
    assert len(written) > 4


def test_memory_is_for_the_whole_process(
    trained: Path, data: Path, tmp_path: Path, fullconv: Any
) -> None:
    image = data / "images" / "0.png"
    found = fullconv("predict", trained, image, "--out", tmp_path, "--memory", "50MB")
    assert found.status == 1
    assert "`memory` must hold the whole process, got 48 MiB where program, network" in found.err
    assert not (tmp_path / "0.png").exists()


def test_results_are_replaced_only_when_asked(
    trained: Path, data: Path, tmp_path: Path, fullconv: Any
) -> None:
    image = data / "images" / "0.png"
    (tmp_path / "0.png").write_text("mine")
    found = fullconv("predict", trained, image, "--out", tmp_path)
    assert found.status == 1
    assert "`out` must not hold results yet, got 1 that are there already" in found.err
    assert (tmp_path / "0.png").read_text() == "mine"
    assert fullconv("predict", trained, image, "--out", tmp_path, "--overwrite").status == 0
    assert opened(tmp_path / "0.png").mode == "P"


def test_an_image_is_never_replaced(trained: Path, data: Path, fullconv: Any) -> None:
    image = data / "images" / "0.png"
    before = image.read_bytes()
    found = fullconv("predict", trained, image, "--out", image.parent, "--overwrite")
    assert found.status == 1
    assert "`out` must be another folder than that of the images" in found.err
    assert image.read_bytes() == before


def test_two_results_of_one_name_are_refused(
    trained: Path, data: Path, tmp_path: Path, fullconv: Any
) -> None:
    other = tmp_path / "0.overlay.png"
    other.write_bytes((data / "images" / "1.png").read_bytes())
    images = (data / "images" / "0.png", other)
    found = fullconv("predict", trained, *images, "--out", tmp_path / "out", "--overlay")
    assert found.status == 1
    assert "two results called 0.overlay.png" in found.err
    twice = fullconv("predict", trained, images[0], data / "masks" / "0.png", "--out", tmp_path)
    assert twice.status == 1
    assert "must have different stems" in twice.err


def test_bad_images_are_named_together_and_the_others_are_done(
    trained: Path, data: Path, tmp_path: Path, fullconv: Any
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    opened(data / "masks" / "0.png").save(folder / "grey.png")
    (folder / "cut.png").write_bytes((data / "images" / "0.png").read_bytes()[:200])
    opened(data / "images" / "0.png").save(folder / "good.png")
    found = fullconv("predict", trained, folder, "--out", tmp_path / "out")
    assert found.status == 1
    assert "got 2 that are not; 1 other is done" in found.err
    assert (
        "grey.png: as the network was trained, images must have 3 channels, got 1 channel\n"
        in found.err
    )
    assert "cut.png: cannot be decoded" in found.err
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == ["good.png"]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_process_keeps_to_its_memory(trained: Path, tmp_path: Path) -> None:
    """Against the largest resident size that the system noted; a whole image takes 560 MB."""
    draw = np.random.default_rng(0).integers(0, 255, (2400, 2000, 3), np.uint8)
    Image.fromarray(draw).save(tmp_path / "a.png", compress_level=1)
    code = (
        "import sys; from fullconv.cli import main; status = main();"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]); sys.exit(status)"
    )

    def peak(*memory: str) -> int:
        out = tmp_path / "-".join(["out", *memory])
        command = ("predict", trained, tmp_path / "a.png", "--out", out, *memory)
        found = subprocess.run(
            [sys.executable, "-c", code, *map(str, command)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stderr
        return int(found.stdout.splitlines()[-1]) * 1024

    limit = 480 * 10**6
    assert peak("--memory", "480MB") <= limit < peak()


def test_a_long_list_of_bad_images_is_cut(trained: Path, tmp_path: Path, fullconv: Any) -> None:
    for i in range(23):
        (tmp_path / f"{i:02}.png").write_text("no image")
    found = fullconv("predict", trained, tmp_path, "--out", tmp_path / "out")
    assert "got 23 that are not; 0 others are done" in found.err
    assert "19.png: is not an image" in found.err
    assert found.err.endswith("… and 3 more\n")
