"""What was learnt of each file, kept for the next survey of the same data.

It lies in the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``, then ``fullconv/``), not
beside the data, which may be read-only and which nobody wants littered. It only saves time: what
cannot be read or written is passed over.
"""

import json
import os
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

from fullconv.errors import BadOutputError
from fullconv.images._atomic import atomic
from fullconv.images._facts import ImageFacts, MaskFacts, signature
from fullconv.images._faults import BrokenRuleError
from fullconv.images._rules import Facts

VERSION = 1


def load(root: Path) -> Facts:
    """Return what is known of the files that have not changed since; nothing if there is no cache."""
    try:
        content: dict[str, Any] = json.loads(_file(root).read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            return Facts(images={}, masks={})
        images = {Path(path): _image(entry) for path, entry in _unchanged(content["images"])}
        masks = {Path(path): _mask(entry) for path, entry in _unchanged(content["masks"])}
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError):
        return Facts(images={}, masks={})
    return Facts(images=images, masks=masks)


def save(root: Path, facts: Facts) -> None:
    """Keep what is known, as far as the disk allows."""
    try:
        content = {
            "version": VERSION,
            "images": {str(p): asdict(f) for p, f in facts.images.items()},
            "masks": {str(p): asdict(f) for p, f in facts.masks.items()},
        }
        with atomic(_file(root)) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")
    except (OSError, RuntimeError, BadOutputError):
        return


def _file(root: Path) -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = blake2b(str(root.resolve()).encode(), digest_size=8).hexdigest()
    return folder / "fullconv" / f"survey-{name}.json"


def _unchanged(entries: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(path, entry) for path, entry in entries.items() if _still_holds(path, entry)]


def _still_holds(path: str, entry: dict[str, Any]) -> bool:
    try:
        return list(signature(Path(path))) == entry["signature"]
    except BrokenRuleError:  # gone since
        return False


def _image(entry: dict[str, Any]) -> ImageFacts:
    return ImageFacts(
        signature=tuple(entry["signature"]),
        shape=tuple(entry["shape"]),
        turned=entry["turned"],
        channels=entry["channels"],
        dtype=entry["dtype"],
        mean=tuple(entry["mean"]),
        variance=tuple(entry["variance"]),
    )


def _mask(entry: dict[str, Any]) -> MaskFacts:
    counts = {int(code): int(px) for code, px in entry["counts"].items()}
    return MaskFacts(
        signature=tuple(entry["signature"]),
        shape=tuple(entry["shape"]),
        turned=entry["turned"],
        by_colour=entry["by_colour"],
        counts=counts,
    )
