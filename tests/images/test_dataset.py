"""Layouts of a data set, pairs, names and splits."""

from collections.abc import Callable
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest

from fullconv.errors import BadDataError
from fullconv.images import ClassTable, Dataset, open_dataset

from .conftest import Save

Pairs = Callable[..., Path]
IMAGE = np.zeros((4, 5), dtype=np.uint8)


def names(dataset: Dataset) -> dict[str, list[str]]:
    return {split: [s.name for s in samples] for split, samples in dataset.splits.items()}


def rules(dataset: Dataset) -> dict[str, str]:
    return {fault.path.name: fault.rule for fault in dataset.faults}


def test_images_and_masks_are_paired_by_stem(save: Save, tmp_path: Path) -> None:
    for name in ("b.jpg", "a.png", "c.TIF".lower()):
        save(f"images/{name}", IMAGE)
        save(f"masks/{Path(name).stem}.png", IMAGE)
    dataset = open_dataset(tmp_path)
    assert {s.name: (s.image.name, s.mask and s.mask.name) for s in dataset.samples} == {
        "a": ("a.png", "a.png"),
        "b": ("b.jpg", "b.png"),
        "c": ("c.tif", "c.png"),
    }
    assert dataset.split_by_name
    assert dataset.held_out == "val"
    assert dataset.faults == ()


def test_names_that_look_the_same_are_paired(save: Save, tmp_path: Path) -> None:
    save(f"images/{normalize('NFD', 'Bäume')}.png", IMAGE)
    save(f"masks/{normalize('NFC', 'Bäume')}.png", IMAGE)
    dataset = open_dataset(tmp_path, training=False)
    assert len(dataset.samples) == 1
    assert dataset.faults == ()


def test_without_a_split_about_15_percent_validate(pairs: Pairs) -> None:
    dataset = open_dataset(pairs(" ".join(f"{i:03d}" for i in range(1, 61))))
    assert names(dataset)["val"] == [
        "002",
        "009",
        "020",
        "021",
        "035",
        "039",
        "040",
        "045",
        "056",
        "058",
    ]
    assert len(names(dataset)["train"]) == 50


