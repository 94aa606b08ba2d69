"""The loss over any units of any images, computed window by window, and its exact gradient."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fullconv.errors import BadConfigError, FullconvError
from fullconv.execution._checks import check_lengths, labels_of
from fullconv.execution._descents import Descents
from fullconv.execution._dropout import Agreement, none_needed
from fullconv.execution._handed import Sums, boosted_gradients, gradients, handed
from fullconv.execution._jobs import (
    Job,
    Loaded,
    OneWindow,
    batches_of,
    jobs_of,
    loaded,
    numbered,
)
from fullconv.execution._losses import ignored_by, unit_losses, weighed
from fullconv.execution._memory import parse_memory, return_freed_memory
from fullconv.execution._pixels import cast_now, laid_out, like_weights
from fullconv.execution._planner import Covering, Planner
from fullconv.execution._reads import Cover
from fullconv.execution._step_down import StepDown
from fullconv.execution._units import Chosen, choose, valid_terms
from fullconv.geometry import Box, Window
from fullconv.tracing import buffers_kept, the_map

Context = Literal["image", "crop"]


class StepLoss(nn.Module):
    """The loss of a step over exactly the chosen units, with one backward.

    Value and gradient are those of the criterion over these units of the whole images' maps, whatever
    windows they are computed through; second derivatives are not there. Windows are chosen by cost,
    run one batch after another, each forward and backward at once; the sum of their gradients is
    handed to autograd as one.

    Args:
        net: Takes `(batch, channels, *spatial)`, returns a map `(batch, classes, *map)`.
        criterion: Takes logits `(n, classes)` and targets `(n,)`, returns one loss per unit, `(n,)`:
            ``torch.nn.CrossEntropyLoss(reduction="none")``. Units with its ``ignore_index`` never count.
            Weights of its own must be parameters of a module.
        memory: What a step may add: "2 GiB", "500MB", "80%" or bytes. None for as much as it takes.
        context: ``image``: units see the image around them, as in the whole image. ``crop``: the units
            are boxes, each cut out of its image and run by itself, as patch pipelines do; a network
            that pads then sees zeros where the image goes on.
        covering: ``cheapest``, or, for study, ``whole`` (as whole an image as fits) or ``units`` (one
            window for each unit).
        reduction: ``mean`` over the chosen valid units of the step, or ``sum``.

    Raises:
        BadConfigError: If an argument is not one of its choices.

    Examples:
        >>> import torch, fullconv as fc
        >>> net = torch.nn.Conv2d(3, 4, 3, padding=1)
        >>> step = fc.StepLoss(net, torch.nn.CrossEntropyLoss(reduction="none"), memory="1 GiB")
        >>> images = [torch.rand(3, 40, 50), torch.rand(3, 60, 60)]
        >>> targets = [torch.zeros(40, 50).long(), torch.zeros(60, 60).long()]
        >>> units = fc.Patchwise(count=10)(targets, torch.Generator().manual_seed(0))
        >>> step(images, targets, units).backward()
    """

    def __init__(
        self,
        net: nn.Module,
        criterion: Callable[[Tensor, Tensor], Tensor],
        memory: str | int | None = None,
        *,
        context: Context = "image",
        covering: Covering = "cheapest",
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        _check_choice("context", context, ("image", "crop"))
        _check_choice("covering", covering, ("cheapest", "whole", "units"))
        _check_choice("reduction", reduction, ("mean", "sum"))
        if isinstance(net, nn.parallel.DistributedDataParallel):
            raise BadConfigError(
                "`net` must be the network itself, got one in DistributedDataParallel: put the whole "
                "step into it, `DistributedDataParallel(StepLoss(net, ...))`"
            )
        self.net, self.criterion = net, criterion
        self.context, self.reduction = context, reduction
        self.covering: Covering = covering
        budget = None if memory is None else parse_memory(memory)
        self._planner = Planner(getattr(net, "_orig_mod", net), budget)
        self._descents = Descents(self._planner)
        self._down = StepDown(net, criterion, self._descents)
        self._agree: Agreement = none_needed

    @property
    def _ignore(self) -> int | None:
        return ignored_by(self.criterion)

    def forward(self, images: Any, targets: Any, units: Any = None) -> Tensor:
        """Return the loss of a step; its ``backward`` gives the exact gradient.

        Args:
            images: Images `(channels, *spatial)`, of any sizes, or a batch of them.
            targets: The labels of each image, `(*map_shape)`, or a batch of them.
            units: For each image which units count: boolean or weights `(*map_shape)`, a list of
                boxes of units, or None for all. None for all units of all images.

        Images, labels and units need not be in memory: of what gives arrays when it is sliced (Zarr,
        `fullconv.images.open_image` …) each window reads its own part, while the one before it runs.

        Returns:
            A scalar: 0, with gradients of 0, if no valid unit is chosen.

        Raises:
            NotLocalError: If it takes several windows and a layer looks at the whole image.
            FullconvError: If units or labels are not of the map's shape, or `memory` is too little.
        """
        jobs, weight = self._jobs(images, targets, units)
        scale = 1 / weight if self.reduction == "mean" and weight else 1.0
        downs = [job for job in jobs if isinstance(job, OneWindow) and job.down]
        batches = list(self._batches([job for job in jobs if job not in downs]))
        if any(self._is_tight(batch) for batch in batches):
            return_freed_memory()
        self._agree = self._agreement(jobs)
        if torch.is_grad_enabled() and len(batches) + 2 * len(downs) > 1:
            return self._in_turn(batches, downs, scale)
        shares = [self._at_once(batch) * scale for batch in loaded(batches)]
        shares += [self._down.there(job) * scale for job in downs]
        return torch.stack(shares).sum() if shares else self._nothing(images)

    def losses(self, images: Any, targets: Any) -> list[Tensor]:
        """Return the loss of every unit, one map `(*map_shape)` per image, without gradients.

        The network stays as it is: BatchNorm in training counts nothing twice.
        """
        check_lengths(images, targets, None)
        self._planner.look()
        dtype = torch.promote_types(torch.float32, like_weights(self.net).dtype)
        found: list[Tensor] = []
        with torch.no_grad(), buffers_kept(self.net):
            for image, target in zip(images, targets, strict=True):
                labels = labels_of(target, image)
                each = torch.zeros(
                    labels.shape, device=getattr(labels, "device", None), dtype=dtype
                )
                every = choose(labels, None, None)
                jobs = jobs_of(image, every, self._cover(image, every), 0)
                self._agree = self._agreement(jobs)
                for batch in loaded(list(self._batches(jobs))):
                    losses = self._each(batch)
                    windows = [w for one in batch for w in one.job.windows()]
                    parts = torch.split(losses, [w.units.size for w in windows])
                    for window, part in zip(windows, parts, strict=True):
                        each[window.units.slices] = part.reshape(window.units.shape).to(each)
                found.append(each)
        return found

    def cover(self, image: Any, target: Any, units: Any = None) -> list[Window]:
        """Return the windows through which the chosen units of one image are computed."""
        return [w for job in self._jobs([image], [target], [units])[0] for w in job.windows()]

    def _jobs(self, images: Any, targets: Any, units: Any) -> tuple[list[Job], float]:
        """Return the windows of a step, and how much its units count together, if they are averaged."""
        check_lengths(images, targets, units)
        self._planner.look()
        jobs: list[Job] = []
        weight = 0.0
        for i, image in enumerate(images):
            labels = labels_of(targets[i], image)
            chosen = choose(labels, None if units is None else units[i], self._ignore)
            weight += chosen.weight() if self.reduction == "mean" else 0.0
            jobs += (
                self._crops(image, chosen, i)
                if self.context == "crop"
                else self._own(image, chosen, i)
            )
        return jobs, weight

    def _own(self, image: Any, chosen: Chosen, number: int) -> list[Job]:
        """Return what owns the chosen units of an image: windows, or all of it from top to bottom."""
        cover = self._cover(image, chosen)
        shape = tuple(image.shape[1:])
        down = None
        # On the way back through float16, gradients of a loss that is scaled later would become 0.
        if self.covering != "units" and cast_now(self.net) != torch.float16:
            down = self._descents.plan(image.shape[0], shape, cover)
        if down is None:
            return jobs_of(image, chosen, cover, number)
        every = Box.whole(chosen.shape)
        window = Window(units=every, reads=Box.whole(shape), inside=every)
        return [OneWindow(image, window, chosen.terms, number, alone=True, exact=True, down=down)]

    def _cover(self, image: Any, chosen: Chosen) -> Cover:
        """Return windows of an image that own its chosen units."""
        shape = tuple(image.shape[1:])
        return self._planner.cover(
            image.shape[0], shape, chosen.shape, chosen.spread(), self.covering
        )

    def _crops(self, image: Any, chosen: Chosen, number: int) -> list[Job]:
        """Return the boxes of an image, each cut out by itself."""
        if chosen.boxes is None:
            raise FullconvError(
                "`units` must be boxes where each is cut out by itself (`context='crop'`), got a "
                "tensor or none: take them from `Patchwise(count, size=...)`"
            )
        windows = [self._crop(image, box, chosen.shape) for box in chosen.boxes]
        if self._planner.memory is not None:  # as many run together as fit
            self._planner.know(image.shape[0], tuple(image.shape[1:]))
            for sides in {window.reads.shape for window in windows}:
                self._planner.check_crop(image.shape[0], sides)
        find = partial(valid_terms, chosen, self._ignore)
        exact = tuple(chosen.shape) == tuple(image.shape[1:])
        return [OneWindow(image, w, find, number, alone=True, exact=exact) for w in windows]

    def _crop(self, image: Any, box: Box, map_shape: tuple[int, ...]) -> Window:
        shape = tuple(image.shape[1:])
        if map_shape == shape:
            return Window(units=box, reads=box, inside=Box.whole(box.shape))
        geometry = self._planner.geometry(image.shape[0], shape)
        ends = (0,) * len(map_shape), tuple(size - 1 for size in map_shape)
        if any(geometry.sees_padding(unit, shape) for unit in ends):
            raise FullconvError(
                "`net` must not pad where boxes are cut out by themselves and the map is smaller than "
                f"the image, got a map of {map_shape} units for {shape} px; use `context='image'`"
            )
        return geometry.window(box, shape)

    def _is_tight(self, batch: Sequence[Job]) -> bool:
        """Return whether a batch of windows takes most of the memory."""
        channels, count = batch[0].image.shape[0], sum(map(len, batch))
        return self._planner.is_tight(channels, batch[0].sides, count)

    def _batches(self, jobs: Sequence[Job]) -> Iterator[list[Job]]:
        """Yield the windows of a step in batches of one shape, as many as may run together."""
        device = like_weights(self.net).device.type
        return batches_of(jobs, partial(self._planner.most_together, device=device))

    def _agreement(self, jobs: Sequence[Job]) -> Agreement:
        """Return what makes dropout agree where images have several windows."""
        cut = next((job for job in jobs if not job.alone), None)
        if cut is None:
            return none_needed
        return self._planner.agreement(cut.image.shape[0], tuple(cut.image.shape[1:]))

    def _in_turn(
        self, batches: Sequence[list[Job]], downs: Sequence[OneWindow], scale: float
    ) -> Tensor:
        """Run each part forward and backward at once, and hand over the sum of their gradients."""
        weights = [p for p in self.parameters() if p.requires_grad]
        images = _differentiable([job for batch in (*batches, downs) for job in batch])
        # An image may have been computed: each part goes back to it, and no further.
        apart = {id(image): image.detach().requires_grad_() for image in images}
        leaves = [*weights, *apart.values()]
        sums = Sums(len(leaves))
        total: Tensor | None = None
        alone = [[job.on(apart.get(id(job.image), job.image)) for job in b] for b in batches]
        parts = (self._timed(self._forth_and_back, b, scale, leaves) for b in loaded(alone))
        back = (job.on(apart.get(id(job.image), job.image)) for job in downs)
        ways = (self._down.there_and_back(job, scale, leaves) for job in back)
        for share, grads in chain(parts, ways):
            total = share if total is None else total + share
            sums.add(grads)
        if total is None or all(grad is None for grad in sums.found):
            nothing = self._nothing([*images])
            return nothing if total is None else nothing + total
        return handed(total, [*weights, *images], sums.found)

    def _forth_and_back(
        self, batch: list[Loaded], scale: float, leaves: Sequence[Tensor]
    ) -> tuple[Tensor, Sequence[Tensor | None]]:
        share = self._total(batch) * scale
        if not share.requires_grad:
            return share.detach(), [None] * len(leaves)
        if cast_now(self.net) == torch.float16:
            return share.detach(), boosted_gradients(share, leaves)
        return share.detach(), gradients(share, leaves)

    def _at_once(self, batch: list[Loaded]) -> Tensor:
        """Run a batch of windows forward; backward is autograd's, and timed when it comes."""
        start = time.perf_counter()
        share = self._total(batch)
        if share.requires_grad:
            forward = time.perf_counter() - start
            kind = _kind(batch)

            def begun(_: Tensor) -> None:
                self._note_at_end(*kind, time.perf_counter() - forward)

            share.register_hook(begun)
        return share

    def _timed(self, run: Callable[..., Any], batch: list[Loaded], *args: Any) -> Any:
        """Run a batch of windows forward and backward, and note how long it takes."""
        start = time.perf_counter()
        found = run(batch, *args)
        self._note(*_kind(batch), start)
        return found

    def _note_at_end(self, channels: int, sides: tuple[int, ...], count: int, start: float) -> None:
        """Note how long so many windows took, as soon as the backward pass that runs now has ended."""
        engine = torch.autograd.Variable._execution_engine
        engine.queue_callback(lambda: self._note(channels, sides, count, start))

    def _note(self, channels: int, sides: tuple[int, ...], count: int, start: float) -> None:
        """Note that so many windows were run forward and backward since `start`."""
        if like_weights(self.net).device.type == "cpu":  # elsewhere, work goes on in the background
            self._planner.note(channels, sides, count, time.perf_counter() - start)

    def _total(self, batch: list[Loaded]) -> Tensor:
        """Return the summed loss of the units of windows of one shape."""
        return weighed(self._each(batch), [one.terms for one in batch])

    def _each(self, batch: list[Loaded]) -> Tensor:
        """Return the loss of each unit of windows of one shape, `(n,)`."""
        like = like_weights(self.net)
        stack = torch.cat([one.pixels(like) for one in batch])
        agreed = self._agree(pair for one in batch for pair in numbered(one.job))
        with agreed, self._planner.sized(stack.shape[1], tuple(stack.shape[2:])):
            maps = the_map(self.net(laid_out(stack, self.net)))
        parts = torch.split(maps, [len(one.job) for one in batch])
        rows = [one.rows(part) for one, part in zip(batch, parts, strict=True)]
        return unit_losses(self.criterion, rows, [one.terms for one in batch])

    def _nothing(self, images: Any) -> Tensor:
        """Return the loss of no units: 0, with gradients of 0."""
        given = [images] if isinstance(images, Tensor) else list(images)
        leaves = [p for p in self.parameters() if p.requires_grad]
        leaves += [i for i in given if isinstance(i, Tensor) and i.requires_grad]
        like = like_weights(self.net)
        sums = [torch.zeros_like(p) for p in leaves]
        return handed(torch.zeros((), device=like.device, dtype=like.dtype), leaves, sums)


def _kind(batch: Sequence[Loaded]) -> tuple[int, tuple[int, ...], int]:
    """Return the channels, sides and number of a batch's windows."""
    jobs = [one.job for one in batch]
    return jobs[0].image.shape[0], jobs[0].sides, sum(map(len, jobs))


def _differentiable(jobs: Sequence[Job]) -> list[Tensor]:
    """Return the images that gradients are asked for, each once."""
    images = (job.image for job in jobs)
    asked = {id(i): i for i in images if isinstance(i, Tensor) and i.requires_grad}
    return list(asked.values())


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise BadConfigError(f"`{name}` must be one of {', '.join(choices)}, got {value!r}")
