"""What the examples share: a training loop and samples as an export takes them.

Shapes: B batch, S samples, K classes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def fit(
    make: Callable[[], nn.Module],
    inputs: Sequence[Tensor],
    label_S: Tensor,
    *,
    epochs: int,
    rate: float,
    batch: int = 64,
) -> nn.Module:
    """A model that `make` gives, trained to tell the labels of `inputs`, each [S, ...]; the same at every call.

    AdamW, a learning rate that rises for a tenth of the steps and then falls to 0, and gradients of norm 1 at most.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
        steps = epochs * -(-len(label_S) // batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
        for _ in range(epochs):
            for row_B in torch.randperm(len(label_S)).split(batch):
                loss = functional.cross_entropy(model(*(x[row_B] for x in inputs)), label_S[row_B])
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
    return model.eval()


def pairs(inputs: Sequence[Tensor], label_S: Tensor) -> list[tuple[tuple[Tensor, ...], Tensor]]:
    """Arguments of batch 1, and the label, for each sample."""
    return [(tuple(x[i : i + 1] for x in inputs), label) for i, label in enumerate(label_S)]
