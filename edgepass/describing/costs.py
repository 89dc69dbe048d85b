"""What one call of a model costs, part by part: multiply-accumulates, and bytes of tensors that are alive at once.

Counted while eager torch runs it, with attention written out as two products around a softmax, as files hold it. A
multiply-accumulate is one term of a matrix product or a convolution; what works element by element has none.
"""

import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

VECTORS: dict[Any, Callable[..., int]] = {
    torch.ops.aten.mv: lambda matrix, vector: matrix.numel(),
    torch.ops.aten.addmv: lambda bias, matrix, vector, **_: matrix.numel(),
    torch.ops.aten.dot: lambda a, b: a.numel(),
}
"""Products that torch's own table of FLOPs leaves out, in multiply-accumulates."""


@dataclass
class Cost:
    """Multiply-accumulates, those of them in full-length attention, and bytes alive: now, and at once at most."""

    macs: int = 0
    full: int = 0
    live: int = 0
    peak: int = 0

    def count(self, macs: int, full: int) -> None:
        """A product was worked out."""
        self.macs += macs
        self.full += full

    def hold(self, size: int) -> None:
        """A tensor of `size` bytes came, or went if negative."""
        self.live += size
        self.peak = max(self.peak, self.live)


@dataclass
class Call:
    """One call of a part: what the part does itself, and that with what the parts do that it calls."""

    own: Cost = field(default_factory=Cost)
    whole: Cost = field(default_factory=Cost)
    tokens: int | None = None
    """N of the stack that the call is in."""


class Meter(TorchDispatchMode):
    """Charges each operation to the parts whose calls are open, of which `calls[0]` is the whole model."""

    def __init__(self, inputs: tuple[Tensor, ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        self.calls = [Call()]
        self._known = {_storage(x) for x in inputs}
        self._from_input = set(self._known)
        self._maps: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and count it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given, made = _tensors((args, kwargs)), _tensors(out)
        sources = {_storage(x) for x in given}
        for tensor in made:
            if (key := _storage(tensor)) not in sources | self._known:
                self._hold(tensor, key)
        if sources & self._from_input:
            self._from_input |= {_storage(x) for x in made}
        if not self._count(func.overloadpacket, args, kwargs, given, made) and sources & self._maps:
            self._maps |= {_storage(x) for x in made if self._all_by_all(x)}
        return out

    def _hold(self, tensor: Tensor, key: int) -> None:
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        holders = [self.calls[-1].own, *(call.whole for call in self.calls)]
        self._known.add(key)

        def free() -> None:
            self._known.discard(key)
            self._from_input.discard(key)
            self._maps.discard(key)
            for holder in holders:
                holder.hold(-size)

        for holder in holders:
            holder.hold(size)
        weakref.finalize(storage, free)

    def _count(self, packet: Any, args: Any, kwargs: Any, given: list[Tensor], made: list[Tensor]) -> bool:
        """Whether the operation is a product."""
        if packet in VECTORS:
            macs = VECTORS[packet](*args, **kwargs)
        elif packet in flop_registry:
            macs = flop_registry[packet](*args, **kwargs, out_val=made[0]) // 2
        else:
            return False
        full = macs if self._maps_all(given[-2:], made[0]) else 0
        for holder in (self.calls[-1].own, *(call.whole for call in self.calls)):
            holder.count(macs, full)
        return True

    def _maps_all(self, factors: list[Tensor], product: Tensor) -> bool:
        """Whether the product makes or applies a map between all N tokens.

        It makes one when neither factor is a constant, and N rows come out, for each head that shares the keys, of N
        columns. What is worked out from a map without a product is a map still.
        """
        if any(_storage(x) in self._maps for x in factors):
            return True
        made = self._all_by_all(product) and all(_storage(x) in self._from_input for x in factors)
        if made:
            self._maps.add(_storage(product))
        return made

    def _all_by_all(self, tensor: Tensor) -> bool:
        tokens = self.calls[-1].tokens
        return (
            tokens is not None
            and tokens > 1
            and tensor.ndim > 1
            and tensor.shape[-1] == tokens
            and tensor.shape[-2] % tokens == 0
        )


@contextmanager
def written_out() -> Iterator[None]:
    """Let torch take no fused kernel, whose products could not be counted."""
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        stack.callback(torch.backends.mkldnn.set_flags, torch.backends.mkldnn.set_flags(False)[0])
        yield


def run(
    model: nn.Module, args: tuple[Tensor, ...], parts: Collection[nn.Module], stacks: Collection[nn.Module]
) -> tuple[dict[nn.Module, list[Call]], Call]:
    """Call the model: the cost of every call of each part, and of the whole model.

    `stacks` are the parts whose first argument x_BND says what full-length is for all that they call.
    """
    meter = Meter(args)
    calls: dict[nn.Module, list[Call]] = {part: [] for part in parts}

    def before(part: nn.Module, given: tuple[Any, ...]) -> None:
        tokens = meter.calls[-1].tokens
        call = Call(tokens=given[0].shape[1] if tokens is None and part in stacks else tokens)
        calls[part].append(call)
        meter.calls.append(call)

    def after(*_: Any) -> None:
        meter.calls.pop()

    hooks = [hook for p in parts for hook in (p.register_forward_pre_hook(before), p.register_forward_hook(after))]
    try:
        with written_out(), meter:
            model(*args)
    finally:
        for hook in hooks:
            hook.remove()
    return calls, meter.calls[0]


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    key: int = tensor.untyped_storage()._cdata
    return key