def test_given_splits_are_kept(pairs: Pairs, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        pairs(f"{split}1 {split}2", below=f"data/{split}")
    dataset = open_dataset(tmp_path / "data")
    assert names(dataset) == {s: [f"{s}1", f"{s}2"] for s in ("train", "val", "test")}
    assert not dataset.split_by_name
    assert dataset.held_out == "test"


def test_other_names_of_the_splits(pairs: Pairs, tmp_path: Path) -> None:
    pairs("a", below="data/Training")
    pairs("b", below="data/validation")
    assert names(open_dataset(tmp_path / "data")) == {"train": ["a"], "val": ["b"]}


def test_splits_inside_images_and_masks(save: Save, tmp_path: Path) -> None:
    for split in ("train", "val"):
        save(f"images/{split}/{split}1.png", IMAGE)
        save(f"masks/{split}/{split}1.png", IMAGE)
    assert names(open_dataset(tmp_path)) == {"train": ["train1"], "val": ["val1"]}


def test_validation_is_made_from_train_if_only_test_is_given(pairs: Pairs, tmp_path: Path) -> None:
    pairs("a b c d e f", below="data/train")
    pairs("z", below="data/test")
    dataset = open_dataset(tmp_path / "data")
    assert names(dataset)["test"] == ["z"]
    assert sorted(names(dataset)["train"] + names(dataset)["val"]) == list("abcdef")
    assert names(dataset)["val"]
    assert dataset.split_by_name


def test_equal_stems_in_different_folders_get_longer_names(pairs: Pairs, tmp_path: Path) -> None:
    pairs("01 x", below="data/train")
    pairs("01", below="data/val")
    dataset = open_dataset(tmp_path / "data")
    assert names(dataset) == {"train": ["train_01", "x"], "val": ["val_01"]}


def test_sub_folders_are_searched(save: Save, tmp_path: Path) -> None:
    for name in ("city/1.png", "town/1.png", "3.png"):
        save(f"images/{name}", IMAGE)
        save(f"masks/{name}", IMAGE)
    assert sorted(s.name for s in open_dataset(tmp_path).samples) == ["3", "city_1", "town_1"]


def test_what_desktops_leave_behind_is_passed_over(pairs: Pairs) -> None:
    data = pairs("a b")
    for junk in (".DS_Store", "._a.png", "Thumbs.db", "desktop.ini"):
        (data / "images" / junk).write_bytes(b"junk")
    dataset = open_dataset(data)
    assert len(dataset.samples) == 2
    assert dataset.faults == ()


def test_a_csv_of_pairs(save: Save, tmp_path: Path) -> None:
    for name in ("x/1", "y/1", "z"):
        save(f"in/{name}.png", IMAGE)
        save(f"out/{name}_label.png", IMAGE)
    path = tmp_path / "pairs.csv"
    path.write_text(
        "image,mask,split\nin/x/1.png,out/x/1_label.png,train\n"
        "in/y/1.png,out/y/1_label.png,\nin/z.png,out/z_label.png,Test\n"
    )
    dataset = open_dataset(path)
    named = {name for split in names(dataset).values() for name in split}
    assert named == {"in_x_1", "in_y_1", "z"}
    assert names(dataset)["test"] == ["z"]
    assert dataset.root == tmp_path


def test_the_class_table_beside_the_data_is_read(pairs: Pairs) -> None:
    data = pairs("a b")
    assert open_dataset(data).classes is None
    (data / "classes.yaml").write_text("[soil, weed]")
    assert open_dataset(data).classes == ClassTable(
        names=("soil", "weed"), colours=((0, 0, 0), (128, 0, 0))
    )


def test_for_evaluation_nothing_is_split(pairs: Pairs, tmp_path: Path) -> None:
    assert names(open_dataset(pairs("a"), training=False)) == {"test": ["a"]}
    pairs("b", below="other/test")
    assert names(open_dataset(tmp_path / "other", training=False)) == {"test": ["b"]}
    pairs("c", below="other/train")
    assert names(open_dataset(tmp_path / "other", training=False)) == {
        "train": ["c"],
        "test": ["b"],
    }


def test_masks_and_images_without_a_partner_are_faults(save: Save, pairs: Pairs) -> None:
    data = pairs("a b c")
    save("data/images/alone.png", IMAGE)
    save("data/masks/a_mask.png", IMAGE)
    assert rules(open_dataset(data)) == {
        "alone.png": "image without a mask: no alone.* in masks/",
        "a_mask.png": "mask without an image: no a_mask.* in images/",
    }


def test_colliding_stems_and_strange_files_are_faults(save: Save, pairs: Pairs) -> None:
    data = pairs("a b c")
    save("data/images/a.jpg", IMAGE)
    save("data/masks/b.tif", IMAGE)
    (data / "images" / "notes.txt").write_text("hello")
    found = rules(open_dataset(data))
    assert found["a.png"] == "has the same stem as a.jpg; rename one"
    assert found["b.tif"] == "has the same stem as b.png; rename one"
    assert found["notes.txt"].startswith("is not an image: its suffix is none of .png .jpg")


def test_names_that_are_equal_even_with_their_folders_are_faults(
    save: Save, tmp_path: Path
) -> None:
    for name in ("city/1.png", "town/1.png", "city_1.png"):
        save(f"images/{name}", IMAGE)
        save(f"masks/{name}", IMAGE)
    rule = "gets the name city_1, as another image does; rename one"
    assert rules(open_dataset(tmp_path)) == {"1.png": rule, "city_1.png": rule}


def test_an_image_listed_twice_is_a_fault(save: Save, tmp_path: Path) -> None:
    save("a.png", IMAGE)
    (tmp_path / "pairs.csv").write_text(
        "image;mask;split\na.png;a.png;train\na.png;a.png;val\nb.png;a.png;val\n"
    )
    assert rules(open_dataset(tmp_path / "pairs.csv"))["a.png"] == "is listed 2 times in pairs.csv"


def test_nothing_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"`data` must be a folder with .* none does not exist"):
        open_dataset(Path("none"))
    with pytest.raises(BadDataError, match=r"`data` must be a folder with .* holds no folder"):
        open_dataset(tmp_path)


def test_empty_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(BadDataError, match=r"`data` must hold images \(\.png .*\), got none in"):
        open_dataset(tmp_path)


def test_an_empty_csv_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("image,mask\n")
    with pytest.raises(BadDataError, match=r"`data` must hold images .*, got none in"):
        open_dataset(tmp_path / "pairs.csv")


