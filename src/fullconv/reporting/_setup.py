"""What was trained on what, and everything that is needed to do it again."""

from collections.abc import Mapping
from typing import Any

import yaml
from markupsafe import Markup

from fullconv.reporting import _words as words
from fullconv.reporting._record import Record
from fullconv.reporting._section import Section, facts, joined, swatch

NAMED = 12  # classes up to which all are named here


def subject(record: Record) -> Section:
    """Return what was trained on what."""
    rows = [
        ("Network", _network(record)),
        ("Data", record.data.path),
        ("Images", _images(record)),
        ("Classes", _classes(record)),
        ("Training", _training(record)),
        *_settings(record.config),
    ]
    return Section(anchor="subject", title="What was trained on what", body=facts(rows))


def _network(record: Record) -> str:
    network = record.network
    options = ", ".join(f"{name} {value}" for name, value in network.options.items())
    size = f", {words.count(network.parameters)} parameters" if network.parameters else ""
    return f"{network.name}{f' ({options})' if options else ''}{size}"


def _images(record: Record) -> str:
    data = record.data
    splits = ", ".join(f"{words.count(len(names))} {split}" for split, names in data.splits.items())
    shapes = words.sizes([sample.shape for sample in data.samples.values()])
    return f"{splits}; {shapes}, {words.plural(data.channels, 'channel')}, {data.dtype}"


def _classes(record: Record) -> Markup:
    names, colours = record.classes.names, record.classes.colours
    shown = joined(
        Markup('<span class="class">{}{}</span>').format(swatch(colour), name)
        for name, colour in list(zip(names, colours, strict=True))[:NAMED]
    )
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return Markup("{} {}{}").format(f"{len(names)}:", shown, more)


def _training(record: Record) -> str:
    steps = record.steps
    if not len(steps.get("step", ())):
        return "no step was made"
    made = words.plural(round(steps["step"][-1]), "step")
    seen = words.count(steps["images"][-1]) if "images" in steps else words.NONE
    return f"{made}, {seen} images seen, {words.duration(steps['seconds'][-1])}"


SETTINGS = ("optimizer", "lr", "batch", "loss", "class_weights", "precision", "augment", "seed")


def _settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the settings that matter most, where the configuration has them."""
    named = ", ".join(f"{key.replace('_', ' ')} {config[key]}" for key in SETTINGS if key in config)
    return [("Settings", named)] if named else []


def setup(record: Record) -> Section:
    """Return command, configuration, machine and versions."""
    text = yaml.safe_dump(dict(record.config), sort_keys=False, allow_unicode=True)
    known = {key: value for key, value in record.facts.items() if key != "command"}
    tables = joined(_group(name, value) for name, value in known.items() if _is_group(value))
    single = [_fact(key, value) for key, value in known.items() if not _is_group(value)]
    body = joined(
        [
            Markup("<h3>Command</h3><pre>{}</pre>").format(record.facts.get("command", words.NONE)),
            facts(single),
            Markup('<div class="pair"><div><h3>Configuration</h3><pre>{}</pre></div>').format(text),
            Markup("<div>{}</div></div>").format(tables),
        ]
    )
    return Section(anchor="setup", title="To do it again", body=body)


def _is_group(value: object) -> bool:
    return isinstance(value, Mapping)


def _group(name: str, values: Mapping[str, Any]) -> Markup:
    rows = [_fact(key, value) for key, value in values.items()]
    return Markup("<h3>{}</h3>{}").format(name.capitalize(), facts(rows))


def _fact(key: str, value: object) -> tuple[str, str]:
    """Return a name and a value as people write them; units end the names of numbers."""
    if isinstance(value, bool):
        return key, "yes" if value else "no"
    if isinstance(value, int) and key.endswith("_bytes"):
        return key.removesuffix("_bytes"), f"{value / 2**30:.1f} GiB"
    if isinstance(value, int | float):
        return key, words.count(value) if isinstance(value, int) else f"{value:g}"
    return key, str(value)
