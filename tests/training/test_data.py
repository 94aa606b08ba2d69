"""Order, batching, caching and augmentation."""

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fullconv.errors import BadConfigError, BadDataError
from fullconv.geometry import Box
from fullconv.images import Dataset, Sample, open_dataset, survey
from fullconv.sampling import Patchwise, generator
from fullconv.training import ImageData
from fullconv.training import _augment as augment_file
from fullconv.training import _data as data_file
from fullconv.training._augment import Augment, mirror_axes
from fullconv.training._data import Images, spread, stack_by_size
from fullconv.training._order import Anywhere, Cuts, Key, Order
from fullconv.training._regime import regime


def keys(order: Order, epoch: int) -> list[list[int]]:
    order.set_epoch(epoch)
    return [[key.index for key in step] for step in order]


def test_each_epoch_sees_every_image_once_in_an_order_of_its_own() -> None:
    order = Order(range(7), batch=3, seed=5)
    first, second = keys(order, 0), keys(order, 1)
    assert [len(step) for step in first] == [3, 3, 1] == [3, 3, 1][: len(order)]
    for steps in (first, second):
        assert sorted(chain(*steps)) == list(range(7))
    assert first != second
    assert keys(Order(range(7), batch=3, seed=5), 1) == second
    assert keys(Order(range(7), batch=3, seed=6), 1) != second


@pytest.mark.parametrize("step", range(7))
def test_a_resumed_order_goes_on_where_it_was(step: int) -> None:
    whole = Order(range(7), batch=3, seed=5)
    expected = [*keys(whole, 0), *keys(whole, 1), *keys(whole, 2)][step:]
    order = Order(range(7), batch=3, seed=5)
    order.start_after(step)
    first = order.epoch
    found = list(chain(*(keys(order, epoch) for epoch in range(first, 3))))
    assert found == expected


def shaped(scenes: Path, *shapes: tuple[int, int]) -> ImageData:
    dataset = open_dataset(scenes)
    facts = survey(dataset)
    names = [sample.name for sample in dataset.splits["train"]]
    sizes = dict(zip(names, shapes * len(names), strict=False))
    return ImageData(dataset, replace(facts, shapes=facts.shapes | sizes))


def test_sub_images_come_from_images_that_hold_them(scenes: Path) -> None:
    data = shaped(scenes, (64, 80), (32, 200))
    data.follow(regime("patchwise:1x48"))
    images = len(data.dataset.splits["train"])
    drawn: set[int] = set()
    for epoch in range(20):
        data._order.set_epoch(epoch)
        drawn.update(key.index for step in data._order for key in step)
    assert drawn == set(range(0, images, 2))
    with pytest.raises(
        BadConfigError, match=r"`sampling` = patchwise:1x70 needs images of at leas"
    ) as caught:
        data.follow(regime("patchwise:1x70"))
    assert str(caught.value).endswith("is 64 x 80; patchwise:1x64 is the largest that fits")
    data.follow(regime("patchwise:1x64"))


def test_cuts_that_no_image_holds_are_refused_with_the_largest_that_one_does(scenes: Path) -> None:
    data = shaped(scenes, (64, 80), (32, 200))
    with pytest.raises(
        BadConfigError,
        match=r"`sampling` = crop:3x65 needs images of at least 65 px per side, got none: the "
        r"largest is 64 x 80; crop:3x64 is the largest that fits",
    ):
        data.check(regime("crop:3x65"))
    data.check(regime("crop:3x64"))
    assert data.regime.name == "whole"  # it is only looked at


def test_more_images_per_step_than_there_are_are_refused(scenes: Path) -> None:
    data = shaped(scenes, (64, 80))
    images = len(data.dataset.splits["train"])
    data.follow(regime(f"sampled:{1 / images}"))
    with pytest.raises(BadConfigError, match="takes 100 images per step") as caught:
        data.follow(regime("sampled:0.01"))
    least = str(caught.value).split("; ")[1].removesuffix(" is the least")
    data.follow(regime(least))


def test_images_of_one_size_are_stacked_and_none_is_resized() -> None:
    items = [(torch.full((1, h, 4), float(h)), torch.full((h, 4), h)) for h in (5, 6, 5)]
    groups = stack_by_size(items)
    assert [tuple(images.shape) for images, _ in groups] == [(2, 1, 5, 4), (1, 1, 6, 4)]
    assert [tuple(masks.shape) for _, masks in groups] == [(2, 5, 4), (1, 6, 4)]


def test_a_long_validation_split_is_sampled_evenly() -> None:
    samples = [Sample(name=str(i), image=Path(), mask=None) for i in range(10)]
    assert [s.name for s in spread(samples, 4)] == ["0", "2", "5", "7"]
    assert spread(samples, 10) is samples


def dataset(scenes: Path) -> Dataset:
    return open_dataset(scenes)


