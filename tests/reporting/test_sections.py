"""Which images are shown, what the matrix says, and pictures px by px."""

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image

from fullconv.images import ClassTable
from fullconv.reporting._confusion import colours_of, confusion, shares_of
from fullconv.reporting._examples import choose
from fullconv.reporting._gather import gather
from fullconv.reporting._pictures import (
    BYTES,
    ERROR,
    SIDE,
    error_picture,
    label_picture,
    photograph,
)
from fullconv.reporting._record import ImageScore
from fullconv.reporting._setup import subject
from fullconv.runs import Run

TABLE = ClassTable(names=("a", "b", "c"), colours=((1, 2, 3), (200, 0, 9), (255, 255, 255)))
NAN = float("nan")


def scored(*scores: float) -> tuple[ImageScore, ...]:
    return tuple(
        ImageScore(name=str(i), mean_iu=score, pixel_accuracy=1) for i, score in enumerate(scores)
    )


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((0.5,), [("The only one", "0")]),
        ((0.2, 0.9), [("Best", "1"), ("Worst", "0")]),
        ((0.2, 0.9, 0.4), [("Best", "1"), ("Median", "2"), ("Worst", "0")]),
        ((0.1, 0.2, 0.3, 0.4), [("Best", "3"), ("Median", "2"), ("Worst", "0")]),
        ((NAN, 0.2, 0.3), [("Best", "2"), ("Median", "1"), ("Worst", "0")]),
        ((NAN, 0.0), [("Best", "1"), ("Worst", "0")]),
    ],
)
def test_best_median_and_worst_are_chosen_by_mean_iu(
    scores: tuple[float, ...], expected: list[tuple[str, str]]
) -> None:
    assert [(rank, image.name) for rank, image in choose(scored(*scores))] == expected


def test_shares_are_of_the_true_class_and_absent_classes_have_none() -> None:
    matrix = np.array([[3, 1, 0], [0, 0, 0], [2, 2, 4]])
    expected = [[0.75, 0.25, 0], [NAN, NAN, NAN], [0.25, 0.25, 0.5]]
    assert shares_of(matrix) == pytest.approx(np.array(expected), nan_ok=True)


def test_right_is_blue_wrong_is_red_nothing_is_white_and_absent_is_grey() -> None:
    colours = colours_of(np.array([[1, 0, 0], [1, 0, 0], [NAN, NAN, NAN]])).astype(int)
    red, _, blue = np.moveaxis(colours, -1, 0)
    assert blue[0, 0] > red[0, 0] + 100
    assert red[1, 0] > blue[1, 0] + 100
    assert (colours[[0, 0, 1, 1], [1, 2, 1, 2]] == 255).all()
    assert (colours[2] == colours[2, 0]).all()
    assert 230 < colours[2].mean() < 250


def test_the_table_of_the_matrix_shows_share_and_px_of_each_cell(
    make_run: Callable[..., Run], story: Any
) -> None:
    section = confusion(gather(make_run(story)))
    assert section is not None
    matrix = story.confusion()
    cells = re.findall(r"<td[^>]*>([^<]*)<small>([^<]*)</small></td>", section.body)
    assert len(cells) == matrix.size
    for (share, px), counted, row in zip(cells, matrix.flat, matrix.sum(1).repeat(3), strict=True):
        if not counted:
            assert (share, px) == ("", "")
            continue
        assert float(share) == pytest.approx(100 * counted / row, abs=0.5)
        scale = 1000 if "k" in px else 1
        assert float(px.split()[0]) * scale == pytest.approx(counted, rel=0.06)


def test_mistakes_are_listed_from_the_largest(make_run: Callable[..., Run], story: Any) -> None:
    section = confusion(gather(make_run(story)))
    assert section is not None
    listed = re.findall(r"<b>(\w+)</b> taken for .*?<b>(\w+)</b>: (\d+) px", section.body)
    matrix, names = story.confusion(), story.classes
    wrong = {
        (names[i], names[j], str(matrix[i, j]))
        for i in range(3)
        for j in range(3)
        if i != j and matrix[i, j]
    }
    assert set(listed) == wrong
    assert [int(px) for *_, px in listed] == sorted((int(p) for *_, p in wrong), reverse=True)


def decoded(address: Markup) -> Image.Image:
    kind, _, data = address.partition(";base64,")
    assert kind in ("data:image/png", "data:image/webp")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_labels_have_their_colours_and_ignored_px_are_transparent() -> None:
    labels = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)
    pixels = np.asarray(decoded(label_picture(labels, TABLE)).convert("RGBA"))
    opaque = [(*colour, 255) for colour in TABLE.colours]
    expected = [[opaque[0], opaque[1], opaque[2]], [opaque[2], (0, 0, 0, 0), opaque[0]]]
    assert pixels[..., 3].tolist() == [[p[3] for p in row] for row in expected]
    known = labels != 255
    assert pixels[known].tolist() == np.array(expected)[known].tolist()


def test_more_classes_than_a_palette_holds_keep_their_colours() -> None:
    table = ClassTable.default(300)
    labels = np.arange(300, dtype=np.uint16).reshape(15, 20)
    pixels = np.asarray(decoded(label_picture(labels, table)).convert("RGBA"))
    assert pixels[..., :3].reshape(-1, 3).tolist() == [list(colour) for colour in table.colours]


def test_errors_are_coloured_and_the_rest_is_transparent() -> None:
    wrong = np.array([[True, False], [False, True]])
    pixels = np.asarray(decoded(error_picture(wrong)).convert("RGBA"))
    assert pixels[wrong].tolist() == [list(ERROR)] * 2
    assert (pixels[~wrong][:, 3] == 0).all()


def test_a_small_image_is_kept_px_by_px() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 20, 30), np.uint8)
    pixels = np.asarray(decoded(photograph(image)).convert("RGB"))
    assert np.array_equal(np.moveaxis(pixels, -1, 0), image)


@pytest.mark.parametrize("shape", [(5000, 4000), (40, 7000), (6000, 30)])
def test_a_large_image_is_shown_smaller_with_its_proportions(shape: tuple[int, int]) -> None:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    image = np.broadcast_to((rows + columns) // 40 % 256, (1, *shape)).astype(np.uint16)
    address = photograph(image)
    width, height = decoded(address).size
    assert max(width, height) <= SIDE
    longest = max(shape)
    assert height == pytest.approx(shape[0] * SIDE / longest, abs=2)
    assert width == pytest.approx(shape[1] * SIDE / longest, abs=2)
    assert len(address) < BYTES * 1.4


def test_a_picture_of_noise_shrinks_until_it_is_small_in_bytes() -> None:
    noise = np.random.default_rng(0).integers(0, 250, (900, 900), np.uint8)
    address = label_picture(noise, ClassTable.default(250))
    assert 0.5 * BYTES < len(address) * 3 / 4 < BYTES * 1.01


def test_a_section_that_has_nothing_to_say_is_left_out(
    make_run: Callable[..., Run], story: Any
) -> None:
    assert confusion(gather(make_run(replace(story, evaluated=False)))) is None


def test_what_a_run_started_from_is_told(make_run: Callable[[Any], Run], story: Any) -> None:
    record = gather(make_run(story))
    assert "<dt>Start</dt>" not in subject(record).body
    started = replace(record, config={**record.config, "weights": "a<b>.safetensors"})
    assert "<dt>Start</dt><dd>the weights in a&lt;b&gt;.safetensors</dd>" in subject(started).body
