"""`fullconv verify`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from fullconv.cli._settings import read_table
from fullconv.cli._show import output
from fullconv.cli._status import DONE, MENDABLE
from fullconv.errors import BadConfigError


def verify(
    net: str,
    image: Path | None = None,
    /,
    *,
    shape: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = (256, 256),
    channels: int = 3,
    classes: int = 2,
    options: dict[str, str] | None = None,
    seed: int = 0,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    picture: Path | None = None,
) -> int:
    """Put the geometry of a network to the test: fields, windows and gradients against plain runs.

    Everything runs in 64-bit numbers on one random image. The exit status is 1 if a witness
    disagrees, or the network is refused; the table then says where it first goes wrong.

    With a run and an image, the middle of that image is put through windows of several covers, and
    compared with one run over all of it: `fullconv verify runs/field scan.zarr`.

    Args:
        net: Name of a network, or `package.module:factory`; or the folder of a run.
        image: An image for the network of the run.
        shape: Size of the image in px, such as `256 256`.
        channels: Channels of the image.
        classes: Channels of the map.
        options: Options of the network, each a flag of its own, such as `--options.width 32`.
        seed: Draws weights, image, windows and units.
        json_file: Write the certificate to this JSON file.
        picture: With a run and an image: draw where windows differ into this PNG file.
    """
    if image is not None:
        if json_file:
            raise BadConfigError(
                "`--json` writes the certificate of a network: leave out the image"
            )
        return _seams(Path(net), image, picture)
    if picture:
        raise BadConfigError(
            "`--picture` draws where windows of an image differ: give a run and an image"
        )
    import torch

    from fullconv.images import check_file
    from fullconv.networks import build
    from fullconv.runs import write_text
    from fullconv.verifying import verify as verify_net

    if json_file:
        check_file(json_file)
    torch.manual_seed(seed)
    network = build(net, classes=classes, channels=channels, **read_table(options)).eval()
    found = verify_net(network, shape=(channels, *shape), seed=seed)
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
