"""`fullconv verify`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from fullconv.cli._settings import read_table
from fullconv.cli._show import output
from fullconv.cli._status import DONE, MENDABLE
from fullconv.errors import BadConfigError

SHAPE = (256, 256)


def verify(
    net: str,
    image: Path | None = None,
    /,
    *,
    shape: Annotated[tuple[int, ...] | None, Parameter(consume_multiple=True)] = None,
    channels: int | None = None,
    classes: int | None = None,
    options: dict[str, str] | None = None,
    seed: int | None = None,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    picture: Path | None = None,
) -> int:
    """Put the geometry of a network to the test: fields, windows and gradients against plain runs.

    Everything runs in 64-bit numbers on one random image. The exit status is 1 if a witness
    disagrees, or the network is refused; the table then says where it first goes wrong.

    With a run and an image, the middle of that image is put through windows of several covers, and
    compared with one run over all of it: `fullconv verify runs/field scan.zarr`.

    Args:
        net: Name of a network, or `package.module:factory`; with an image, the folder of a run.
        image: An image for the network of the run.
        shape: Size of the random image in px, such as `256 256`, which is the default.
        channels: Channels of the random image; 3 by default.
        classes: Channels of the map; 2 by default.
        options: Options of the network, each a flag of its own, such as `--options.width 32`.
        seed: Draws weights, image, windows and units; 0 by default.
        json_file: Write the certificate to this JSON file.
        picture: With a run and an image: draw where windows differ into this PNG file.
    """
    if image is not None:
        drawn = {"shape": shape, "channels": channels, "classes": classes, "seed": seed}
        _refuse_given(drawn | {"options": options or None, "json": json_file})
        return _seams(Path(net), image, picture)
    if picture:
        raise BadConfigError(
            "`--picture` draws where windows of an image differ: give a run and an image"
        )
    _refuse_run(net)
    seed = 0 if seed is None else seed
    channels = 3 if channels is None else channels
    classes = 2 if classes is None else classes
    import torch

    from fullconv.images import check_file
    from fullconv.networks import build
    from fullconv.runs import write_text
    from fullconv.verifying import verify as verify_net

    if json_file:
        check_file(json_file)
    torch.manual_seed(seed)
    network = build(net, classes=classes, channels=channels, **read_table(options)).eval()
    found = verify_net(network, shape=(channels, *(shape or SHAPE)), seed=seed)
    table = Table("witness", "cases", "largest error", "", title=net)
    for finding in found.findings:
        state = "ok" if finding.passed and finding.cases else "-" if finding.passed else "FAILED"
        error = f"{finding.error:.1e}" if finding.cases else "-"
        table.add_row(finding.witness, str(finding.cases), error, state)
    output().print(table)
    for finding in found.findings:
        if finding.detail:
            output().print(f"{finding.witness}: {finding.detail}")
    if json_file:
        write_text(json_file, found.to_json())
    output().print("passed" if found.passed else "FAILED")
    return DONE if found.passed else MENDABLE


def _refuse_given(flags: Mapping[str, object]) -> None:
    """Refuse the flags of certificates beside a run and an image, which have all of that."""
    for name, value in flags.items():
        if value is not None:
            what = (
                "writes the certificate of a network"
                if name == "json"
                else "is for networks by name, on random numbers"
            )
            raise BadConfigError(f"`--{name}` {what}: leave out the image, or the flag")


def _refuse_run(net: str) -> None:
    """Refuse a run without an image."""
    from fullconv.runs import Run

    if Run(Path(net)).network_json.exists():
        raise BadConfigError(
            f"`net` must be the name of a network where no image is given, got the run {net}; give an "
            f"image that it is to be tried on, `fullconv verify {net} IMAGE`"
        )


def _seams(run: Path, image: Path, picture: Path | None) -> int:
    """Print how windows of a real image differ from the whole, and draw it."""
    from fullconv.images import atomic, check_file, open_image
    from fullconv.runs import Run
    from fullconv.verifying import seams

    if picture:
        if picture.suffix.lower() != ".png":
            raise BadConfigError(f"`--picture` draws a PNG file, got {picture}: let it end in .png")
        check_file(picture)
    found = seams(Run.open(run).network(), open_image(image))
    output().print(str(found))
    if picture:
        with atomic(picture) as temporary:
            found.draw(temporary)
        output().print(f"picture: {picture}")
    output().print("passed" if found.passed else "FAILED")
    return DONE if found.passed else MENDABLE
