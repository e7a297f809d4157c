"""A model whose evidence is known: the logit is linear in the patches, and eight of sixteen patches hold all of it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from attnchain_evals.metrics import Trial

WEIGHTS = torch.zeros(4, 4)
WEIGHTS[0, ::2], WEIGHTS[1, 1::2], WEIGHTS[2, ::2], WEIGHTS[3, 1::2] = (
    torch.tensor(pair) / 36 for pair in ([3.0, 8.0], [1.0, 6.0], [5.0, 2.0], [7.0, 4.0])
)


class Planted(nn.Module):
    """logits [0, 8 (Σ w_p x_p − 0.4)], x_p the mean of a patch (4 × 4, of 4 × 4 pixels). A token holds 8 w_p x_p."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, 1, 4, 4, bias=False)
        nn.init.constant_(self.patches.weight, 1 / (16 * channels))
        self.patch_drop = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        values = (8 * WEIGHTS.to(images) * self.patches(images)[:, 0]).flatten(1)
        tokens = self.patch_drop(torch.cat([values.new_full((len(values), 1), -3.2), values], 1)[:, :, None])
        return torch.stack([torch.zeros_like(tokens[:, 0, 0]), tokens.sum((1, 2))], 1)


def lit(batch: int = 2, channels: int = 3) -> Tensor:
    """Images that are 1 where there is evidence and 0 elsewhere."""
    return upscaled((WEIGHTS > 0).float().expand(batch, -1, -1))[:, None].repeat(1, channels, 1, 1)


def upscaled(grid: Tensor) -> Tensor:
    return grid.repeat_interleave(4, -1).repeat_interleave(4, -2)


def trial(batch: int = 2, first: int = 0) -> Trial:
    images = lit(batch)
    return Trial(Planted().eval(), images, torch.ones(batch, dtype=torch.long), images[:, 0] > 0.5, first)


def probability(logit: np.ndarray | float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(logit)))


def logit_without(removed: np.ndarray, left: float = 0.5) -> float:
    """Of the planted images, all evidence 1 and the rest 0; a removed patch keeps the share `left` (mean colour: 1/2)."""
    weights = WEIGHTS.double().numpy().ravel()
    return 8 * float((weights * np.where(removed, left, 1)).sum()) - 3.2


def order_of(row: Tensor) -> list[int]:
    return np.argsort(-row.double().numpy().ravel(), kind="stable").tolist()


def removals(order: list[int], counts: list[int]) -> np.ndarray:
    return np.array([[place in order[:count] for place in range(16)] for count in counts])


def curve_by_hand(row: Tensor, counts: list[int]) -> np.ndarray:
    return probability(np.array([logit_without(removed) for removed in removals(order_of(row), counts)]))
