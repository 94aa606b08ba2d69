"""Amounts of memory as people write them, and what control groups leave a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fullconv.errors import BadConfigError
from fullconv.execution import _memory as memory_of
from fullconv.execution import available_bytes, give_back_freed_memory, parse_memory
from fullconv.execution._control_groups import left_by_groups

GB, GIB, MIB = 10**9, 2**30, 2**20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8GB", 8 * GB),
        ("8 gb", 8 * GB),
        ("7.5 GiB", 7.5 * GIB),
        (" 500MB ", 5e8),
        (".5GiB", GIB / 2),
        ("1TiB", 2**40),
        ("64 KiB", 2**16),
        ("12345", 12345),
        (12345, 12345),
        ("100 B", 100),
    ],
)
def test_amounts_have_units(text: str | int, expected: float) -> None:
    assert parse_memory(text) == expected


@pytest.mark.parametrize(
    "text", ["", "much", "8 Gb/s", "-1GB", "0", "0 GiB", "1e9", "8G B", "GiB", "nan", "%", True]
)
def test_what_is_no_amount_is_refused(text: str | int) -> None:
    with pytest.raises(BadConfigError, match="`memory` must be an amount such as '2 GiB'"):
        parse_memory(text)


def test_less_than_a_byte_is_refused() -> None:
    with pytest.raises(BadConfigError, match="must be a byte at least, got"):
        parse_memory("0.5")


def test_a_share_is_one_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_of, "available_bytes", lambda: 10 * GIB)
    assert parse_memory("80%") == 8 * GIB
    assert parse_memory("12.5 %") == 1.25 * GIB
    assert parse_memory("250%") == 10 * GIB


def test_the_strictest_of_machine_and_groups_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for left, expected in ((None, 9 * GIB), (3 * GIB, 3 * GIB), (99 * GIB, 9 * GIB)):
        monkeypatch.setattr(memory_of, "left_by_groups", lambda left=left: left)
        monkeypatch.setattr(memory_of, "left_by_limits", lambda: None)
        monkeypatch.setattr(
            psutil, "virtual_memory", lambda: type("Free", (), {"available": 9 * GIB})
        )
        assert available_bytes() == expected


LIMITED = """
import resource, psutil, sys, torch
import fullconv as fc
from fullconv.execution import available_bytes, return_freed_memory
kind, held = sys.argv[1:]
return_freed_memory()
net = fc.networks.build("unet", classes=2, width=8, depth=2)
limit = getattr(psutil.Process().memory_info(), held) + 2**30
resource.setrlimit(getattr(resource, kind), (limit, limit))
assert abs(available_bytes() - 2**30) < 2**24, available_bytes()
batch = fc.plan(net, (3, 256, 256)).choice.batch
descent = torch.optim.AdamW(net.parameters())
for _ in range(2):
    labels = torch.zeros(batch, 256, 256, dtype=torch.long)
    torch.nn.functional.cross_entropy(net(torch.rand(batch, 3, 256, 256)), labels).backward()
    descent.step()
    descent.zero_grad()
print(batch)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits are those of Linux")
@pytest.mark.parametrize(("kind", "held"), [("RLIMIT_AS", "vms"), ("RLIMIT_DATA", "data")])
def test_what_is_planned_fits_the_limits_of_the_process_itself(kind: str, held: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, kind, held], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


class Groups:
    """Folders like those of the kernel's control groups."""

    def __init__(self, root: Path, own: str) -> None:
        self.root, self.own = root / "cgroup", root / "own"
        self.root.mkdir()
        self.own.write_text(own)

    def add(self, path: str, limit: str, used: int, cached: int = 0) -> None:
        """Add a group of version 2, or of version 1 where its path begins so."""
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        first = path.startswith("memory")
        names = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            if first
            else ("memory.max", "memory.current", "inactive_file")
        )
        (folder / names[0]).write_text(f"{limit}\n")
        (folder / names[1]).write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {cached}\nshmem 0\n")

    def left(self) -> int | None:
        return left_by_groups(self.root, self.own)


def test_limits_of_all_groups_on_the_way_up_count(tmp_path: Path) -> None:
    groups = Groups(tmp_path, "0::/user.slice/job/step\n")
    groups.add("user.slice/job/step", "max", 100)
    assert groups.left() is None
    groups.add("user.slice", str(900 * MIB), 300 * MIB)
    assert groups.left() == 600 * MIB
    groups.add("user.slice/job", str(500 * MIB), 200 * MIB)
    assert groups.left() == 300 * MIB
    groups.add("user.slice/job/step", str(4 * GIB), 100)
    assert groups.left() == 300 * MIB


def test_files_that_were_read_are_given_up_first(tmp_path: Path) -> None:
    groups = Groups(tmp_path, "0::/a\n")
    groups.add("a", str(500 * MIB), 480 * MIB, cached=400 * MIB)
    assert groups.left() == 420 * MIB
    groups.add("a", str(500 * MIB), 700 * MIB)  # the limit was lowered
    assert groups.left() == 0


def test_a_container_whose_own_folder_is_out_of_sight_is_its_root(tmp_path: Path) -> None:
    groups = Groups(tmp_path, "12:cpu:/\n4:memory:/docker/3da7\n0::/\n")
    groups.add("memory", str(800 * MIB), 100 * MIB)
    assert groups.left() == 700 * MIB


def test_version_one_and_both_at_once_are_read(tmp_path: Path) -> None:
    groups = Groups(tmp_path, "3:cpuset:/\n4:cpu,memory:/api/x\n0::/y\n")
    groups.add("memory/api", str(2**63 - 4096), 0)  # what version 1 writes for no limit
    assert groups.left() == 2**63 - 4096
    groups.add("memory/api/x", str(700 * MIB), 100 * MIB, cached=50 * MIB)
    assert groups.left() == 650 * MIB
    groups.add("unified/y", str(600 * MIB), 100 * MIB)
    assert groups.left() == 500 * MIB


def test_a_system_without_groups_has_no_limit_of_theirs(tmp_path: Path) -> None:
    assert left_by_groups(tmp_path, tmp_path / "missing") is None
    groups = Groups(tmp_path, "0::/gone\n")
    assert groups.left() is None
    (groups.root / "memory.max").write_text("100\n")
    assert groups.left() == 100  # neither current use nor what is cached is known


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries are not told to")
def test_what_is_kept_of_freed_blocks_is_given_back() -> None:
    blocks = [b"x" * (40_000 + n) for n in range(1000)]  # too small to be mapped each by itself
    last = blocks[-1]  # lies above the others, which therefore stay
    held = psutil.Process().memory_info().rss
    del blocks
    kept = psutil.Process().memory_info().rss
    give_back_freed_memory()
    assert held - kept < 20_000_000
    assert held - psutil.Process().memory_info().rss > 30_000_000
    assert len(last) == 40_999


@pytest.mark.parametrize("memory", ["9" * 400 + "GB", 10**400, "1" + "0" * 307 + "TB"])
def test_amounts_that_no_float_counts_are_refused(memory: str | int) -> None:
    with pytest.raises(BadConfigError, match=r"`memory` must be fewer bytes .*: give '100%'"):
        parse_memory(memory)
    assert parse_memory("9" * 400 + "%") > 0
