"""The head of the report: what was reached, in words, and the four metrics beside the baseline."""

from markupsafe import Markup

from fullconv.reporting import _words as words
from fullconv.reporting._record import Evaluation, Record
from fullconv.reporting._section import Section, bar, joined, paragraph

METRICS = (
    ("mean_iu", "mean IU"),
    ("pixel_accuracy", "pixel accuracy"),
    ("mean_accuracy", "mean accuracy"),
    ("fw_iu", "f.w. IU"),
)

_SAID_WITH_AN = ("a", "e", "i", "o", "fcn")


def title(record: Record) -> str:
    """Return what the report is about, in a few words."""
    return f"{record.network.name} on {record.data.path.rstrip('/').rpartition('/')[2]}"


def summary(record: Record) -> str:
    """Return the run in one sentence: network, time, data, result, baseline."""
    reached = _reached(record, record.evaluation) if record.evaluation else _not_evaluated(record)
    return words.unbroken(f"{_subject(record)}, trained for {_trained(record)}, {reached}")


def _subject(record: Record) -> str:
    article = "An" if record.network.name.lower().startswith(_SAID_WITH_AN) else "A"
    size = record.network.parameters
    of_size = f" of {words.brief(size)} parameters" if size is not None else ""
    return f"{article} {record.network.name}{of_size}"


def _trained(record: Record) -> str:
    seconds = record.steps.get("seconds")
    time = words.duration(0.0 if seconds is None else float(seconds[-1]))
    names = record.data.splits["train"]
    shapes = [record.data.samples[name].shape for name in names]
    whole = "whole " if record.config.get("sampling", "whole") == "whole" else ""
    noun = f"{whole}image{'' if len(names) == 1 else 's'}"
    return f"{time} on {words.count(len(names))} {noun} of {words.sizes(shapes)}"


def _reached(record: Record, evaluation: Evaluation) -> str:
    images = words.plural(len(evaluation.images), "held-out image")
    return (
        f"reaches mean IU {words.score(evaluation.metrics.mean_iu, 2)} on {images}; "
        f"always answering “{_majority(record, evaluation)}” would reach "
        f"{words.score(evaluation.baseline.mean_iu, 2)}."
    )


def _majority(record: Record, evaluation: Evaluation) -> str:
    return record.classes.names[int(evaluation.confusion.sum(axis=1).argmax())]


def _not_evaluated(record: Record) -> str:
    held_out = [split for split in ("val", "test") if record.data.splits.get(split)]
    if not held_out:
        return "was not evaluated: every image was used for training."
    return "was not evaluated on held-out images: the run was stopped before that."


def results(record: Record) -> Section | None:
    """Return the four FCN metrics beside those of the baseline, or None without evaluation."""
    evaluation = record.evaluation
    if evaluation is None:
        return None
    tiles = joined(_tile(evaluation, key, name) for key, name in METRICS)
    note = paragraph(
        f"Measured on the {words.plural(len(evaluation.images), 'image')} of the split "
        f"“{evaluation.split}”, over one confusion matrix of all their px. The mark on each bar, "
        f"and the number below it, is the baseline: always answering "
        f"“{_majority(record, evaluation)}”, the class most frequent there."
    )
    body = Markup('<div class="tiles">{}</div>').format(tiles) + note
    return Section(anchor="results", title="Results", body=body)


def _tile(evaluation: Evaluation, key: str, name: str) -> Markup:
    value: float = getattr(evaluation.metrics, key)
    baseline: float = getattr(evaluation.baseline, key)
    return Markup(
        '<div class="tile"><h3>{}</h3><strong>{}</strong>{}<small>baseline {}</small></div>'
    ).format(
        name,
        words.score(value),
        bar(words.or_zero(value), "var(--accent)", tick=words.or_zero(baseline)),
        words.score(baseline),
    )
