"""Class tables: what files may say, and what they may not."""

from pathlib import Path

import pytest

from fullconv.errors import BadDataError
from fullconv.images import ClassTable
from fullconv.images._classes import default_colour


def table(tmp_path: Path, text: str, name: str = "classes.csv") -> ClassTable:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return ClassTable.read(path)


ROAD_SKY = ClassTable(names=("road", "sky"), colours=((128, 64, 128), (70, 130, 180)))
YAML_ROWS = """
classes:
  - {name: road, colour: '#804080'}
  - {name: sky, color: [70, 130, 180]}
"""


@pytest.mark.parametrize(
    "text",
    [
        "index,name,r,g,b\n0,road,128,64,128\n1,sky,70,130,180\n",
        "Name,Index,Colour\nsky,1,#4682b4\nroad,0,#804080\n",
        "name,color\nroad,128;64;128\nsky,70 130 180\n",
        "id;name;red;green;blue\n0;road;128;64;128\n1;sky;70;130;180\n",
        "\ufeffindex\tname\tr\tg\tb\r\n0\troad\t128\t64\t128\r\n1\tsky\t70\t130\t180\r\n",
    ],
)
def test_csv_columns_may_be_written_in_many_ways(tmp_path: Path, text: str) -> None:
    assert table(tmp_path, text) == ROAD_SKY


def test_yaml_rows(tmp_path: Path) -> None:
    assert table(tmp_path, YAML_ROWS, "classes.yaml") == ROAD_SKY


def test_a_name_that_yaml_takes_for_a_truth_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"`name` of a class must be text, got .* False; put it"):
        table(tmp_path, "[no, yes]", "classes.yaml")


@pytest.mark.parametrize("text", ["[road, sky]", "{1: sky, 0: road}", "classes: [road, sky]"])
def test_yaml_names_alone(tmp_path: Path, text: str) -> None:
    read = table(tmp_path, text, "classes.yaml")
    assert read.names == ("road", "sky")
    assert read.indices == (0, 1)


@pytest.mark.parametrize("name", ["void", "Ignore", "ignored", "unlabeled", "UNLABELLED"])
def test_a_row_named_void_is_ignored(tmp_path: Path, name: str) -> None:
    read = table(tmp_path, f"index,name,colour\n0,road,#010203\n1,sky,\n2,{name},#ffffff\n")
    assert read.names == ("road", "sky")
    assert read.ignored == (2,)
    assert read.ignored_colours == ((255, 255, 255),)
    assert read.position_of()[2] == 255


def test_an_ignore_column_decides_alone(tmp_path: Path) -> None:
    read = table(tmp_path, "name,ignore\nvoid,no\nroad,\nsky,no\nsmudge,yes\n")
    assert read.names == ("void", "road", "sky")
    assert read.ignored == (3,)


def test_indices_may_have_gaps_and_include_255(tmp_path: Path) -> None:
    read = table(tmp_path, "index,name\n255,cell\n0,background\n7,edge\n")
    assert read.indices == (0, 7, 255)
    assert read.position_of() == {0: 0, 7: 1, 255: 2, 65535: 255}
    assert read.ignore == 255


def test_missing_colours_are_chosen_and_differ(tmp_path: Path) -> None:
    read = table(tmp_path, "name,colour\na,#000000\nb,\nc,#800000\nd,\n")
    assert len(set(read.colours)) == 4
    assert read.colours[0] == (0, 0, 0)
    assert read.colours[2] == (128, 0, 0)


def test_more_than_255_classes_need_16_bits() -> None:
    assert ClassTable.default(255).ignore == 255
    assert ClassTable.default(255).dtype == "uint8"
    assert ClassTable.default(256).ignore == 65535
    assert ClassTable.default(256).dtype == "uint16"


def test_default_colours_are_those_of_pascal_voc() -> None:
    # from the devkit's VOCcolormap: aeroplane, bicycle, …, tv/monitor, and the border of 255
    expected = {1: (128, 0, 0), 2: (0, 128, 0), 7: (128, 128, 128), 20: (0, 64, 128)}
    assert {i: default_colour(i) for i in expected} == expected
    assert default_colour(255) == (224, 224, 192)
    assert len({default_colour(i) for i in range(5000)}) == 5000


def test_a_table_survives_a_dictionary(tmp_path: Path) -> None:
    read = table(tmp_path, "index,name,colour\n0,a,#000001\n9,b,#000002\n3,void,#ffffff\n")
    assert ClassTable.from_dict(read.to_dict()) == read


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "must have a column `name` or `index`|at least 2 classes"),
        ("r,g,b\n1,2,3\n4,5,6\n", "must have a column `name` or `index`"),
        ("name,weight\na,1\nb,2\n", "columns of a class table must be among .* got `weight`"),
        ("name\na\n", "at least 2 classes that are not ignored, got 1"),
        ("name\na\nvoid\n", "at least 2 classes that are not ignored, got 1"),
        ("name,index\na,0\nb,0\n", "`index` must differ between classes, got 0 2 times"),
        ("name,index\na,0\na,1\n", "`name` must differ between classes, got a 2 times"),
        ("name,colour\na,#010203\nb,1;2;3\n", r"`colour` must differ .* got \(1, 2, 3\) 2 times"),
        ("name,index\na,-1\nb,1\n", "`index` must be a whole number from 0 to 65535, got `-1`"),
        ("name,index\na,70000\nb,1\n", "`index` must be .* 0 to 65535, got `70000`"),
        ("name,r,g,b\na,1,2,256\nb,1,1,1\n", "`colour` must be .* 0 to 255, got `256`"),
        ("name,colour\na,#12345\nb,\n", "`colour` must be #rrggbb or r;g;b, got `#12345`"),
        ("name,ignore\na,maybe\nb,no\n", "`ignore` of class `a` must be yes or no, got `maybe`"),
    ],
)
def test_tables_that_say_nothing_sensible_are_refused(tmp_path: Path, text: str, rule: str) -> None:
    with pytest.raises(BadDataError, match=rf"classes\.csv: .*({rule})"):
        table(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("just text", "a class table must be a list of classes or a mapping"),
        ("[a, b", "while parsing"),
    ],
)
def test_yaml_that_is_no_table_is_refused(tmp_path: Path, text: str, rule: str) -> None:
    with pytest.raises(BadDataError, match=rf"classes\.yaml: {rule}"):
        table(tmp_path, text, "classes.yaml")


def test_a_table_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(BadDataError, match=r"classes\.csv: 'utf-8' codec"):
        ClassTable.read(tmp_path / "classes.csv")


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="could not determine a constructor"):
        table(tmp_path, "!!python/object/apply:os.getcwd []", "classes.yaml")


def test_fields_of_different_length_are_refused() -> None:
    with pytest.raises(BadDataError, match="must be equally many, got 2, 1 and 2"):
        ClassTable(names=("a", "b"), colours=((0, 0, 0),))


def test_the_ignored_number_must_not_be_a_class() -> None:
    names = tuple(str(i) for i in range(256))
    with pytest.raises(
        BadDataError, match=r"`ignore` must be above .* got 255 with 256 classes; use 65535"
    ):
        ClassTable(names=names, colours=tuple((i, 0, 0) for i in range(256)))
