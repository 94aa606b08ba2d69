"""What PyTorch's allocator really hands out, as its profiler sees it: it knows of no ledger."""

import torch
from torch import Tensor, nn, optim
from torch.optim import SGD, Optimizer
from torch.profiler import ProfilerActivity, profile


def bytes_of(*tensors: Tensor) -> int:
    return sum(storage.nbytes() for storage in {t.untyped_storage() for t in tensors})


def allocated(run: object) -> int:
    """The most bytes that are allocated at once while `run` runs, beyond those before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        run()  # type: ignore[operator]
    events = found.profiler.kineto_results.events()  # pyright: ignore[reportOptionalMemberAccess]
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    now = peak = 0
    for _, change in changes:
        now += change
        peak = max(peak, now)
    return peak


class Steps:
    """Training steps on real tensors."""

    def __init__(
        self,
        net: nn.Module,
        shape: tuple[int, ...],
        *,
        optimizer: str = "AdamW",
        half: bool = False,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self.net, self.half, self.layout = net, half, layout
        self.image = torch.rand(shape)
        with torch.no_grad():
            logits = net(self.image)
        self.labels = torch.zeros((len(logits), *logits.shape[2:]), dtype=torch.long)
        trained = [p for p in net.parameters() if p.requires_grad]
        self.optimizer: Optimizer = (
            SGD(trained, lr=0.1, momentum=0.9)
            if optimizer == "sgd"
            else getattr(optim, optimizer)(trained)
        )

    def step(self) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            logits = self.net(self.image.contiguous(memory_format=self.layout))
            loss = nn.functional.cross_entropy(logits.float(), self.labels)
            del logits
        loss.backward()
        self.optimizer.step()

    def peak(self) -> int:
        """The most bytes of a step that is not the first, with all that it stands on."""
        self.step()
        self.optimizer.zero_grad()
        state = [v for each in self.optimizer.state.values() for v in each.values()]
        there = [v for v in state if isinstance(v, Tensor)]
        held = bytes_of(*self.net.parameters(), *self.net.buffers(), *there)
        return held + bytes_of(self.image, self.labels) + allocated(self.step)
