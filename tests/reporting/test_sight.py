"""The picture of field and window: to scale, on images with one, two and three axes."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

import fullconv as fc
from fullconv.reporting import Record, picture_of
from fullconv.reporting._gather import gather
from fullconv.reporting._sight import sight
from fullconv.runs import Run


def rectangles(svg: str) -> list[tuple[int, int]]:
    """Width and height of the image, what a window reads, what it owns, and a field."""
    found = [
        (int(e.attrib["width"]), int(e.attrib["height"]))
        for e in ElementTree.fromstring(svg).iter()
        if e.tag.endswith("rect")
    ]
    assert len(found) == 4
    return found


def test_field_and_window_are_drawn_to_scale() -> None:
    geometry = fc.trace(torch.nn.Conv2d(3, 2, (5, 9), padding=(2, 4)))
    image, reads, owned, field = rectangles(picture_of(geometry, (80, 160)))
    assert (image, field) == ((160, 80), (9, 5))
    assert (reads[0] - owned[0], reads[1] - owned[1]) == (8, 4)


@pytest.fixture
def record(make_run: Callable[[Any], Run], story: Any) -> Record:
    return gather(make_run(story))


@pytest.mark.parametrize(("ndim", "field"), [(1, "field 3<"), (3, "field 3 × 3 × 3<")])
def test_one_axis_is_drawn_as_a_strip_and_of_three_the_last_two(ndim: int, field: str) -> None:
    layer = {1: torch.nn.Conv1d, 3: torch.nn.Conv3d}[ndim](3, 2, 3)
    svg = picture_of(fc.trace(layer), (40,) * ndim)
    assert field in svg
    assert rectangles(svg)[0] == (40, 40)


def test_the_section_tells_the_geometry_of_the_runs_network(record: Record) -> None:
    geometry = fc.trace(torch.nn.Conv2d(3, 2, 7, padding=3))
    section = sight(replace(record, geometry=geometry))
    assert section is not None
    assert re.search(r"receptive field</dt><dd>7 × 7 px", section.body)


def test_the_section_says_why_there_is_no_field(record: Record) -> None:
    section = sight(replace(record, geometry="`a.norm` <b> is not local"))
    assert section is not None
    assert "`a.norm` &lt;b&gt; is not local" in section.body
