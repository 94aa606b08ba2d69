"""Reading and writing images, masks and data sets.

Images are (channels, height, width), masks (height, width) class positions.
"""

from fullconv.images._atomic import atomic, check_file, check_folder
from fullconv.images._class_index import ClassIndex, class_index
from fullconv.images._classes import ClassTable
from fullconv.images._dataset import Dataset, open_dataset
from fullconv.images._display import overlay, to_rgb8
from fullconv.images._files import SUFFIXES, image_files, names_of, read_image, stem
from fullconv.images._lazy import goes_by_pieces, open_image, open_mask, reads_boxes
from fullconv.images._masks import read_mask
from fullconv.images._repeats import repeated
from fullconv.images._sample import Sample
from fullconv.images._survey import Survey, survey
from fullconv.images._write import (
    codes_of_positions,
    colormap,
    palette,
    write_labels,
    write_overlay,
    write_probabilities,
)

__all__ = [
    "SUFFIXES",
    "ClassIndex",
    "ClassTable",
    "Dataset",
    "Sample",
    "Survey",
    "atomic",
    "check_file",
    "check_folder",
    "class_index",
    "codes_of_positions",
    "colormap",
    "goes_by_pieces",
    "image_files",
    "names_of",
    "open_dataset",
    "open_image",
    "open_mask",
    "overlay",
    "palette",
    "read_image",
    "read_mask",
    "reads_boxes",
    "repeated",
    "stem",
    "survey",
    "to_rgb8",
    "write_labels",
    "write_overlay",
    "write_probabilities",
]
