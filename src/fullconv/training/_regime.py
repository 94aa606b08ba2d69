"""What the steps of a training run are made of: from how many images, which of their units."""

from __future__ import annotations

from dataclasses import dataclass

from fullconv.sampling import Balanced, Hard, Patchwise, Sampled, Sampler

# Sub-images come from this many images at most: each must be read, and may be large.
MOST_IMAGES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """How a step is drawn.

    Attributes:
        name: As it was asked for.
        images: Images of a step, or sub-images cut out beforehand.
        sampler: Which units of these count; None for all.
        cut: Side of the sub-images that are cut out of their images, in px; None for whole ones.
        least: Shortest side of an image that a step can use, in px.
        share: Of the units of an image that count, on average.
    """

    name: str
    images: int
    sampler: Sampler | None = None
    cut: int | None = None
    least: int = 1
    share: float = 1.0


def regime(text: str, *, batch: int = 1, ignore: int = 255, cell: int = 1) -> Regime:
    """Return the regime with a name that `TrainConfig` has let pass.

    Args:
        text: Such as ``whole`` or ``patchwise:64x128``.
        batch: Images per step; ``sampled`` takes more, to keep the expected number of units.
        ignore: Label of the units that do not count.
        cell: Side of a cell of ``sampled-coarse``, in units.

    Raises:
        BadConfigError: If a number is out of range.
    """
    name, _, value = text.partition(":")
    match name:
        case "sampled" | "sampled-coarse":
            sampler = Sampled(float(value), cell if name == "sampled-coarse" else 1)
            images = max(1, round(batch * sampler.images))
            return Regime(name=text, images=images, sampler=sampler, share=sampler.keep)
        case "crop":
            count, size = map(int, value.split("x"))
            images = Patchwise(count, size).count
            return Regime(name=text, images=images, cut=size, least=size)
        case "patchwise":
            count, _, size = value.partition("x")
            sampler = Patchwise(int(count), int(size) if size else None)
            images = max(batch, min(sampler.count, MOST_IMAGES))
            return Regime(name=text, images=images, sampler=sampler, least=int(size or 1))
        case "balanced" | "balanced-unbiased":
            balanced = Balanced(int(value), unbiased=name != "balanced", ignore=ignore)
            return Regime(name=text, images=batch, sampler=balanced)
        case "hard":
            return Regime(name=text, images=batch, sampler=Hard(float(value), ignore=ignore))
        case _:
            return Regime(name=text, images=batch)