@pytest.mark.parametrize("cached", [True, False])
def test_images_are_the_files_as_they_are(scenes: Path, cached: bool) -> None:
    samples = dataset(scenes).splits["train"]
    images = Images(samples, survey(dataset(scenes)).classes, cached=cached)
    for i, sample in enumerate(samples):
        image, mask = images[Key(i)]
        pixels = np.asarray(Image.open(sample.image)).transpose(2, 0, 1)
        assert sample.mask is not None
        assert torch.equal(image, torch.from_numpy(pixels.astype(np.float32)))
        assert np.array_equal(mask.numpy(), np.asarray(Image.open(sample.mask)))


def test_what_fits_into_memory_is_read_once(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    plain = data_file.read_image

    def counted(path: Path) -> Any:
        reads.append(path)
        return plain(path)

    monkeypatch.setattr(data_file, "read_image", counted)
    for share, expected in ((0.25, 1), (0.0, 3)):
        monkeypatch.setattr(data_file, "CACHE_SHARE", share)
        reads.clear()
        data = ImageData(dataset(scenes), survey(dataset(scenes)), workers=0)
        data.setup("fit")
        for _ in range(3):
            list(data.train_dataloader())
        train = data.dataset.splits["train"]
        assert [reads.count(sample.image) for sample in train] == [expected] * len(train)


def test_an_image_without_mask_is_refused(scenes: Path) -> None:
    sample = Sample(name="x", image=scenes / "images" / "00.png", mask=None)
    images = Images([sample], survey(dataset(scenes)).classes)
    with pytest.raises(BadDataError, match=r"00\.png` must have a mask to train on, got none"):
        images[Key(0)]


def pair(height: int = 12, width: int = 17) -> tuple[torch.Tensor, torch.Tensor]:
    """An image whose channels hold its own mask, so that both can be compared."""
    mask = torch.arange(height * width).view(height, width) % 200
    return torch.stack([mask, mask]).float(), mask


def augment(**changes: Any) -> Augment:
    values = {"seed": 3, "mean": (90.0, 90.0), "std": (50.0, 50.0), "largest": 255.0}
    return Augment(**(values | changes))


def test_image_and_mask_stay_together_when_flipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gain and offset keep the order of the values, so equal ranks mean equal places."""
    monkeypatch.setattr(augment_file, "WARP_SHARE", 0.0)
    image, mask = pair()
    seen: set[int] = set()
    for epoch in range(16):
        new, labels = augment(largest=None)(image, mask, epoch=epoch, place=(1,))
        for channel in new:
            ranks = torch.unique(channel, return_inverse=True)[1]
            assert torch.equal(ranks, torch.unique(labels, return_inverse=True)[1])
        seen.add(int(labels[0, 0]))
    assert seen == {int(mask[y, x]) for y in (0, -1) for x in (0, -1)}


def test_only_allowed_axes_are_flipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment_file, "WARP_SHARE", 0.0)
    image, mask = pair()
    for axes, corners in (((), {(0, 0)}), ((1,), {(0, 0), (0, -1)}), ((0,), {(0, 0), (-1, 0)})):
        firsts = {
            int(augment(flips=axes)(image, mask, epoch=epoch, place=(1,))[1][0, 0])
            for epoch in range(16)
        }
        assert firsts == {int(mask[corner]) for corner in corners}


def test_image_and_mask_stay_together_when_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large square: inside and outside, away from its edges, the image says what the mask does."""
    monkeypatch.setattr(augment_file, "WARP_SHARE", 1.0)
    monkeypatch.setattr(augment_file, "MOST_SHADE", 0.0)
    mask = torch.zeros(60, 80, dtype=torch.int64)
    mask[10:50, 20:60] = 1
    mask[0, 0] = 255
    image = torch.where(mask == 1, 200.0, 50.0)[None]
    moved = 0
    for epoch in range(8):
        new, labels = augment(largest=None, mean=(0.0,), std=(1.0,), flips=())(
            image, mask, epoch=epoch, place=(0,)
        )
        assert set(labels.unique().tolist()) <= {0, 1, 255}
        sure = (new[0] > 199) | (new[0] < 51)
        valid = sure & (labels != 255)
        assert torch.equal((new[0] > 125)[valid], (labels == 1)[valid])
        assert valid.float().mean() > 0.9
        moved += not torch.equal(labels, mask)
    assert moved == 8


def halves(axis: int) -> np.ndarray:
    """Class 0 in the first half along an axis and class 1 in the other; odd sizes, some ignored."""
    mask = np.zeros((9, 7), np.uint8)
    lines = np.moveaxis(mask, axis, 0)
    lines[lines.shape[0] // 2 :] = 1
    mask[4, 3] = 255
    return mask


@pytest.mark.parametrize(
    ("mask", "axes"),
    [
        (np.eye(9, dtype=np.uint8), (0, 1)),
        (halves(0), (1,)),
        (halves(1), (0,)),
        (np.full((5, 5), 255, np.uint8), (0, 1)),
    ],
)
def test_an_axis_with_a_direction_is_not_flipped(mask: np.ndarray, axes: tuple[int, ...]) -> None:
    assert mirror_axes([mask, mask], 2) == axes


def test_augmentation_depends_on_seed_epoch_and_image_alone() -> None:
    image, mask = pair()
    first = augment()(image, mask, epoch=2, place=(4,))[0]
    torch.manual_seed(99)
    assert torch.equal(first, augment()(image, mask, epoch=2, place=(4,))[0])
    for seed, epoch, index in ((4, 2, 4), (3, 1, 4), (3, 2, 5)):
        other = augment(seed=seed)(image, mask, epoch=epoch, place=(index,))[0]
        assert not torch.equal(first, other)


@pytest.mark.parametrize("largest", [255.0, 65535.0])
def test_values_stay_in_the_range_of_their_type(largest: float) -> None:
    image = torch.tensor([0.0, largest]).view(1, 1, 2).expand(2, 3, 2).clone()
    for epoch in range(20):
        new, _ = augment(largest=largest, std=(largest, largest))(
            image, torch.zeros(3, 2), epoch=epoch, place=(0,)
        )
        assert new.min() >= 0
        assert new.max() <= largest


def test_the_cached_image_is_not_changed_by_augmentation(scenes: Path) -> None:
    samples = dataset(scenes).splits["train"]
    facts = survey(dataset(scenes))
    plain = Images(samples, facts.classes, cached=True)
    images = Images(
        samples, facts.classes, augment=augment(mean=(9.0,) * 3, std=(9.0,) * 3), cached=True
    )
    first = images[Key(0, 0)][0]
    images[Key(0, 1)]
    assert torch.equal(images[Key(0, 0)][0], first)
    assert not torch.equal(first, plain[Key(0)][0])


def test_without_validation_images_there_is_no_validation_loader(scenes: Path) -> None:
    full = dataset(scenes)
    data = ImageData(Dataset(root=scenes, splits={"train": full.samples}), survey(full), workers=0)
    data.setup("fit")
    assert data.val_dataloader() == []
    assert data.validation == ()


def test_cuts_are_as_many_px_as_the_images_and_the_same_for_a_seed() -> None:
    shapes = [(40, 60), (100, 80), (16, 200)]
    cuts = Cuts(shapes, count=3, size=20, seed=1)
    steps = list(cuts)
    assert len(steps) == len(cuts) == -(-(40 * 60 + 100 * 80 + 16 * 200) // (3 * 400))
    keys = [key for step in steps for key in step]
    assert {key.index for key in keys} == {0, 1}  # the third is too low
    for key in keys:
        assert key.box is not None
        assert key.box.shape == (20, 20)
        assert Box.whole(shapes[key.index]).contains(key.box)
    assert list(Cuts(shapes, count=3, size=20, seed=1)) == steps
    cuts.set_epoch(1)
    assert list(cuts) != steps
    cuts.start_after(len(cuts) + 4)
    assert next(iter(cuts)) == list(Cuts(shapes, count=3, size=20, seed=1, epoch=1))[4]


@pytest.mark.parametrize(("count", "size"), [(6, None), (2, 12), (1, 12)])
def test_units_from_anywhere_are_as_likely_in_small_images_as_in_large_ones(
    count: int, size: int | None
) -> None:
    shapes = [(30, 40)] * 2 + [(15, 20)] * 5 + [(60, 50)]
    sampler = Patchwise(count, size)
    side = size or 1
    places = [(h - side + 1) * (w - side + 1) for h, w in shapes]
    assert places == [sampler.places(shape) for shape in shapes]
    order, found = Anywhere(range(8), places, batch=min(4, count), seed=3), np.zeros(8)
    for epoch in range(1500):
        order.set_epoch(epoch)
        for step, keys in enumerate(order):
            images = [key.index for key in keys]
            assert len(set(images)) == len(images) == min(4, count)
            drawn = sampler.draw([shapes[i] for i in images], generator(0, epoch, step))
            found[images] += [len(boxes) for boxes in drawn]
    expected = np.array(places) / sum(places) * found.sum()
    assert (abs(found - expected) < 5 * np.sqrt(expected * count)).all()


def test_steps_from_anywhere_are_the_same_for_a_seed_and_behind_a_resumed_step() -> None:
    def order() -> Anywhere:
        return Anywhere([3, 5, 8, 9, 11], [10, 20, 30, 40, 50], batch=2, seed=1)

    first = list(order())
    assert len(first) == len(order()) == 3
    assert list(order()) == first
    again = order()
    again.start_after(4)
    behind = order()
    behind.set_epoch(1)
    assert list(again) == list(behind)[1:]
    assert list(behind) != first


def test_a_cut_is_that_part_of_its_image_and_mask(scenes: Path) -> None:
    dataset = open_dataset(scenes)
    facts = survey(dataset)
    images = Images(dataset.splits["train"], facts.classes, cached=True)
    box = Box(start=(3, 5), stop=(19, 21))
    image, mask = images[Key(1, 0, box)]
    whole, labels = images[Key(1)]
    assert torch.equal(image, whole[:, 3:19, 5:21])
    assert torch.equal(mask, labels[3:19, 5:21])
