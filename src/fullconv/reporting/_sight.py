"""What a unit of the map sees: the receptive field and an exact window, drawn to scale."""

import base64
from collections.abc import Sequence
from io import BytesIO
from math import ceil

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from fullconv.geometry import Box, Geometry
from fullconv.reporting import _words as words
from fullconv.reporting._record import Record
from fullconv.reporting._section import Section, facts, paragraph

WIDTH_PX = 520  # of the drawing on the page
NAMESPACE = 'xmlns="http://www.w3.org/2000/svg"'  # a file needs it, a page does not
FONT = 'font-family="Segoe UI, Roboto, Helvetica, Arial, sans-serif"'


def sight(record: Record) -> Section | None:
    """Return the geometry of the network in numbers and as a picture."""
    if isinstance(record.geometry, str):
        return Section(
            anchor="sight",
            title="What a unit sees",
            body=paragraph(f"No unit has a finite receptive field here: {record.geometry}"),
        )
    if record.geometry is None or not record.data.samples:
        return None
    shapes = sorted(sample.shape for sample in record.data.samples.values())
    shape = shapes[len(shapes) // 2]
    picture = Markup('<figure class="sight">{}</figure>').format(  # drawn here, nothing to escape
        Markup(picture_of(record.geometry, shape).replace(f" {NAMESPACE}", ""))
    )
    return Section(
        anchor="sight",
        title="What a unit sees",
        body=facts(_numbers(record.geometry)) + picture + paragraph(_reading(shape)),
    )


def _numbers(geometry: Geometry) -> list[tuple[str, str | Markup]]:
    halos = [f"{before} + {after}" for before, after in geometry.halo]
    return [
        ("receptive field", f"{_times(geometry.field)} px"),
        ("stride", f"{_times(geometry.stride)} px"),
        ("period of windows", f"{_times(geometry.period)} px"),
        ("halo of a window", f"{_times(halos)} px"),
    ]


def _reading(shape: tuple[int, ...]) -> str:
    return (
        f"Drawn to scale on an image of {words.sizes([shape])}. The orange square is all that the "
        "unit at its middle depends on. A window that owns the solid blue box is exact if it reads "
        "the dashed one: the halo, and what the grid of the network's strides asks for."
    )


def picture_of(
    geometry: Geometry, shape: tuple[int, ...], effective: NDArray[np.float64] | None = None
) -> str:
    """Return an SVG picture of field and window on an image, to scale.

    Args:
        geometry: Of a network with one or two spatial axes, or more: the last two are drawn.
        shape: Spatial shape of the image, in px.
        effective: How much each px of a field moves its unit, 0 to 1; drawn into the field.
    """
    boxes = _boxes(geometry, shape)
    image, field, owned, reads = (_flat(box) for box in (Box.whole(shape), *boxes))
    frame = _hull([image, field, reads])
    line = max(frame.shape) / WIDTH_PX
    centre = tuple((a + b) / 2 for a, b in zip(field.start, field.stop, strict=True))
    solid, dashes = 1.5 * line, f'stroke-dasharray="{5 * line:.1f} {3 * line:.1f}"'
    wash = 0.22 if effective is None else 0
    blue = 'fill="#1f5fa8" stroke="#1f5fa8"'
    parts = [
        _opening(frame, line),
        _rect(image, 'fill="#f4f6f8" stroke="#5a6675"', line),
        _rect(reads, f'{blue} fill-opacity="0.10" {dashes}', line),
        _rect(owned, f'{blue} fill-opacity="0.28"', solid),
        *([] if effective is None else [_heat(effective, field)]),
        _rect(field, f'fill="#c05717" fill-opacity="{wash}" stroke="#c05717"', solid),
        f'<circle cx="{centre[1]}" cy="{centre[0]}" r="{2.5 * line:.1f}" fill="#c05717"/>',
        _label(f"field {_times(boxes[0].shape)}", field, line, below=True),
        _label(f"owns {_times(boxes[1].shape)}", owned, line),
        _label(f"reads {_times(boxes[2].shape)}", reads, line, below=True),
        "</svg>",
    ]
    return "".join(parts)


def _opening(frame: Box, line: float) -> str:
    pad = round(4 * line) + 1
    (y, x), (height, width) = frame.start, frame.shape
    view = f"{x - pad} {y - pad} {width + 2 * pad} {height + 2 * pad}"
    return (
        f'<svg {NAMESPACE} viewBox="{view}" role="img" aria-label='
        f'"Receptive field and window on an image" style="max-width:{WIDTH_PX}px;width:100%">'
    )


def _boxes(geometry: Geometry, shape: tuple[int, ...]) -> tuple[Box, Box, Box]:
    """Return the field of a unit right of the middle, and the px that a window owns and reads."""
    unit: list[int] = []
    owned: list[tuple[int, int]] = []
    reads: list[tuple[int, int]] = []
    for axis, size in zip(geometry.axes, shape, strict=True):
        map_size = axis.map_size(size)
        start = map_size // 8 // axis.units * axis.units
        stop = min(map_size, max(start + axis.units, map_size * 3 // 8))
        unit.append(map_size * 6 // 10)
        owned.append((int(start * axis.stride), min(size, ceil(stop * axis.stride))))
        reads.append(axis.reads(start, stop, size))
    return geometry.field_of(tuple(unit)), _box(owned), _box(reads)


def _box(spans: Sequence[tuple[int, int]]) -> Box:
    return Box(start=tuple(a for a, _ in spans), stop=tuple(b for _, b in spans))


def _flat(box: Box) -> Box:
    return Box(start=_last_two(box.start, 0), stop=_last_two(box.stop, 1))


def _last_two(values: tuple[int, ...], missing: int) -> tuple[int, int]:
    """Return the last two entries; a single axis is drawn as a strip."""
    if len(values) == 1:
        return missing * 40, values[0]
    return values[-2], values[-1]


def _hull(boxes: Sequence[Box]) -> Box:
    return Box(
        start=tuple(min(b.start[k] for b in boxes) for k in (0, 1)),
        stop=tuple(max(b.stop[k] for b in boxes) for k in (0, 1)),
    )


def _rect(box: Box, look: str, line: float) -> str:
    (y, x), (height, width) = box.start, box.shape
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" {look} '
        f'stroke-width="{line:.2f}"/>'
    )


def _heat(effective: NDArray[np.float64], field: Box) -> str:
    """Return a picture of the effective field; square roots let faint parts be seen."""
    flat = effective.sum(tuple(range(max(0, effective.ndim - 2)))).reshape(-1, effective.shape[-1])
    shade = np.sqrt(flat / max(float(flat.max()), 1e-30))
    pixels = np.empty((*shade.shape, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = (192, 87, 23), np.round(255 * shade)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    (y, x), (height, width) = field.start, field.shape
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<image x="{x}" y="{y}" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{data}"/>'
    )


def _label(text: str, box: Box, line: float, *, below: bool = False) -> str:
    x = box.start[1] + 5 * line
    y = box.stop[0] - 6 * line if below else box.start[0] + 16 * line
    look = f'fill="#1b2430" {FONT} font-size="{13 * line:.1f}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{text}</text>'


def _times(values: Sequence[object]) -> str:
    return " × ".join(str(value) for value in values)
