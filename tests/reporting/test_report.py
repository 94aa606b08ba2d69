"""The report as a file: what is in it, what it never does, and the runs that went otherwise."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from fullconv.errors import BadRunError
from fullconv.images import ClassTable
from fullconv.reporting import SECTIONS, write_report
from fullconv.runs import Run, write_json

ADDRESSES = {"src", "href", "data", "action", "poster", "srcset", "background"}
FULL = [
    "results",
    "examples",
    "subject",
    "curves",
    "classes",
    "confusion",
    "frequencies",
    "sight",
    "setup",
]
Maker = Callable[..., Run]


class Page(HTMLParser):
    """Tags, addresses, sections and words of a page, read by Python's own parser."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags = list[str]()
        self.addresses = list[str]()
        self.sections = list[str]()
        self.words = ""
        self.html = path.read_text(encoding="utf-8")
        self.markup = re.sub('base64,[^"]*', "", self.html)
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ADDRESSES]
        if tag == "section":
            self.sections.append(dict(attrs)["id"] or "")

    def handle_data(self, data: str) -> None:
        self.words += data.replace("\u00a0", " ").replace("\u202f", " ")


@pytest.fixture
def page_of(make_run: Maker) -> Callable[[Any], Page]:
    return lambda story: Page(write_report(make_run(story)))


PageOf = Callable[[Any], Page]


def test_a_whole_run_has_every_section_in_order(make_run: Maker, story: Any) -> None:
    run = make_run(story)
    path = write_report(run)
    assert path == run.path / "report.html"
    assert Page(path).sections == FULL
    assert len(SECTIONS) == len(FULL) + 1  # runs of earlier versions know nothing of their memory


def test_the_summary_says_in_words_what_was_reached(make_run: Maker, story: Any) -> None:
    run = make_run(story)
    write_json(run.run_json, {"parameters": 481_123})
    page = Page(write_report(run))
    matrix = story.confusion()
    right, true, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    mean_iu = (right / (true + predicted - right)).mean()
    largest = int(true.argmax())
    baseline = true[largest] / true.sum() / 3
    assert (
        "A unet of 0.48 M parameters, trained for 3.1 minutes on 51 whole images of 48 × 64 px, "
        f"reaches mean IU {mean_iu:.2f} on 5 held-out images; always answering "
        f"“{story.classes[largest]}” would reach {baseline:.2f}."
    ) in page.words


def test_the_page_asks_for_nothing_outside_itself(page_of: PageOf, story: Any) -> None:
    page = page_of(story)
    assert "link" not in page.tags
    assert {address[:5] for address in page.addresses} == {"data:", *(f"#{s}"[:5] for s in FULL)}
    assert re.findall(r"https?:|url\(|@import|\bfetch\(|XMLHttpRequest", page.html) == []
    assert "default-src &#39;none&#39;; img-src data:;" in page.html


def test_names_with_markup_are_only_text(page_of: PageOf, story: Any) -> None:
    evil = "<script>alert('a & b')</script>"
    clean = page_of(story)
    story = replace(story, classes=(evil, "crop", "weed"), network=evil, data=f"/data/{evil}")
    story = replace(story, options={evil: evil}, folder="other")
    page = page_of(story)
    assert page.tags.count("script") == clean.tags.count("script")
    assert page.tags.count("body") == page.tags.count("html") == 1
    assert page.words.count(evil) > 10


def test_a_run_that_never_validated_nor_was_evaluated_says_so(page_of: PageOf, story: Any) -> None:
    page = page_of(replace(story, evaluated=False, num_steps=3, seconds=2.4, validations=0))
    assert page.sections == ["subject", "curves", "frequencies", "sight", "setup"]
    assert "was not evaluated on held-out images: the run was stopped before that." in page.words
    assert "trained for 2 seconds" in page.words
    assert "Training ended before the first validation." in page.words


def test_a_run_without_one_step_or_fact_is_reported_all_the_same(
    make_run: Maker, story: Any
) -> None:
    run = make_run(replace(story, evaluated=False, num_steps=0, validations=0))
    run.run_json.unlink()
    page = Page(write_report(run))
    assert page.sections == ["subject", "frequencies", "sight", "setup"]
    assert "no step was made" in page.words


def test_one_step_makes_a_chart_of_one_dot(page_of: PageOf, story: Any) -> None:
    page = page_of(replace(story, num_steps=1, validations=1))
    assert page.sections == FULL
    assert "nan" not in page.markup.lower()
    assert page.html.count('class="mean dots"') == 2


def test_a_run_without_held_out_images_says_so(page_of: PageOf, story: Any) -> None:
    page = page_of(replace(story, examples=(), evaluated=False, validations=0))
    assert "was not evaluated: every image was used for training." in page.words
    assert "There is no validation split" in page.words


