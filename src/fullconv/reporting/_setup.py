"""What was trained on what, and everything that is needed to do it again."""

from collections.abc import Mapping
from typing import Any

import yaml
from markupsafe import Markup

from fullconv.reporting import _words as words
from fullconv.reporting._record import Record
from fullconv.reporting._section import Section, facts, joined, swatch

SETTINGS = ("optimizer", "lr", "batch", "loss", "class_weights", "precision", "augment", "seed")
NAMED = 12  # classes up to which all are named here


def subject(record: Record) -> Section:
    """Return what was trained on what."""
    rows = [
        ("Network", _network(record)),
        ("Data", record.data.path),
        ("Images", _images(record)),
        ("Classes", _classes(record)),
        *_start(record.config),
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


def _start(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the weights that the training began with, where it did not begin with fresh ones."""
    weights = config.get("weights")
    return [("Start", f"the weights in {weights}")] if weights else []


def _settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the settings that matter most, where the configuration has them."""
    chosen = {key: config[key] for key in SETTINGS if config.get(key) is not None}
    named = ", ".join(" ".join(_fact(key, value)) for key, value in chosen.items())
    return [("Settings", named)] if named else []


def setup(record: Record) -> Section:
    """Return commands, configuration, machine and versions."""
    config = yaml.safe_dump(dict(record.config), sort_keys=False, allow_unicode=True)
    known = {key: value for key, value in record.facts.items() if key not in ("command", "resumed")}
    loose = {key: value for key, value in known.items() if not isinstance(value, Mapping)}
    groups = {"run": loose} | {key: known[key] for key in known if key not in loose}
    body = Markup(
        '<h3>Command</h3><pre>{}</pre><div class="pair"><div><h3>Configuration</h3><pre>{}</pre>'
        "</div><div>{}</div></div>"
    ).format(
        "\n".join(_commands(record.facts)), config, joined(map(_group, groups, groups.values()))
    )
    return Section(anchor="setup", title="To do it again", body=body)


def _commands(facts: Mapping[str, Any]) -> list[str]:
    """Return the command that began the run, and those that went on with it."""
    later = [again["command"] for again in facts.get("resumed", ())]
    return [facts.get("command", words.NONE), *later]


def _group(name: str, values: Mapping[str, Any]) -> Markup:
    rows = [_fact(key, value) for key, value in values.items() if value not in (None, [], {})]
    return Markup("<h3>{}</h3>{}").format(name.capitalize(), facts(rows)) if rows else Markup("")


def _fact(key: str, value: object) -> tuple[str, str]:
    """Return a name and a value as people write them; units end the names of numbers."""
    name = key.replace("_", " ")
    match value:
        case bool():
            return name, "yes" if value else "no"
        case int() if key.endswith("_bytes"):
            return name.removesuffix(" bytes"), f"{value / 2**30:.1f} GiB"
        case int():
            return name, words.count(value)
        case list():
            return name, ", ".join(map(str, value))
        case _:
            return name, str(value)
