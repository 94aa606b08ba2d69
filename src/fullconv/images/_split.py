"""The split that is made where the data bring none: by name, and by nothing else."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import TypeVar
from unicodedata import normalize

T = TypeVar("T")

VALIDATION_SHARE = 0.15


def position_in_unit(name: str) -> float:
    """Return a number in [0, 1) that depends on the name alone, not on how a system writes accents.

    Examples:
        >>> round(position_in_unit("scene_0001"), 3)
        0.604
    """
    digest = blake2b(normalize("NFC", name).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def split_by_name(samples: Sequence[T], name: Callable[[T], str]) -> tuple[list[T], list[T]]:
    """Return the samples to train on and those to validate on, about 15 %.

    A sample's side depends on its own name, so it stays when others come and go. Only if a side
    would be empty, the sample nearest to it is moved there.

    Args:
        samples: At least 2, so that no side is empty.
        name: What to call a sample.
    """
    ranked = sorted(samples, key=lambda sample: (position_in_unit(name(sample)), name(sample)))
    num_held = sum(position_in_unit(name(sample)) < VALIDATION_SHARE for sample in ranked)
    num_held = min(max(num_held, 1), len(ranked) - 1)
    in_order = {id(sample): place for place, sample in enumerate(samples)}
    held = sorted(ranked[:num_held], key=lambda sample: in_order[id(sample)])
    kept = sorted(ranked[num_held:], key=lambda sample: in_order[id(sample)])
    return kept, held
