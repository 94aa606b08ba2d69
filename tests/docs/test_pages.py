"""The README and the docs say what is so."""

import importlib.util
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn

import fullconv as fc
from fullconv.training import TrainConfig, train

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")])
LONG = ("README.md", "how-to.md", "what-does-it-see.md")  # blocks that train, and trace the largest
EXAMPLES = sorted(ROOT.glob("examples/*.py"))


def _pages() -> Any:
    spec = importlib.util.spec_from_file_location("pages", Path(__file__).with_name("pages.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    __import__("sys").modules["pages"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


pages = _pages()


# Lightning 2.6 asks PyTorch 2.13's pytree in a way that is going out of use.
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow) if path.name in LONG else path for path in PAGES],
    ids=lambda path: path.name,
)
def test_every_block_of_a_page_runs(path: Path) -> None:
    pages.run_page(path.read_text())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_to_one(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", r"prints \['1'\], not \['2'\]"),
        ("```python\nassert False, 'here'\n```\n", "here"),
        ("```sh\nfullconv trace nothing\n```\n", "fullconv trace nothing"),
        ("```sh\nls\n```\n", "only fullconv is run, not ls"),
        ("<!-- not run: -->\n```sh\nls\n```\n", "no reason is given"),
        ("```\nls\n```\n", "nobody runs ''"),
        ("```text\n1\n```\n", "output of nothing"),
        ("<!-- todo: later -->\n```sh\nls\n```\n", "unknown comment: todo"),
    ],
)
def test_a_page_that_is_wrong_fails(page: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        pages.run_page(page)


def test_the_table_of_rooms_in_the_docs_is_the_one_that_is_tested() -> None:
    rooms = runpy.run_path(str(ROOT / "tests" / "test_architecture.py"))["ROOMS"]
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \|([^|]*)\|$", text, re.MULTILINE)
    shown = {room: set(re.findall(r"\w+", names)) for room, names in rows}
    shown = {
        room: set(rooms) - {room} if "all" in names else names for room, names in shown.items()
    }
    assert shown == rooms


def test_the_picture_of_the_readme_is_small() -> None:
    pictures = [*ROOT.glob("docs/*.png"), *ROOT.glob("docs/*.jpg")]
    assert pictures
    assert [p.name for p in pictures if p.stat().st_size > 200_000] == []


@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
def test_the_picture_of_the_readme_shows_the_masks_of_a_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(data=folder / "field", out=folder / "run", epochs=1, options={"width": 4})
    run = train(config)
    arguments = ["draw_demo.py", str(run.path), str(folder / "picture.png")]
    monkeypatch.setattr("sys.argv", arguments)
    script = runpy.run_path(str(ROOT / "docs" / "draw_demo.py"), run_name="__main__")
    side, gap, top = script["SIDE"], script["GAP"], script["HEAD"]
    name = script["median_image"](run)
    table = np.array(run.classes().colours)
    masks = (folder / "field" / "masks" / f"{name}.png", run.predictions / f"{name}.png")
    with Image.open(folder / "picture.png") as picture:
        for place, path in enumerate(masks, start=1):
            left = place * (side + gap)
            shown = np.asarray(picture.crop((left, top, left + side, top + side))).mean((0, 1))
            with Image.open(path) as mask:
                wanted = table[np.asarray(mask)].mean((0, 1))
            np.testing.assert_allclose(shown, wanted, atol=1)


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1, 2])
def test_the_page_states_the_parameters_and_the_field_of_each_lite(size: int) -> None:
    name = f"unet:efficientnet-lite{size}"
    page = (ROOT / "docs" / "fcn.md").read_text()
    found = re.search(rf"\| `{name}` \| ([\d,]+) \|.*\| (\d+) px \|", page)
    assert found is not None
    classifier = getattr(fc.networks, f"EfficientNetLite{size}")()
    assert f"{sum(p.numel() for p in classifier.parameters()):,}" == found[1]
    assert fc.trace(fc.networks.build(name, classes=2).eval()).field == (int(found[2]),) * 2


class Bright(nn.Module):
    """A classifier that takes patches for a bee as far as they are bright, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.pool = nn.AvgPool2d(32), nn.AdaptiveAvgPool2d(1)
        self.score = nn.Linear(3, 1000)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)
        nn.init.constant_(self.score.weight[309], 0.1)

    def forward(self, image: Tensor) -> Tensor:
        return self.score(self.pool(self.cells(image)).flatten(1))


def test_the_picture_of_a_classifier_glows_where_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photograph = np.zeros((320, 400, 3), np.uint8)
    photograph[160:, 200:] = 200
    monkeypatch.setattr("fullconv.networks.lite0_classifier", lambda: Bright().eval())
    monkeypatch.setattr("sklearn.datasets.load_sample_image", lambda _: photograph)
    others = SimpleNamespace(chelsea=lambda: photograph, coffee=lambda: photograph)
    monkeypatch.setitem(sys.modules, "skimage", SimpleNamespace(data=others))  # pyright: ignore[reportArgumentType]
    script = runpy.run_path(str(ROOT / "docs" / "draw_heat.py"))
    rows = script["rows"]()
    _, bee, _ = rows[1].values()
    assert bee.size == (400, 320)
    dark, glowing = (np.array(bee.getpixel(place)) for place in ((70, 70), (330, 250)))
    assert np.array_equal(glowing, script["GLOW"])
    assert dark.max() < 30
    assert script["draw"](rows).size[0] == 3 * script["WIDTH"] + 2 * script["GAP"]


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("large_image.py", "map (3, 1500, 1300), first "),
        ("what_does_it_see.py", "traced rows 12 to 35\nseen   rows 12 to 35\n"),
    ],
)
def test_an_example_prints_what_it_promises(
    name: str,
    printed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", [name, str(tmp_path)])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    out = capsys.readouterr().out
    assert printed in out
    assert "False" not in out


def test_every_example_is_run() -> None:
    marks = test_an_example_prints_what_it_promises.pytestmark
    assert [path.name for path in EXAMPLES] == [name for name, _ in marks[0].args[1]]