def test_facts_of_a_run_are_told_as_people_write_them(make_run: Maker, story: Any) -> None:
    run = make_run(story)
    again = [{"command": "fullconv train --resume runs/fields", "start": "2026-01-02"}]
    machine = {"memory_bytes": 8 * 2**30, "gpus": []}
    write_json(
        run.run_json,
        {"command": "first", "resumed": again, "finished": True, "steps": 1200, "machine": machine},
    )
    page = Page(write_report(run))
    assert "<pre>first\nfullconv train --resume runs/fields</pre>" in page.html
    for name, value in (("finished", "yes"), ("steps", "1\u202f200"), ("memory", "8.0 GiB")):
        assert f"<dt>{name}</dt><dd>{value}</dd>" in page.html
    assert "gpus" not in page.words


def test_losses_that_are_no_numbers_are_counted_not_drawn(make_run: Maker, story: Any) -> None:
    run = make_run(story)
    rows = run.steps_csv.read_text().splitlines()
    rows[10] = "10,0,31.0,10,nan,0.001"
    rows[20] = "20,0,62.0,20,inf,0.001"
    run.steps_csv.write_text("\n".join(rows) + "\n")
    page = Page(write_report(run))
    assert "At 2 steps the loss was not a number; not drawn." in page.words
    assert not re.search(r'd="[^"]*(nan|inf)', page.html)


def test_a_class_that_never_occurs_is_a_dash_in_last_place(page_of: PageOf, story: Any) -> None:
    page = page_of(replace(story, classes=(*story.classes, "moss"), folder="absent"))
    rows = re.findall(r'<tr><th scope="row">.*?<span>(.*?)</span>.*?<output>(.*?)<', page.html)
    assert rows[3] == ("moss", "—")
    assert {name for name, _ in rows[:3]} == set(story.classes)
    assert "is left out of means" in page.words
    assert "nan" not in page.markup.lower()


@pytest.mark.parametrize("num_classes", [1, 2, 20, 21, 45, 150])
def test_any_number_of_classes_is_reported(page_of: PageOf, story: Any, num_classes: int) -> None:
    names = tuple(f"class {i}" for i in range(num_classes))
    page = page_of(replace(story, classes=names, examples=story.of(num_classes)))
    assert page.sections == FULL
    counts = re.search(r'id="counts">(.*?)</script>', page.html)
    assert counts is not None
    assert json.loads(counts[1]) == {
        "names": list(names),
        "counts": story.confusion_of(num_classes),
    }


def test_an_image_that_is_gone_is_named_and_the_others_are_shown(
    make_run: Maker, story: Any
) -> None:
    run = make_run(story)
    (run.path.parent / "plot_0.image.png").unlink()
    page = Page(write_report(run))
    assert page.html.count('class="trouble"') == 1
    assert "plot_0.image.png" in page.words
    assert page.html.count('<div class="stage') == 2


def write_tiff(path: Path, pixels: NDArray[Any]) -> None:
    if len(pixels) == 1:
        tifffile.imwrite(path, pixels[0], photometric="minisblack")
    else:
        tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="separate")


@pytest.mark.parametrize(
    ("dtype", "channels"), [("uint16", 1), ("float32", 5), ("uint8", 2), ("uint16", 4)]
)
def test_images_of_any_type_are_shown(
    make_run: Maker, story: Any, dtype: str, channels: int
) -> None:
    run = make_run(story)
    data = run.data()
    pixels = np.random.default_rng(0).random((channels, 48, 64)) * 200
    for sample in data["splits"]["val"]:
        path = Path(sample["image"]).with_suffix(".tif")
        write_tiff(path, pixels.astype(dtype))
        sample["image"] = str(path)
    write_json(run.data_json, data)
    page = Page(write_report(run))
    assert page.html.count('<div class="stage') == 3
    assert 'class="trouble"' not in page.html


def test_the_largest_pictures_stay_below_six_megabytes(make_run: Maker, story: Any) -> None:
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, 150, (1000, 1100), np.uint8) for _ in range(2)]
    noise = rng.integers(0, 256, (1000, 1100, 3), np.uint8)
    one = replace(story.examples[0], image=noise, truth=labels[0], prediction=labels[1])
    examples = tuple(replace(one, name=f"noise_{i}") for i in range(3))
    names = tuple(f"class {i}" for i in range(150))
    path = write_report(make_run(replace(story, classes=names, examples=examples)))
    assert 1e6 < path.stat().st_size < 6e6


def test_a_second_report_takes_the_place_of_the_first(make_run: Maker, story: Any) -> None:
    run = make_run(story)
    first = write_report(run).read_text()
    assert write_report(run).read_text() == first
    assert [p.name for p in run.path.glob("*report*")] == ["report.html"]


def test_a_folder_without_what_every_run_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRunError, match=r"network\.json"):
        write_report(Run(tmp_path))


def test_the_classes_keep_the_indices_of_their_masks(make_run: Maker, story: Any) -> None:
    table = ClassTable(
        names=story.classes, colours=((0, 0, 0), (9, 200, 9), (200, 9, 9)), indices=(7, 8, 9)
    )
    run = make_run(replace(story, table=table))
    assert 'class="trouble"' not in Page(write_report(run)).html
