"""`fullconv plan`."""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from fullconv.cli._settings import read_table
from fullconv.cli._show import output
from fullconv.training import TrainConfig


def plan(
    data: Path,
    /,
    *,
    net: str = "unet",
    options: dict[str, str] | None = None,
    batch: int = 1,
    memory: str | None = None,
    precision: str = "32",
    optimizer: str = "adamw",
    sampling: str = TrainConfig.sampling,
    measure: bool = True,
    json: Path | None = None,
) -> None:
    """Say what training on your images takes and costs, before anything runs, and what to choose.

    The largest image of the data set is planned for, or the sub-images that are cut out of it. Steps are rehearsed on tensors without numbers;
    two small ones are then made, to see what this machine takes.

    Args:
        data: As for `fullconv train`.
        net: Name of a network, or `package.module:factory`.
        options: Options of the network, each a flag of its own, such as `--options.width 32`.
        batch: Images of a step.
        memory: What training may add to the program, such as `8GiB` or `80%` of what is free. If not
            given, what is free but a margin.
        precision: `32` or `bf16`.
        optimizer: Name of one of PyTorch's, such as `adamw`, `rmsprop` or `sgd` (with momentum).
        sampling: Which units count in a step, as for `fullconv train`. With `auto`, the plan is that of
            whole images, and what else a run may begin with is named.
        measure: Make two small steps in a process of their own, some seconds in all; where they can be.
        json: Write the plan into this file, too.
    """
    from fullconv.images import check_file, open_dataset, survey
    from fullconv.networks import build
    from fullconv.planning import plan as plan_net
    from fullconv.runs import write_text

    # Also loads what `fullconv train` does, which so counts as taken where what is free is looked up.
    from fullconv.training import asked, counting, resolve

    if json:
        check_file(json)
    table = read_table(options)
    settings = resolve(
        {"data": data, "net": net, "options": table, "batch": batch, "sampling": sampling}
    )
    dataset = open_dataset(data)
    with counting(Console(stderr=True), "reading") as progress:
        facts = survey(dataset, progress=progress)
    network = build(net, classes=facts.classes.num_classes, channels=facts.channels, **table)
    steps = asked(settings, dataset, facts, network)
    found = plan_net(
        network,
        steps.shape,
        batch=steps.batch,
        memory=memory,
        images=steps.images,
        sampler=steps.sampler,
        precision=precision,  # pyright: ignore[reportArgumentType] (checked there)
        optimizer=optimizer,  # pyright: ignore[reportArgumentType] (checked there)
        measure=measure,
    )
    output().print(Text(str(found)), soft_wrap=True)
    if steps.words:
        output().print(steps.words)
    if json:
        write_text(json, found.to_json())
