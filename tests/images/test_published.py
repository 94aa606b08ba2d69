"""PASCAL VOC, SBD and CamVid in small: files as the publishers lay them out, written with other code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from fullconv.errors import BadDataError
from fullconv.images import open_dataset, read_mask, survey

VOC = {
    "train": ["2007_000032", "2008_000009"],
    "val": ["2007_000033", "2011_003271", "2009_000001"],
}
SBD = {"train": ["2008_000002", "2009_000001"], "val": ["2008_000003"]}


def labels(name: str) -> np.ndarray:
    return (np.arange(30).reshape(5, 6) + int(name[-1])).astype(np.uint8) % 21


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(
        np.random.default_rng(len(path.name)).integers(0, 255, (5, 6, 3), np.uint8)
    ).save(path)


def write_voc(root: Path, year: str = "VOC2011") -> Path:
    home = root / year
    lists = home / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, names in VOC.items():
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            picture(home / "JPEGImages" / f"{name}.jpg")
            mask = labels(name)
            mask[0] = 255
            palette = Image.fromarray(mask)
            palette.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
            (home / "SegmentationClass").mkdir(exist_ok=True)
            palette.save(home / "SegmentationClass" / f"{name}.png")
    return home


def write_sbd(root: Path) -> Path:
    home = root / "benchmark_RELEASE" / "dataset"
    for split, names in SBD.items():
        for name in names:
            picture(home / "img" / f"{name}.jpg")
            (home / "cls").mkdir(exist_ok=True)
            parts = {"Segmentation": labels(name), "CategoriesPresent": np.arange(3)}
            savemat(home / "cls" / f"{name}.mat", {"GTcls": parts})
        (home / f"{split}.txt").write_text("\n".join(names))
    return home


def names(data: Path) -> dict[str, list[str]]:
    return {s: sorted(x.name for x in some) for s, some in open_dataset(data).splits.items()}


def test_voc_has_its_lists_its_classes_and_255_ignored(tmp_path: Path) -> None:
    home = write_voc(tmp_path / "VOCdevkit")
    for place in (tmp_path, tmp_path / "VOCdevkit", home):
        assert names(place) == {split: sorted(some) for split, some in VOC.items()}
    dataset = open_dataset(tmp_path)
    found = survey(dataset)
    assert (found.classes.names[0], found.classes.names[20]) == ("background", "tvmonitor")
    assert found.classes.colours[1] == (128, 0, 0)
    assert found.ignored["train"] == 2 * 6
    sample = next(x for x in dataset.samples if x.name == "2007_000033")
    assert sample.mask is not None
    expected = labels("2007_000033")
    expected[0] = 255
    assert np.array_equal(read_mask(sample.mask, found.classes), expected)


def test_sbd_has_its_masks_in_matlab_files(tmp_path: Path) -> None:
    home = write_sbd(tmp_path)
    for place in (tmp_path, tmp_path / "benchmark_RELEASE", home):
        assert names(place) == {split: sorted(some) for split, some in SBD.items()}
    dataset = open_dataset(tmp_path)
    found = survey(dataset)
    mask = dataset.splits["val"][0].mask
    assert mask is not None
    assert np.array_equal(read_mask(mask, found.classes), labels("2008_000003"))


def test_together_val_is_that_of_voc_without_what_sbd_trains_on(tmp_path: Path) -> None:
    home = write_voc(tmp_path)
    write_sbd(tmp_path)
    assert names(tmp_path) == {"train": sorted(SBD["train"]), "val": ["2007_000033", "2011_003271"]}
    (home / "ImageSets" / "Segmentation" / "seg11valid.txt").write_text("2011_003271\n")
    assert names(tmp_path)["val"] == ["2011_003271"]
    assert survey(open_dataset(tmp_path)).classes.num_classes == 21


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    home = write_sbd(tmp_path)
    (home / "cls" / "2008_000003.mat").unlink()
    with pytest.raises(BadDataError, match=r"2008_000003\.mat: cannot be opened"):
        survey(open_dataset(tmp_path))
    (home / "val.txt").unlink()
    with pytest.raises(BadDataError, match=r"must have the list .*val\.txt, got: No such file"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("write", [write_voc, write_sbd])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_list_names_each_image_once(
    write: Callable[[Path], Path], split: str, tmp_path: Path
) -> None:
    write(tmp_path)
    [file] = tmp_path.rglob(f"{split}.txt")
    names = file.read_text().split()
    file.write_text("\n".join([*names, names[0], "x", names[0], "x"]))
    with pytest.raises(BadDataError, match=r"must name each image once in .*, got") as error:
        open_dataset(tmp_path)
    assert f"{split}.txt, got {names[0]} 3 times, x 2 times; leave one" in str(error.value)
    file.write_text(" ".join("0123456") + " 6 5 4 3 2 1 0")
    with pytest.raises(BadDataError, match=r"got 0 2 times, .* 4 2 times and 2 more; leave one"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("write", [write_voc, write_sbd])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_list_that_names_nothing_is_refused(
    write: Callable[[Path], Path], split: str, tmp_path: Path
) -> None:
    write(tmp_path)
    [file] = tmp_path.rglob(f"{split}.txt")
    file.write_text("\n \n")
    message = rf"must have names of images in .*{split}\.txt, got an empty list; put it back"
    with pytest.raises(BadDataError, match=message):
        open_dataset(tmp_path)


def test_together_something_must_be_left_to_validate_on(tmp_path: Path) -> None:
    lists = write_voc(tmp_path) / "ImageSets" / "Segmentation"
    write_sbd(tmp_path)
    (lists / "val.txt").write_text("2009_000001\n")  # on which SBD trains
    with pytest.raises(
        BadDataError, match=r"val\.txt that .*train\.txt does not train on, got none"
    ):
        open_dataset(tmp_path)


def test_two_years_or_no_list_are_refused(tmp_path: Path) -> None:
    home = write_voc(tmp_path)
    for split in VOC:
        (home / "ImageSets" / "Segmentation" / f"{split}.txt").unlink()
    with pytest.raises(BadDataError, match=r"must have the lists of VOC, got no train\.txt"):
        open_dataset(tmp_path)
    write_voc(tmp_path, "VOC2012")
    with pytest.raises(BadDataError, match="must have one year of VOC, got VOC2011 and VOC2012"):
        open_dataset(tmp_path)


def test_other_matlab_files_and_a_missing_scipy_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = write_sbd(tmp_path)
    savemat(home / "cls" / "2008_000003.mat", {"other": np.zeros(3)})
    with pytest.raises(BadDataError, match="with the struct GTcls, got another MATLAB file"):
        survey(open_dataset(tmp_path))
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    (home / "cls" / "2008_000003.mat").touch()
    with pytest.raises(BadDataError, match="pip install scipy"):
        survey(open_dataset(tmp_path))


def write_camvid(root: Path) -> Path:
    """SegNet's copy: images beside index masks, 0 to 11."""
    home = root / "CamVid"
    for split, name in (
        ("train", "0001TP_006690"),
        ("val", "0016E5_07959"),
        ("test", "Seq05VD_f00000"),
    ):
        picture(home / split / f"{name}.png")
        (home / f"{split}annot").mkdir()
        mask = np.arange(30, dtype=np.uint8).reshape(5, 6) % 12
        Image.fromarray(mask).save(home / f"{split}annot" / f"{name}.png")
        (home / f"{split}.txt").write_text(
            f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png\n"
        )
    return home