@pytest.mark.parametrize(
    ("folders", "hint"),
    [
        ("images labels", r"holds images/, labels/; rename labels/ to masks/"),
        ("image mask", r"holds image/, mask/; rename image/ to images/"),
        ("images", "holds images/$"),
        ("train/images", "train holds images/$"),
        ("train/imgs train/masks", "train holds imgs/, masks/; rename imgs/ to images/"),
        ("images masks train", "holds both images/ and train/; remove one"),
    ],
)
def test_nearly_right_layouts_are_refused_with_a_hint(
    tmp_path: Path, folders: str, hint: str
) -> None:
    for folder in folders.split():
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(BadDataError, match=rf"`data` must be a folder with images/.*{hint}"):
        open_dataset(tmp_path)


def test_a_split_under_two_names_is_refused(pairs: Pairs, tmp_path: Path) -> None:
    pairs("a", below="data/val")
    pairs("b", below="data/valid")
    with pytest.raises(BadDataError, match="one folder a split, got val and valid in"):
        open_dataset(tmp_path / "data")


def test_one_image_is_not_enough_to_train(pairs: Pairs) -> None:
    with pytest.raises(BadDataError, match=r"at least 2 images, .* got 1 \(.*a\.png\); cut it in"):
        open_dataset(pairs("a"))


def test_one_image_to_train_and_one_to_validate_are_enough(pairs: Pairs, tmp_path: Path) -> None:
    pairs("a", below="data/train")
    pairs("b", below="data/val")
    assert names(open_dataset(tmp_path / "data")) == {"train": ["a"], "val": ["b"]}


def test_training_needs_images_to_train_on(pairs: Pairs, tmp_path: Path) -> None:
    pairs("a b", below="data/test")
    with pytest.raises(BadDataError, match="must have images to train on, got only test; add"):
        open_dataset(tmp_path / "data")


def test_two_class_tables_are_refused(pairs: Pairs) -> None:
    data = pairs("a b")
    (data / "classes.csv").write_text("name\na\nb\n")
    (data / "classes.yml").write_text("[a, b]")
    with pytest.raises(BadDataError, match=r"got classes\.csv and classes\.yml in .*; remove one"):
        open_dataset(data)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("picture,mask\na,b\n", "must have the columns image and mask, got picture, mask"),
        ("image,mask,split\na,b,dev\n", "line 2: `split` must be train, val or test, got `dev`"),
    ],
)
def test_a_csv_that_says_nothing_sensible_is_refused(tmp_path: Path, text: str, rule: str) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(BadDataError, match=rf"pairs\.csv: {rule}"):
        open_dataset(tmp_path / "pairs.csv")


def test_rows_of_a_csv_without_a_file_are_faults(save: Save, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        save(f"{name}.png", IMAGE)
    (tmp_path / "pairs.csv").write_text("image,mask\na.png,a.png\nb.png,\n,c.png\nc.png,c.png\n")
    dataset = open_dataset(tmp_path / "pairs.csv")
    assert [fault.rule for fault in dataset.faults] == [
        "line 3: `mask` must name a file",
        "line 4: `image` must name a file",
    ]
    assert [sample.name for sample in dataset.samples] == ["a", "c"]


def test_a_csv_that_is_no_text_is_refused(save: Save) -> None:
    with pytest.raises(BadDataError, match=r"a\.png: cannot be read as CSV \('utf-8' codec"):
        open_dataset(save("a.png", IMAGE))


def test_a_folder_without_the_right_to_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(BadDataError, match=r"cannot be read \(Permission denied\)"):
        open_dataset(tmp_path)


def test_arrays_in_one_file_are_called_by_file_and_array(tmp_path: Path) -> None:
    """Names become those of files: no colons and no slashes are in them."""
    (tmp_path / "more").mkdir()
    rows = ["one.h5::s0/raw,m.png", "one.h5::s1/raw,m.png", "more/one.h5::/s0/raw,m.png"]
    rows += ["one.h5::s2,m.png", "two.h5::raw,m.png"]
    (tmp_path / "data.csv").write_text("\n".join(["image,mask", *rows]) + "\n")
    dataset = open_dataset(tmp_path / "data.csv", training=False)
    assert sorted(names(dataset)["test"]) == [
        "more_one_s0_raw", "one_s0_raw", "one_s1_raw", "one_s2", "two",
    ]  # fmt: skip
    assert dataset.faults == ()
