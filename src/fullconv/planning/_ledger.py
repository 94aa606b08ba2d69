"""A ledger of memory: which tensors are alive after each operator, and what for.

Memory is counted by storage, as the allocator sees it: views take none, and what is shared is counted
once. The clock ticks with every operator; a block lives from the tick that makes it to the last one
before it is given back. It is a dispatch mode, so it sees what autograd really does: what is saved,
what is computed in place, what a checkpoint computes again, what autocast casts.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from fullconv.planning._recurrent import workspace_bytes
from fullconv.planning._scratch import scratch_bytes
from fullconv.tracing import Modules

Phase = Literal["forward", "backward", "update"]
Kind = Literal["parameters", "optimizer", "data", "gradients", "saved", "passing"]
KINDS: tuple[Kind, ...] = ("parameters", "optimizer", "data", "gradients", "saved", "passing")

_NOTHING = {"prim", "profiler"}  # namespaces whose operators touch no memory


@dataclass(slots=True)
class Block:
    """Memory that one tensor, or several, live in.

    Attributes:
        nbytes: Its size.
        born: The tick of the operator that made it; -1 for what was there before.
        kind: What it is for.
        module: Path of the module that made it.
        module_class: Class name of that module.
        died: The last tick at which it was there; None for what is there at the end.
    """

    nbytes: int
    born: int
    kind: Kind
    module: str = ""
    module_class: str = ""
    died: int | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """One operator: its name, when it ran, what it needed.

    Attributes:
        operator: Such as ``aten.convolution``.
        phase: Of the step.
        module: Path of the module that ran it; that of backward is not known.
        scratch: Bytes that it takes while it runs, besides what it returns.
        flops: Multiplications and additions of convolutions and matrix products.
        moved: Bytes that it reads and writes.
    """

    operator: str
    phase: Phase
    module: str
    scratch: int
    flops: int
    moved: int


class Ledger(TorchDispatchMode):
    """Keeps the ledger while it is active.

    Args:
        modules: The modules being run, for the names of those that make tensors.
    """

    def __init__(self, modules: Modules) -> None:
        super().__init__()
        self.phase: Phase = "forward"
        self.ticks: list[Tick] = []
        self.blocks: list[Block] = []
        self._modules = modules
        self._known: dict[int, tuple[Any, Block]] = {}

    def hold(self, tensors: Iterable[Tensor], kind: Kind) -> None:
        """Note tensors that are there already, and what they are for."""
        for tensor in tensors:
            self._note(tensor, kind)

    def call(self, tensors: Iterable[Tensor], kind: Kind) -> None:
        """Say what tensors that have been made are for."""
        for tensor in tensors:
            known = self._known.get(tensor.untyped_storage()._cdata)
            if known is not None:
                known[1].kind = kind

    def antedate(self, tensor: Tensor, kind: Kind) -> None:
        """Say that a tensor was there from the start, whose shape is known only now."""
        self.hold([tensor], kind)
        self.call([tensor], kind)
        self._known[tensor.untyped_storage()._cdata][1].born = -1

    def call_the_living(self, kind: Kind, instead_of: Kind) -> None:
        """Say what all that is there now is for, if it had another purpose so far."""
        for _, block in self._known.values():
            if block.kind == instead_of:
                block.kind = kind

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func.namespace not in _NOTHING:
            self._write(func, args, kwargs, result)
        return result

    def _write(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> None:
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        is_view = _is_view(func, read, made)
        count = flop_registry.get(func.overloadpacket)
        self.ticks.append(
            Tick(
                operator=f"{func.namespace}.{func.overloadpacket.__name__}",
                phase=self.phase,
                module=self._where()[0],
                scratch=0 if is_view else scratch_bytes(func, args, made),
                flops=0 if count is None else int(count(*args, **kwargs, out_val=result)),
                moved=0 if is_view else sum(map(_nbytes, [*read, *made])),
            )
        )
        workspace = workspace_bytes(func, args)
        for tensor in made:
            self._note(tensor, "passing", 0 if tensor.numel() else workspace)

    def _note(self, tensor: Tensor, kind: Kind, hidden: int = 0) -> None:
        """Note a tensor, and the bytes of it that are hidden where it has no numbers."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        module, name = self._where()
        block = Block(storage.nbytes() + hidden, len(self.ticks) - 1, kind, module, name)
        self.blocks.append(block)
        self._known[key] = weakref.ref(storage, lambda _: self._gone(key)), block

    def _gone(self, key: int) -> None:
        known = self._known.pop(key, None)
        if known is not None:
            known[1].died = max(known[1].born, len(self.ticks) - 1)

    def _where(self) -> tuple[str, str]:
        if self.phase != "forward" or not self._modules.stack:
            return "", ""
        return self._modules.stack[-1]


def _is_view(func: Any, read: Sequence[Tensor], made: Sequence[Tensor]) -> bool:
    """Return whether an operator only looks at memory in another way."""
    if func._schema.is_mutable or not made or not read:
        return False
    there = {tensor.untyped_storage()._cdata for tensor in read}
    return all(tensor.untyped_storage()._cdata in there for tensor in made)


def _nbytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """The memory of a run, operator by operator.

    Attributes:
        ticks: The operators, in order.
        blocks: The memory that was there before, or was made.
    """

    ticks: tuple[Tick, ...]
    blocks: tuple[Block, ...]

    def followed_by(self, ticks: Sequence[Tick], blocks: Sequence[Block]) -> Course:
        """Return the memory of a run that goes on with more operators, and what these make."""
        start = len(self.ticks)
        later = (
            replace(b, born=b.born + start, died=None if b.died is None else b.died + start)
            for b in blocks
        )
        return Course((*self.ticks, *ticks), (*self.blocks, *later))

    def holding(self, nbytes: int) -> Course:
        """Return the memory of the same run, where more is held from the start to the end."""
        return Course(self.ticks, (*self.blocks, Block(nbytes, -1, "data")))

    def alive(self, kinds: Iterable[Kind] = KINDS) -> NDArray[np.int64]:
        """Return the bytes of these kinds that are there after each operator."""
        change = np.zeros(len(self.ticks) + 1, np.int64)
        wanted = set(kinds)
        for block in self.blocks:
            if block.kind in wanted:
                change[max(block.born, 0)] += block.nbytes
                if block.died is not None:
                    change[max(block.died, 0) + 1] -= block.nbytes
        return change.cumsum()[: len(self.ticks)]

    def scratch(self) -> NDArray[np.int64]:
        """Return the bytes that each operator takes while it runs, besides what it returns."""
        return np.array([tick.scratch for tick in self.ticks], np.int64)

    def total(self) -> NDArray[np.int64]:
        """Return the bytes that are taken while each operator runs."""
        return self.alive() + self.scratch()

    @property
    def peak_bytes(self) -> int:
        """The most bytes that are taken at once."""
        return int(self.total().max(initial=0))

    @property
    def standing_bytes(self) -> int:
        """Bytes of weights and of the optimiser's state, which are there all the time."""
        return sum(b.nbytes for b in self.blocks if b.kind in ("parameters", "optimizer"))

    @property
    def peak_tick(self) -> int:
        """Which operator is running then."""
        return int(self.total().argmax()) if self.ticks else 0