def test_camvid_has_the_classes_of_segnet_and_ignores_its_twelfth(tmp_path: Path) -> None:
    home = write_camvid(tmp_path)
    expected = {"train": ["0001TP_006690"], "val": ["0016E5_07959"], "test": ["Seq05VD_f00000"]}
    for place in (tmp_path, home):
        assert names(place) == expected
    dataset = open_dataset(tmp_path)
    found = survey(dataset)
    assert found.classes.names[:4] == ("sky", "building", "pole", "road")
    assert (found.classes.num_classes, found.ignored["val"]) == (11, 2)
    (mask,) = (sample.mask for sample in dataset.splits["val"])
    assert mask is not None
    assert read_mask(mask, found.classes)[1].tolist() == [6, 7, 8, 9, 10, 255]
    (home / "classes.csv").write_text("name\n" + "\n".join(f"c{n}" for n in range(12)))
    assert survey(open_dataset(home)).classes.num_classes == 12, "a table of one's own counts"


def test_an_image_of_camvid_without_its_mask_is_named(tmp_path: Path) -> None:
    home = write_camvid(tmp_path)
    (home / "valannot" / "0016E5_07959.png").unlink()
    with pytest.raises(BadDataError, match=r"no 0016E5_07959\.\* in valannot/"):
        survey(open_dataset(tmp_path))
