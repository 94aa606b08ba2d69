"""Predict an image on disk into a map on disk, window by window.

Neither the image nor the map is ever whole in memory: `fullconv.predict` slices the one and writes
slices of the other. Any array-like with `shape` and slicing will do: a memory map here, Zarr as well.

    python examples/large_image.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

import fullconv as fc

CLASSES, SHAPE = 3, (1500, 1300)


def main(folder: Path) -> None:
    """Write an image, predict it, and check a corner of the map against the network by hand."""
    image = open_memmap(folder / "image.npy", "w+", np.float32, (1, *SHAPE))
    for row in image[0]:
        row[:] = np.random.default_rng(0).random(SHAPE[1], dtype=np.float32)
    found = open_memmap(folder / "map.npy", "w+", np.float32, (CLASSES, *SHAPE))

    net = fc.networks.build("unet", classes=CLASSES, channels=1, width=8, depth=2)
    fc.predict(net, image, memory="40 MB", out=found)

    geometry = fc.trace(net.eval(), channels=1)
    side = geometry.period[0] * 10
    inside = side - geometry.halo[0][1]
    corner = fc.predict(net, np.array(image[:, :side, :side]))
    same = np.allclose(found[:, :inside, :inside], corner[:, :inside, :inside], atol=1e-5)
    print(f"map {found.shape}, first {inside} px as by hand: {same}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
