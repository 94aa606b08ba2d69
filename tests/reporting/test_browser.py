"""The report in a real browser: the divider, the charts, the matrix, the width of a phone.

Chromium is driven through ChromeDriver by the W3C WebDriver protocol, which is JSON over HTTP and
needs no client library. Where no Chromium is installed, these tests are skipped.
"""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from fullconv.reporting import write_report
from fullconv.runs import Run

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
DRIVER = shutil.which("chromedriver") or ""
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--disable-dev-shm-usage",
)  # fmt: skip
KEYS = {"left": "\ue012", "right": "\ue014", "home": "\ue011", "end": "\ue010", "tab": "\ue004"}

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")


@dataclass(frozen=True)
class Browser:
    """One WebDriver session."""

    address: str

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        with urlopen(Request(self.address + path, data, headers), timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, path: Path, *, width: int, height: int = 900, touch: bool = False) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)
        self.devtools("Emulation.setTouchEmulationEnabled", {"enabled": touch})
        self.call("/url", {"url": path.as_uri()})

    def devtools(self, command: str, params: dict[str, Any]) -> Any:
        return self.call("/goog/cdp/execute", {"cmd": command, "params": params})

    def run(self, script: str, *args: object) -> Any:
        return self.call("/execute/sync", {"script": script, "args": list(args)})

    def act(self, kind: str, actions: list[dict[str, Any]], **parameters: str) -> None:
        source = {"type": kind, "id": kind + str(parameters), "actions": actions}
        self.call(
            "/actions", {"actions": [source | ({"parameters": parameters} if parameters else {})]}
        )

    def drag(self, pointer: str, start: tuple[float, float], stop: tuple[float, float]) -> None:
        moves = [
            start,
            *(
                tuple(a + (b - a) * i / 5 for a, b in zip(start, stop, strict=True))
                for i in range(1, 6)
            ),
        ]
        at = [
            {"type": "pointerMove", "duration": 20, "x": round(x), "y": round(y)} for x, y in moves
        ]
        down, up = {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}
        self.act("pointer", [at[0], down, *at[1:], up], pointerType=pointer)

    def quit(self) -> None:
        with urlopen(Request(self.address, method="DELETE"), timeout=60):
            pass

    def press(self, *keys: str) -> None:
        codes = [KEYS[key] for key in keys]
        self.act(
            "key",
            [{"type": kind, "value": code} for code in codes for kind in ("keyDown", "keyUp")],
        )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    profile = tmp_path_factory.mktemp("profile")
    with subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL) as driver:
        session = None
        try:
            session = started(f"http://127.0.0.1:{port}", profile)
            yield session
        finally:
            if session:
                session.quit()
            driver.terminate()


def started(server: str, profile: Path) -> Browser:
    options = {"binary": CHROMIUM, "args": [*QUIET, f"--user-data-dir={profile}"]}
    wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
    for _ in range(100):
        try:
            session = Browser(server).call("/session", wanted)
        except URLError:  # the driver is not listening yet
            time.sleep(0.1)
        else:
            return Browser(f"{server}/session/{session['sessionId']}")
    raise AssertionError("chromedriver did not answer within 10 s")


@pytest.fixture
def report(make_run: Callable[..., Run], story: Any) -> Path:
    return write_report(make_run(story))


@dataclass(frozen=True)
class Box:
    """Where an element is in the viewport, in px."""

    x: float
    y: float
    width: float
    height: float

    def at(self, across: float, down: float = 0.5) -> tuple[float, float]:
        return self.x + across * self.width, self.y + down * self.height


def box_of(browser: Browser, selector: str) -> Box:
    """Scroll to an element and return where it is then."""
    script = """
        const element = document.querySelector(arguments[0]);
        element.scrollIntoView({ block: "center", behavior: "instant" });
        const { x, y, width, height } = element.getBoundingClientRect();
        return [x, y, width, height];
    """
    return Box(*browser.run(script, selector))


def clip_of(browser: Browser, layer: str) -> str:
    return browser.run(
        f"const layer = document.querySelector('.stage .{layer}'), style = getComputedStyle(layer);"
        "return style.display === 'none' ? 'hidden' : style.clipPath;"
    )


def share_of(browser: Browser) -> float:
    """What the divider says, after checking that both clips agree with it."""
    share = browser.run("return document.querySelector('.divider').getAttribute('aria-valuenow')")
    left, right = clip_of(browser, "truth"), clip_of(browser, "prediction")
    exact = browser.run("return document.querySelector('.divider').dataset.share ?? 50")
    assert right == f"inset(0px 0px 0px {float(exact):g}%)"
    assert left in (
        f"inset(0px {100 - float(exact):g}% 0px 0px)",
        f"inset(0px calc(100% - {float(exact):g}%) 0px 0px)",
    )
    assert float(share) == pytest.approx(float(exact), abs=0.5)
    return float(exact)


def test_the_divider_follows_the_mouse_and_clips_both_pictures(
    browser: Browser, report: Path
) -> None:
    browser.open(report, width=1280)
    assert share_of(browser) == 50
    stage = box_of(browser, ".stage")
    browser.drag("mouse", stage.at(0.5), stage.at(0.2))
    assert share_of(browser) == pytest.approx(20, abs=0.5)
    browser.drag("mouse", stage.at(0.2), stage.at(1.1))
    assert share_of(browser) == 100


def test_a_click_anywhere_on_the_picture_takes_the_divider_there(
    browser: Browser, report: Path
) -> None:
    browser.open(report, width=1280)
    stage = box_of(browser, ".stage")
    browser.drag("mouse", stage.at(0.75, 0.1), stage.at(0.75, 0.1))
    assert share_of(browser) == pytest.approx(75, abs=0.5)
    before = browser.run("return scrollY")
    browser.act("pointer", [{"type": "pointerMove", "x": 5, "y": 5}], pointerType="mouse")
    assert share_of(browser) == pytest.approx(75, abs=0.5)
    assert browser.run("return scrollY") == before


