"""What a training run is told: one frozen value, the same keys on the command line and in YAML."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from math import inf
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args

import yaml

from fullconv.errors import BadConfigError
from fullconv.training._recipes import RecipeName, recipe_settings

Precision = Literal["32", "bf16"]
LossName = Literal["cross-entropy", "cross-entropy-sum", "dice", "focal"]
OptimizerName = Literal["adamw", "sgd"]
ClassWeights = Literal["none", "sqrt", "balanced"]
Padding = Literal["reflect", "zero"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "precision": get_args(Precision),
    "loss": get_args(LossName),
    "optimizer": get_args(OptimizerName),
    "class_weights": get_args(ClassWeights),
    "padding": get_args(Padding),
}

_WAYS = (
    "auto", "whole", "sampled:0.25", "sampled-coarse:0.25", "patchwise:64", "patchwise:64x128",
    "crop:4x256", "balanced:4096", "balanced-unbiased:4096", "hard:0.25",
)  # fmt: skip
_SAMPLING = re.compile(
    r"auto|whole|(sampled|sampled-coarse|hard):\d*\.?\d+|(balanced|balanced-unbiased):\d+"
    r"|patchwise:\d+(x\d+)?|crop:\d+x\d+"
)

# What YAML may make of a value that is not quoted, or quoted in vain.
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "data": ((str, Path), "a path"),
    "out": ((str, Path), "a path"),
    "weights": ((str, Path, NoneType), "a path"),
    "net": ((str,), "the name of a network"),
    "sampling": ((str,), f"one of {', '.join(_WAYS)} (numbers of your own)"),
    "augment": ((bool,), "true or false, without quotes"),
    "replacement": ((bool,), "true or false, without quotes"),
    "memory": ((str, int, NoneType), "an amount such as '8 GiB'"),
}

# What may change when a run goes on: the data's path and the budget, and what leaves no trace.
_FREE = frozenset({"data", "out", "epochs", "minutes", "workers", "memory"})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a training run.

    Attributes:
        data: Folder with ``images`` and ``masks`` (or ``train``, ``val``, ``test`` with those
            inside), or a CSV file of pairs.
        out: Folder of the run; it must not exist yet, or be empty. The command line takes
            ``runs/`` and the name of the data if it is not given.
        net: Name of a network, or ``package.module:factory``.
        options: Options of the network, such as ``{"width": 32}``; each is a flag of its own on
            the command line, such as ``--options.width 32``.
        weights: Weights to start from: the folder of a run with the same network, or with the FCN
            that has fewer skips; a file of torchvision, timm or Caffe (``.npz``, ``.safetensors``,
            ``.pth``); or ``pretrained`` for those of a package. If not given, the network's own fresh ones.
        epochs: How often every training image is seen. Give this or `minutes`.
        minutes: Time budget of the training itself, validation included. 5 if neither is given.
        lr: Largest learning rate; if not given, the one that goes with the optimiser.
        batch: Images per step; ``auto``: as many as fit and make training faster for each image, by steps
            that are planned and small ones that are measured. A run notes the number that was chosen, and
            is the same as one that is given it: how a step is cut does not touch its gradient.
        precision: ``32``, or ``bf16`` for autocast: faster on hardware that has it.
        seed: Seed of weights, order and augmentation.
        workers: Processes that read and augment, each with memory of its own; if not given, by
            device and cache, and none on a CPU where memory is given.
        class_weights: ``none``; ``balanced``: each class has the same share of the loss; or ``sqrt``,
            between the two: a class's share goes with the square root of its frequency.
        augment: Whether to augment.
        loss: ``cross-entropy`` (mean over the step's valid units), ``cross-entropy-sum`` (their
            sum, as in the paper), ``dice`` or ``focal``.
        optimizer: ``adamw`` with warm-up and cosine, or ``sgd`` as in the paper.
        momentum: Of ``sgd``.
        replacement: Whether whole images are drawn with replacement, as in the authors' code; `crop` and
            `patchwise` draw each step anew all the same.
        recipe: Settings of the authors of FCN, which other flags outdo: ``fcn-heavy`` (one image, momentum
            0.99, the summed loss) or ``fcn-cvpr`` (20 images, momentum 0.9, the mean loss).
        sampling: Which units count in a step: ``whole`` images; ``sampled:0.25`` of their units, of
            more images; ``patchwise:64`` units, or ``patchwise:64x128`` sub-images, from anywhere, which
            see their whole image; ``crop:4x256``, sub-images that are cut out first and see nothing
            else; ``balanced:4096`` units, the same of each class; ``hard:0.25``, those with the largest
            loss; ``auto`` (the default) measures what pays here and begins with that, and goes over to whole
            images in the middle of the run if they pay by then.
        memory: What the whole process may take, such as ``8 GiB``; steps are then cut into windows
            where they must be.
        padding: How images are padded, at the right and bottom, that the network does not take for their
            size: ``reflect`` or ``zero``. Their maps are cropped again, in training, prediction and
            evaluation alike.
    """

    data: Path
    out: Path
    net: str = "unet"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    weights: Path | None = None
    epochs: int | None = None
    minutes: float | None = None
    lr: float | None = None
    batch: int | Literal["auto"] = 1
    precision: Precision = "32"
    seed: int = 0
    workers: int | None = None
    class_weights: ClassWeights = "sqrt"
    augment: bool = True
    loss: LossName = "cross-entropy"
    optimizer: OptimizerName = "adamw"
    momentum: float = 0.99
    replacement: bool = False
    recipe: RecipeName | None = None
    sampling: str = "auto"
    memory: str | None = None
    padding: Padding = "reflect"

    def __post_init__(self) -> None:
        self._check_kinds()
        object.__setattr__(self, "data", Path(self.data))
        object.__setattr__(self, "out", Path(self.out))
        if self.weights is not None:
            object.__setattr__(self, "weights", Path(self.weights))
        if self.epochs is None and self.minutes is None:
            object.__setattr__(self, "minutes", 5.0)
        if self.epochs is not None and self.minutes is not None:
            raise BadConfigError(
                f"`epochs` or `minutes` must be given, not both, got {self.epochs} and "
                f"{self.minutes}; drop one"
            )
        self._check_choices()
        self._check_ranges()
        self._check_sampling()

    def _check_kinds(self) -> None:
        for key, (kinds, what) in _KINDS.items():
            value = getattr(self, key)
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise BadConfigError(f"`{key}` must be {what}, got {value!r}")

    def _check_choices(self) -> None:
        for key, choices in _CHOICES.items():
            value = str(getattr(self, key))
            if value not in choices:
                near = get_close_matches(value, choices, n=1) or choices
                raise BadConfigError(
                    f"`{key}` must be one of {', '.join(choices)}, got {value!r}; "
                    f"nearest is {near[0]!r}"
                )
            object.__setattr__(self, key, value)

    def _check_sampling(self) -> None:
        if not _SAMPLING.fullmatch(self.sampling):
            raise BadConfigError(
                f"`sampling` must be one of {', '.join(_WAYS)} (numbers of your own), got "
                f"{self.sampling!r}"
            )
        name, _, number = self.sampling.partition(":")
        if name in ("sampled", "sampled-coarse", "hard") and not 0 < float(number) <= 1:
            raise BadConfigError(
                f"`sampling` must name a share above 0 and at most 1, such as {name}:0.25, got "
                f"{self.sampling!r}"
            )
        if self.loss == "dice" and not re.match("whole|crop|auto", self.sampling):
            raise BadConfigError(
                f"`loss` must be a sum over units for `sampling` = {self.sampling!r}, got 'dice', "
                "which looks at whole images; take cross-entropy or focal, or sampling whole"
            )

    def _check_ranges(self) -> None:
        for key, least in {"epochs": 1, "batch": 1, "seed": 0, "workers": 0}.items():
            value = getattr(self, key)
            if value is None and key in ("epochs", "workers"):
                continue
            if value == "auto" and key == "batch":
                continue
            if type(value) is not int or value < least:
                other = ", or auto" if key == "batch" else ""
                raise BadConfigError(
                    f"`{key}` must be a whole number of at least {least}{other}, got {value!r}"
                )
        if self.recipe is not None:
            recipe_settings(self.recipe, self.net)  # refuses one that is not known
        object.__setattr__(self, "momentum", _momentum(self.momentum))
        for key in ("minutes", "lr"):
            value = getattr(self, key)
            if value is not None:
                object.__setattr__(self, key, _above_zero(key, value))
        if not isinstance(self.options, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] (YAML)
            raise BadConfigError(f"`options` must be a table of keys, got {self.options!r}")
        odd = [key for key in self.options if not isinstance(key, str)]  # pyright: ignore[reportUnnecessaryIsInstance]
        if odd:
            raise BadConfigError(f"`options` must have names as keys, got {odd[0]!r}")

    @property
    def images(self) -> int:
        """Images per step; 1 as long as `batch` = auto is not settled."""
        return 1 if self.batch == "auto" else self.batch

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for YAML; the rate is the one that is used."""
        values = asdict(self)
        summed = self.loss == "cross-entropy-sum"
        return {
            **values,
            "lr": self.lr or default_lr(self.optimizer, summed=summed),
            "data": str(self.data),
            "out": str(self.out),
            "weights": str(self.weights) if self.weights else None,
            "options": dict(self.options),
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "TrainConfig":
        """Return the settings with these values.

        Raises:
            BadConfigError: For a key that is not known, or a value out of range.
        """
        known = [f.name for f in fields(TrainConfig)]
        for key in values:
            if key not in known:
                near = get_close_matches(key, known, n=1)
                hint = f"nearest is `{near[0]}`" if near else f"known are {', '.join(known)}"
                raise BadConfigError(f"`config` has the unknown key {key!r}; {hint}")
        missing = [key for key in ("data", "out") if values.get(key) is None]
        if missing:
            raise BadConfigError(f"`config` must say `{missing[0]}`, got none")
        return TrainConfig(**values)

    def resuming(self, earlier: "TrainConfig") -> "TrainConfig":
        """Return these settings for going on with a run that had the `earlier` ones.

        Raises:
            BadConfigError: If they differ in more than what may change behind a step.
        """
        before, now = earlier.to_dict(), self.to_dict()
        for name in before.keys() - _FREE:
            old, new = before[name], now[name]
            if old != new:
                raise BadConfigError(
                    f"`{name}` must stay {old!r} for a run that goes on, got {new!r}; only "
                    f"{', '.join(sorted(_FREE))} may change. Start a new run for the rest"
                )
        return self


def default_lr(name: OptimizerName, *, summed: bool) -> float:
    """Return the largest rate to use when none is given.

    AdamW's is for networks with a norm that start from scratch; pretrained ones want a tenth of it.
    The paper's 1e-10 belongs to a loss summed over about 1e6 units; 1e-4 is its like for the mean.
    """
    if name == "adamw":
        return 4e-3
    return 1e-10 if summed else 1e-4


def _momentum(value: Any) -> float:
    number = _number(value)
    if not 0 <= number < 1:
        raise BadConfigError(f"`momentum` must be from 0 to below 1, got {value!r}")
    return number


def _number(value: Any) -> float:
    """Return a number; -1 for what is none. YAML reads 1e-3, which has no dot, as text."""
    try:
        return -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return -1.0


def _above_zero(key: str, value: Any) -> float:
    number = _number(value)
    if not 0 < number < inf:
        raise BadConfigError(f"`{key}` must be a number above 0, got {value!r}")
    return number


def read_config(path: Path) -> dict[str, Any]:
    """Return the settings in a YAML file, unchecked, to be merged with flags.

    Raises:
        BadConfigError: If the file cannot be read or is not a table of keys.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadConfigError(f"`config` must be a YAML file, got `{path}`: {error}") from error
    if not isinstance(values, dict):
        raise BadConfigError(f"`config` must be a table of keys, got `{path}` with {values!r}")
    return {str(key): value for key, value in values.items()}
