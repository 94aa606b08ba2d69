"""Rules about the package as a whole: who may import whom, and what tests may not do."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "fullconv"

# A room may import the rooms named beside it, and `fullconv.errors`. Arrows run one way.
ROOMS = {
    "geometry": set[str](),
    "tracing": {"geometry"},
    "surgery": {"geometry", "tracing"},
    "networks": {"geometry", "tracing", "surgery"},
    "regions": {"geometry"},
    "images": {"geometry", "regions"},
    "sampling": {"geometry"},
    "scoring": set[str](),
    "execution": {"geometry", "tracing"},
    "verifying": {"geometry", "tracing", "execution"},
    "prediction": {"geometry", "tracing", "execution", "regions", "images", "scoring"},
    "planning": {"geometry", "tracing", "sampling", "execution"},
    "runs": {"networks", "images"},
    "training": {
        "geometry", "tracing", "networks", "regions", "images", "scoring", "sampling", "execution",
        "prediction", "planning", "runs",
    },
    "reporting": {"geometry", "tracing", "images", "scoring", "runs"},
    "comparing": {"images", "runs", "training", "reporting"},
    "demo": {"networks", "images", "scoring", "prediction", "runs", "training", "reporting"},
    "cli": {
        "geometry", "tracing", "surgery", "networks", "regions", "images", "sampling", "scoring",
        "execution", "prediction", "planning", "runs", "training", "reporting", "comparing", "demo",
        "verifying",
    },
}  # fmt: skip
ARRAY_LIBRARIES = {"torch", "numpy"}

PREDICATES = {"allclose", "array_equal", "equal", "isclose"}


def imported(tree: ast.AST) -> Iterator[str]:
    """Names of the modules imported anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def forbidden_imports(room: str, source: str) -> list[str]:
    """Imports that a file of `room` must not have."""
    wrong = {f"fullconv.{name}" for name in ROOMS.keys() - ROOMS[room] - {room}}
    if room == "geometry":
        wrong |= ARRAY_LIBRARIES
    return [
        m
        for m in imported(ast.parse(source))
        if any(m == w or m.startswith(f"{w}.") for w in wrong)
    ]


def unasserted_predicates(source: str) -> list[int]:
    """Lines where ``np.allclose(...)`` and the like stand alone, so that nothing is checked."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func).split(".")[-1] in PREDICATES
    ]


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    assert forbidden_imports(room, path.read_text()) == []


def test_the_table_of_rooms_has_no_cycle() -> None:
    done: set[str] = set()
    for room, below in ROOMS.items():
        assert below <= done, f"{room} imports {below - done}, which stand above it"
        done.add(room)


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda p: p.name)
def test_no_comparison_is_thrown_away(path: Path) -> None:
    assert unasserted_predicates(path.read_text()) == []


def test_the_rules_can_fail() -> None:
    assert forbidden_imports("geometry", "import torch.nn") == ["torch.nn"]
    assert forbidden_imports("geometry", "from torch import nn") == ["torch", "torch.nn"]
    assert forbidden_imports("images", "from fullconv.training import train") != []
    assert forbidden_imports("images", "from fullconv import training") == ["fullconv.training"]
    assert unasserted_predicates("x = 1\nnp.allclose(x, 1)\n") == [2]


def test_geometry_is_usable_without_any_array_library() -> None:
    code = "import sys, fullconv.geometry; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_package_imports_no_heavy_library() -> None:
    code = (
        "import sys, fullconv; sys.exit(bool({'torch', 'lightning', 'kornia'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