def test_the_divider_is_reached_and_moved_by_keyboard(browser: Browser, report: Path) -> None:
    browser.open(report, width=1280)
    browser.run("document.getElementById('opacity').focus()")
    browser.press("tab")
    assert browser.run("return document.activeElement.className") == "divider"
    browser.press("right", "right", "left")
    assert share_of(browser) == 52
    browser.press("home")
    assert share_of(browser) == 0
    browser.press("left")
    assert share_of(browser) == 0
    browser.press("end")
    assert share_of(browser) == 100
    text = browser.run("return document.activeElement.getAttribute('aria-valuetext')")
    assert text == "truth left, prediction right of 100 %"


def test_a_finger_moves_the_divider_across_and_the_page_up_and_down(
    browser: Browser, report: Path
) -> None:
    browser.open(report, width=390, height=800, touch=True)
    stage = box_of(browser, ".stage")
    browser.drag("touch", stage.at(0.5), stage.at(0.8))
    assert share_of(browser) == pytest.approx(80, abs=0.5)
    before = browser.run("return scrollY")
    browser.drag("touch", stage.at(0.3, 0.9), stage.at(0.32, -0.9))
    assert share_of(browser) == pytest.approx(80, abs=0.5)
    assert browser.run("return scrollY") > before + 50


@pytest.mark.parametrize(
    ("pair", "truth", "prediction", "errors"),
    [
        ("truth prediction", True, True, False),
        ("image prediction", False, True, False),
        ("image truth", True, False, False),
        ("image errors", False, False, True),
    ],
)
def test_any_two_pictures_can_be_compared(
    browser: Browser, report: Path, pair: str, truth: bool, prediction: bool, errors: bool
) -> None:
    browser.open(report, width=1280)
    browser.run(f"document.querySelector('[value=\"{pair}\"]').click()")
    shown = [clip_of(browser, kind) != "hidden" for kind in ("truth", "prediction", "errors")]
    assert shown == [truth, prediction, errors]
    sides = browser.run(
        "return [...document.querySelectorAll('.stage .side')].map(e => e.innerText)"
    )
    assert sides[:2] == pair.split(" ")


OUTSIDE = """
    const words = [...document.querySelectorAll("body *")].filter(e => !e.closest("svg, script"));
    const edge = document.querySelector("main").getBoundingClientRect().right;
    const cut = e => e.getBoundingClientRect().right > edge + 8;
    return words.filter(cut).map(e => `${e.tagName} ${e.className}: ${e.innerText}`);
"""


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("num_classes", [1, 3, 18, 45])
def test_nothing_is_wider_than_the_screen(
    browser: Browser, make_run: Callable[..., Run], story: Any, width: int, num_classes: int
) -> None:
    names = tuple(f"a rather long name of a class, number {i}" for i in range(num_classes))
    path = write_report(make_run(replace(story, classes=names, examples=story.of(num_classes))))
    browser.open(path, width=width, touch=width < 500)
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.run("return document.documentElement.scrollWidth") == width
    assert browser.run(OUTSIDE) == []


def test_a_moment_pointed_at_in_one_chart_is_marked_in_all(browser: Browser, report: Path) -> None:
    browser.open(report, width=1280)
    plot = box_of(browser, ".plot[data-column=seconds]")
    x, y = (round(value) for value in plot.at(0.5))
    browser.act("pointer", [{"type": "pointerMove", "x": x, "y": y}], pointerType="mouse")
    lefts = browser.run(
        "return [...document.querySelectorAll('.cursor')].map(c => parseFloat(c.style.left))"
    )
    assert lefts == pytest.approx([50] * 4, abs=1)
    text = browser.run("return document.getElementById('reading').innerText")
    assert text.startswith("step 30 · 1 min 33 s · training loss 0.")


@pytest.mark.parametrize("num_classes", [3, 30])
def test_the_matrix_is_read_cell_by_cell(
    browser: Browser, make_run: Callable[..., Run], story: Any, num_classes: int
) -> None:
    names = tuple(f"class {i}" for i in range(num_classes))
    story = replace(story, classes=names, examples=story.of(num_classes))
    matrix = story.confusion()
    browser.open(write_report(make_run(story)), width=1280)
    readout = "return document.querySelector('#confusion .readout').innerText"
    browser.run("document.querySelector('[data-matrix]').focus()")
    browser.press("right")
    assert browser.run(readout).startswith(f"class 0 → class 1: {matrix[0, 1]:,} px")
    cell = box_of(browser, "[data-matrix] td, img[data-matrix]")
    x, y = (round(value) for value in cell.at(0.001, 0.001))
    browser.act("pointer", [{"type": "pointerMove", "x": x + 1, "y": y + 1}], pointerType="mouse")
    assert browser.run(readout).startswith(f"class 0 → class 0: {matrix[0, 0]:,} px")


def test_names_with_markup_run_nothing_in_the_browser(
    browser: Browser, make_run: Callable[..., Run], story: Any
) -> None:
    evil = "</script><script>window.broken=1</script><img src=x onerror='window.broken=1'>"
    names = (evil, "crop", "weed")
    browser.open(write_report(make_run(replace(story, classes=names, network=evil))), width=1280)
    assert browser.run("return window.broken ?? 'whole'") == "whole"
    assert browser.run("return document.querySelectorAll('script:not([type])').length") == 1
    browser.run("document.querySelector('[data-matrix]').focus()")
    browser.press("right")
    assert evil in browser.run("return document.querySelector('#confusion .readout').innerText")
    assert browser.run("return window.broken ?? 'whole'") == "whole"
