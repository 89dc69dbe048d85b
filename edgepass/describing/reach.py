"""How far tokens reach: which input tokens change an output token of a part, measured by its derivatives.

A copy of the part in float64, in which no weight is zero, is given noise: for output token i, the input tokens whose
derivative is not exactly zero are those that it is made from. Nothing is read from the part's settings.
Shapes: B batch, N input tokens, M output tokens, D and E channels.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

OUTPUTS = 128
"""Output tokens that are looked at, where there are more: the ends, and others at random."""
DRAWS = 2
"""Points at which derivatives are taken, since one alone may be zero by chance."""
MAP_VALUES = 2**22
"""Most values of an N x N map that are worked on at once, which bounds the memory."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """The most that an output token is made from: how many input tokens, and within what span of them.

    `span` is along each axis of the tokens' grid, and so is `grid`; of a sequence both have one number.
    """

    tokens: int
    span: tuple[int, ...]
    grid: tuple[int, ...]


def measure(part: nn.Module, args: tuple[Any, ...], grid: tuple[int, ...] | None = None) -> Reach:
    """The reach of a part that was called with `args`, of which the first is x_BND. Without `grid` it is a sequence."""
    part = _open(part)
    count = args[0].shape[1]
    grid = grid or (count,)
    felt = torch.zeros(0, count, dtype=torch.bool)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        outputs = part(*_noise(args, 1)).shape[1]
        for asked in _some(outputs).split(max(1, min(64, MAP_VALUES // count**2))):
            draws = [_felt(part, _noise(args, len(asked)), asked) for _ in range(DRAWS)]
            felt = torch.cat([felt, torch.stack(draws).any(dim=0)])
            if felt.all(dim=1).any():  # nothing can be more
                break
    places = [[n.tolist() for n in torch.unravel_index(row.nonzero().flatten(), grid)] for row in felt]
    spans = zip(*([max(n) - min(n) + 1 if n else 0 for n in place] for place in places), strict=True)
    return Reach(tokens=int(felt.sum(dim=1).max()), span=tuple(max(span) for span in spans), grid=grid)


def _felt(part: nn.Module, args: tuple[Any, ...], asked_B: Tensor) -> Tensor:
    """[B, N]: whether input token n changes output token `asked_B[b]`, at a point or at the one across from it."""
    felt_BN = torch.zeros(args[0].shape[:2], dtype=torch.bool)
    for x_BND in (args[0].requires_grad_(), (-args[0]).detach().requires_grad_()):  # a ReLU lets one of them through
        with torch.enable_grad():
            y_BME = part(x_BND, *args[1:])
            y_BE = y_BME[torch.arange(len(asked_B)), asked_B]
            (slope_BND,) = torch.autograd.grad((y_BE * torch.randn_like(y_BE)).sum(), x_BND)
        felt_BN |= (slope_BND != 0).any(dim=2)
    return felt_BN


def _open(part: nn.Module) -> nn.Module:
    """A float64 copy in which no weight is zero, so that no path is closed that training could open."""
    part = copy.deepcopy(part).double().eval().requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for weight in part.parameters():
            weight[weight == 0] = torch.empty_like(weight).uniform_(0.1, 0.5)[weight == 0]
    return part


def _noise(args: tuple[Any, ...], batch: int) -> tuple[Any, ...]:
    """The arguments at another batch: the first as noise, tensors that share its batch as their first row."""
    first, *others = args
    x_BND = torch.randn(batch, *first.shape[1:], dtype=torch.float64)
    return (x_BND, *(_resized(other, len(first), batch) for other in others))


def _resized(value: Any, before: int, batch: int) -> Any:
    if not isinstance(value, Tensor):
        return value
    value = value.double() if value.is_floating_point() else value
    return value[:1].expand(batch, *value.shape[1:]) if value.ndim and len(value) == before else value


def _some(count: int) -> Tensor:
    if count <= OUTPUTS:
        return torch.arange(count)
    return torch.cat([torch.tensor([0, count - 1]), torch.randperm(count - 2)[: OUTPUTS - 2] + 1])
