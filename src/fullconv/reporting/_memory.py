"""Where the memory of a training step goes."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from fullconv.reporting import _words as words
from fullconv.reporting._record import Record
from fullconv.reporting._section import Section, bar, joined, paragraph

ITEMS = {
    "parameters": "weights",
    "gradients": "gradients",
    "optimizer": "optimiser’s state",
    "data": "images and labels",
    "saved": "activations kept for backward",
    "workspace": "gradients on their way, copies",
}
SHOWN = 5  # layers that keep most


def memory(record: Record) -> Section | None:
    """Return a bar for each purpose, and for the layers that keep most; None where nothing is known."""
    known = record.memory
    step = known.get("step", {}) if known else {}
    if not known or "bill" not in step:
        return None
    parts = [(name, step["bill"][key]) for key, name in ITEMS.items()]
    kept = [(_layer(one), one["saved_bytes"]) for one in step["layers"][:SHOWN]]
    body = _bars("memory of the largest step", parts) + paragraph(_reading(known, step))
    if kept:
        body += _bars("kept for backward, by layer", kept)
    return Section(anchor="memory", title="Where the memory goes", body=body)


def _bars(title: str, rows: Sequence[tuple[str, int]]) -> Markup:
    """Return a table of bars, the longest of full length."""
    most = max(1, *(num_bytes for _, num_bytes in rows))
    lines = joined(
        Markup('<tr><th scope="row">{}</th><td>{}<output>{}</output></td></tr>').format(
            name, bar(num_bytes / most, "#1f5fa8"), words.memory(num_bytes)
        )
        for name, num_bytes in rows
    )
    head = Markup('<thead><tr><th scope="col">{}</th><td></td></tr></thead>').format(title)
    return Markup('<table class="memory">{}<tbody>{}</tbody></table>').format(head, lines)


def _layer(one: Mapping[str, Any]) -> str:
    return (
        f"{one['module']} ({one['kind']})" if one["module"] else "the network itself, and the loss"
    )


def _reading(known: Mapping[str, Any], step: Mapping[str, Any]) -> str:
    shape = words.sizes([tuple(step["shape"][1:])])
    of = f"{words.plural(step['images'], 'image')} of {shape}"
    said = (
        f"At the moment when a step over {of} takes most, uncut: {words.memory(step['peak_bytes'])}"
    )
    said += f", where {words.memory(known['left_bytes'])} were left for what steps add."
    if known["memory_bytes"] is not None:
        said += (
            f" Steps were cut into windows, to add at most {words.memory(known['memory_bytes'])}."
        )
    for one in known["shortages"]:
        said += f" Step {one['step']} ran out of memory, and went on in smaller windows."
    return f"{said} The whole program held {words.memory(known['taken_bytes'])} at most."
