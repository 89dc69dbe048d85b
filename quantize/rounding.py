"""GPTQ: round the weights of linear layers so that their errors cancel on real inputs.

    nearest   each weight to its nearest step; the errors add up where neighbouring inputs rise and fall together
    gptq      column by column, what rounding one column did wrong is made good in the columns still to come

Frantar, Ashkboos, Hoefler, Alistarh 2022, arXiv:2210.17323, algorithm 1, with whole rows as groups. The weights stay
float tensors that happen to lie on the int8 grid, so every target that rounds to nearest afterwards keeps them.

Letters: R rows (outputs), C columns (inputs), S samples.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from edgepass.quantize.pt2e import module_path
from edgepass.quantize.recipe import Recipe

LEVELS = 127
"""Largest magnitude of a symmetric int8 weight."""
DAMPING = 0.01
"""Added to the diagonal of the inputs' second moments, as a share of its mean; the paper's choice."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A linear weight, and the second moments x'x of its inputs."""

    weight_RC: Tensor
    moment_CC: Tensor


def seen(module: GraphModule, recipe: Recipe, samples: Iterable[tuple[Tensor, ...]]) -> dict[str, Seen]:
    """The linear weights that the recipe quantises, by their names, with what their inputs are in `samples`."""
    linears = [
        node
        for node in module.graph.nodes
        if node.target == torch.ops.aten.linear.default
        and isinstance(node.args[1], Node)
        and node.args[1].op == "get_attr"
        and not recipe.keeps(module_path(node))
    ]
    moments = _Moments(module, linears)
    with torch.no_grad():
        for arguments in samples:
            moments.run(*arguments)
    return {
        name: Seen(weight_RC=attrgetter(name)(module).detach(), moment_CC=moment_CC)
        for name, moment_CC in moments.of_weight.items()
    }


def round_weights(module: GraphModule, own: Mapping[str, Seen], kin: Sequence[Mapping[str, Seen]]) -> None:
    """Put the weights of `own` onto their int8 grid, by their inputs in all of `kin`, its own among them.

    What two methods of a model read is rounded to the inputs of both, so that it is one weight still, held once.
    """
    with torch.no_grad():
        for name, mine in own.items():
            same = [s[name] for s in kin if name in s and torch.equal(s[name].weight_RC, mine.weight_RC)]
            moment_CC = torch.stack([found.moment_CC for found in same]).sum(0)
            owner_name, _, leaf = name.rpartition(".")
            rounded = gptq(mine.weight_RC, moment_CC)
            setattr(module.get_submodule(owner_name), leaf, torch.nn.Parameter(rounded, requires_grad=False))


def gptq(weight_RC: Tensor, moment_CC: Tensor) -> Tensor:
    """`weight_RC` on the grid of max|row| / 127, given the inputs' second moments x'x."""
    w_RC = weight_RC.double()
    largest_R = w_RC.abs().amax(1)
    step_R = largest_R.clamp(min=torch.finfo(weight_RC.dtype).tiny) / LEVELS
    h_CC = moment_CC.double()
    h_CC = h_CC + torch.eye(len(h_CC), dtype=h_CC.dtype) * (DAMPING * h_CC.diagonal().mean() + 1e-12)
    upper_CC = torch.linalg.cholesky(torch.linalg.inv(h_CC), upper=True)
    original_RC, w_RC = w_RC, w_RC.clone()
    for c in range(w_RC.shape[1]):
        column_R = w_RC[:, c].clone()
        level_R = (column_R / step_R).round().clamp(-LEVELS, LEVELS)
        # The largest weight of a row defines its step: moved, it would move the grid for all.
        fixed_R = original_RC[:, c].abs() == largest_R
        level_R = torch.where(fixed_R, original_RC[:, c].sign() * LEVELS, level_R)
        w_RC[:, c] = level_R * step_R
        error_R = (column_R - w_RC[:, c]) / upper_CC[c, c]
        w_RC[:, c + 1 :] -= error_R[:, None] * upper_CC[c, c + 1 :]
    return w_RC.to(weight_RC.dtype)


class _Moments(Interpreter):
    """Runs the graph and sums x'x of the inputs of each linear weight."""

    def __init__(self, module: GraphModule, linears: Sequence[Node]) -> None:
        super().__init__(module)
        self.linears = set(linears)
        self.of_weight: dict[str, Tensor] = {}

    def run_node(self, n: Node) -> Any:
        if n in self.linears:
            source, weight = n.args[:2]
            assert isinstance(source, Node)
            assert isinstance(weight, Node)
            x_SC = self.env[source].detach()
            x_SC = x_SC.reshape(-1, x_SC.shape[-1]).double()
            name = str(weight.target)
            self.of_weight[name] = self.of_weight.get(name, 0) + x_SC.T @ x_SC
        return super().run_node(n)
