"""What is kept of a map, and what is left of the memory of a process."""

from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
import torch
from PIL import Image
from torch import nn

from fullconv.errors import BadConfigError, FullconvError
from fullconv.images import ClassTable
from fullconv.prediction import (
    Answer,
    Predictor,
    left_for_windows,
    plan_files,
    predict,
    predict_files,
    process_memory,
)


def test_an_answer_has_the_likeliest_classes_and_probabilities_of_the_map() -> None:
    torch.manual_seed(0)
    net = nn.Conv2d(3, 5, 3, padding=1)
    image = np.random.default_rng(0).random((3, 61, 47), np.float32)
    logits = predict(net, image)
    for memory in (None, 50_000):
        answer = Answer((5, 61, 47), dtype="uint8", probabilities=True)
        Predictor(net, memory)(image, answer)
        assert answer.labels.dtype == np.uint8
        assert np.array_equal(answer.labels, logits.argmax(0))
        powers = np.exp(logits - logits.max(0))
        assert answer.probabilities is not None
        assert np.abs(answer.probabilities - powers / powers.sum(0)).max() < 1e-3


def test_quantised_probabilities_are_rounded_once(tmp_path: Path) -> None:
    """As they are from disk to disk; through 16-bit floats, some hundreds would be off by one."""
    torch.manual_seed(0)
    net = nn.Conv2d(1, 3, 3, padding=1)
    pixels = np.random.default_rng(0).integers(0, 9, (90, 80), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    jobs = plan_files([tmp_path / "a.png"], tmp_path / "out", probabilities=True, quantised=True)
    predict_files(net, jobs, ClassTable.default(3), channels=1)
    shares = torch.from_numpy(predict(net, pixels[None].astype(np.float32))).softmax(0)
    found = tifffile.imread(tmp_path / "out" / "a.probabilities.tif")
    assert found.dtype == np.uint8
    assert np.array_equal(found, (255 * shares).round().numpy())


def test_without_probabilities_none_are_kept() -> None:
    assert Answer((5, 6, 4), dtype="uint8").probabilities is None


def test_an_image_that_cannot_be_written_to_is_predicted() -> None:
    image = np.ones((1, 8, 8), np.float32)
    image.flags.writeable = False
    assert predict(nn.Conv2d(1, 2, 1), image).shape == (2, 8, 8)


def test_a_share_of_memory_is_one_of_what_is_free_and_of_what_the_process_has() -> None:
    all_of_it = psutil.virtual_memory().available + psutil.Process().memory_info().rss
    assert 0.3 * all_of_it < process_memory("50%") < 0.7 * all_of_it
    assert process_memory("2 GiB") == 2 * 2**30


def test_what_the_process_holds_is_subtracted() -> None:
    net = nn.Conv2d(1, 1, 1)
    left = left_for_windows(10**11, net, held_bytes=0)
    assert left < 10**11 - psutil.Process().memory_info().rss / 2
    assert left_for_windows(10**11, net, held_bytes=10**10) < left - 9 * 10**9


def test_less_than_the_process_holds_is_refused() -> None:
    with pytest.raises(FullconvError, match="`memory` must hold the whole process, got 10 MiB"):
        left_for_windows(10 * 2**20, nn.Conv2d(1, 1, 1), held_bytes=0)
    with pytest.raises(BadConfigError, match="`memory` must be an amount such as"):
        process_memory("much")


def test_room_is_kept_for_an_overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "a.png")
    held: list[int] = []

    def left(limit: int, _: nn.Module, *, held_bytes: int) -> int:
        held.append(held_bytes)
        return limit

    monkeypatch.setattr("fullconv.prediction._files.left_for_windows", left)
    for wanted in (False, True):
        jobs = plan_files([tmp_path / "a.png"], tmp_path / f"out-{wanted}", overlay=wanted)
        classes = ClassTable.default(2)
        predict_files(nn.Conv2d(1, 2, 1), jobs, classes, channels=1, memory="1 GiB")
    assert held == [20 * 30, 20 * 30 * 8]
