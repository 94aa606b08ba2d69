"""The best, the median and the worst held-out image, as image, truth and prediction."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fullconv.errors import FullconvError
from fullconv.images import ClassTable, open_image, open_mask, read_image, read_mask
from fullconv.reporting import _words as words
from fullconv.reporting._pictures import error_picture, label_picture, photograph
from fullconv.reporting._record import ImageScore, Record
from fullconv.reporting._section import Section, joined, paragraph, swatch

LISTED = 8  # classes named beside a picture
MOST_SHOWN = 1024  # px per side of an image that is predicted from disk to disk
PAIRS = (
    ("truth", "prediction"),
    ("image", "prediction"),
    ("image", "truth"),
    ("image", "errors"),
)

Labels = NDArray[np.integer]


@dataclass(frozen=True, kw_only=True)
class _Layers:
    """One held-out image, all of one size (height, width)."""

    image: NDArray[np.generic]
    truth: Labels
    prediction: Labels


def examples(record: Record) -> Section | None:
    """Return the pictures, or None where no held-out image was predicted."""
    if record.evaluation is None or not record.evaluation.images:
        return None
    chosen = choose(record.evaluation.images)
    figures = joined(_figure(record, rank, image) for rank, image in chosen)
    body = joined([_toolbar(), figures])
    return Section(anchor="examples", title="Held-out images", body=body)


def choose(images: tuple[ImageScore, ...]) -> list[tuple[str, ImageScore]]:
    """Return the best, median and worst image by mean IU, each image once.

    The median of an even number is the better of the two; an image without a score comes last.
    """
    order = sorted(images, key=lambda one: (math.isnan(one.mean_iu), -words.or_zero(one.mean_iu)))
    if len(order) == 1:
        return [("The only one", order[0])]
    ranked = [("Best", order[0]), ("Median", order[(len(order) - 1) // 2]), ("Worst", order[-1])]
    return ranked if len(order) > 2 else [ranked[0], ranked[2]]


def _toolbar() -> Markup:
    choices = joined(
        Markup(
            '<label><input type="radio" name="pair" value="{} {}"{}><span>{} | {}</span></label>'
        ).format(left, right, Markup(" checked") if not i else "", left, right)
        for i, (left, right) in enumerate(PAIRS)
    )
    return Markup(
        '<div class="toolbar"><fieldset><legend>Compare</legend>{}</fieldset>'
        '<label class="opacity">Labels over the image '
        '<input type="range" id="opacity" min="10" max="100" value="75"></label></div>'
    ).format(choices)


def _figure(record: Record, rank: str, scored: ImageScore) -> Markup:
    head = Markup("<h3>{}: <span>{}</span></h3><p>mean IU {}, pixel accuracy {}</p>").format(
        rank, scored.name, words.score(scored.mean_iu), words.score(scored.pixel_accuracy)
    )
    try:
        layers = _layers(record, scored.name)
    except (FullconvError, OSError) as error:
        trouble = paragraph(f"This image cannot be shown: {error}", "trouble")
        return Markup('<figure class="example"><figcaption>{}</figcaption>{}</figure>').format(
            head, trouble
        )
    return Markup('<figure class="example">{}<figcaption>{}{}</figcaption></figure>').format(
        _stage(record, scored.name, layers), head, _present(record, layers)
    )


def _layers(record: Record, name: str) -> _Layers:
    files = record.data.samples[name]
    assert files.mask is not None, "an image without mask cannot be evaluated"
    large = record.predictions / f"{name}.zarr"
    if large.exists():
        return _middle(files.image, files.mask, large, record.classes)
    return _Layers(
        image=read_image(files.image),
        truth=read_mask(files.mask, record.classes),
        prediction=read_mask(record.predictions / f"{name}.png", record.classes),
    )


def _middle(image: Path, mask: Path, labels: Path, classes: ClassTable) -> _Layers:
    """Return what is in the middle of an image that is too large to be shown whole."""
    truth = open_mask(mask, classes)
    sides = [min(MOST_SHOWN, size) for size in truth.shape]
    place = tuple(
        slice((n - side) // 2, (n - side) // 2 + side)
        for n, side in zip(truth.shape, sides, strict=True)
    )
    return _Layers(
        image=open_image(image)[(slice(None), *place)],
        truth=truth[place],
        prediction=open_mask(labels, classes)[place],
    )


def _stage(record: Record, name: str, layers: _Layers) -> Markup:
    height, width = layers.truth.shape
    counted = layers.truth != record.classes.ignore
    pictures = (
        ("image", photograph(layers.image)),
        ("truth", label_picture(layers.truth, record.classes)),
        ("prediction", label_picture(layers.prediction, record.classes)),
        ("errors", error_picture(counted & (layers.truth != layers.prediction))),
    )
    layer = Markup('<img class="layer {}" src="{}" alt="{} of {}" draggable="false">')
    look = "sharp" if max(height, width) <= 256 else "smooth"
    return Markup(
        '<div class="stage {}" style="--ratio:{:.4f}" data-left="truth" data-right="prediction">'
        '{}<span class="side left">truth</span><span class="side right">prediction</span>'
        '<div class="divider" role="slider" tabindex="0" aria-label="Divider on {}" '
        'aria-valuemin="0" aria-valuemax="100" aria-valuenow="50" '
        'aria-valuetext="truth left, prediction right of 50 %"></div></div>'
    ).format(
        look,
        width / height,
        joined(layer.format(kind, url, kind, name) for kind, url in pictures),
        name,
    )


def _present(record: Record, layers: _Layers) -> Markup:
    """Return the classes in an image, largest first, with their true and predicted share."""
    num = len(record.classes.names)
    counted = layers.truth != record.classes.ignore
    px = np.stack([np.bincount(part[counted], minlength=num)[:num] for part in _pair(layers)])
    shares = px / max(1, int(counted.sum()))
    order = [int(i) for i in np.argsort(-px.sum(axis=0), kind="stable") if px[:, i].any()]
    rows = joined(
        Markup('<tr><th scope="row">{}<span>{}</span></th><td>{}</td><td>{}</td></tr>').format(
            swatch(record.classes.colours[i]),
            record.classes.names[i],
            *(words.percent(float(share)) for share in shares[:, i]),
        )
        for i in order[:LISTED]
    )
    more = len(order) - LISTED
    rest = paragraph(f"and {words.plural(more, 'class')} more") if more > 0 else ""
    return Markup(
        '<table class="present"><thead><tr><th scope="col">class</th><th scope="col">truth</th>'
        '<th scope="col">predicted</th></tr></thead><tbody>{}</tbody></table>{}'
    ).format(rows, rest)


def _pair(layers: _Layers) -> tuple[Labels, Labels]:
    return layers.truth, layers.prediction
