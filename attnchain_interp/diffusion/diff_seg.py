"""Segments of an image: tokens whose attention is alike, found by merging around anchors (DiffSeg)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from attnchain_interp.chain.chain import Chain, as_chain
from attnchain_interp.errors import AttentionError


@torch.no_grad()
def diff_seg(P: Tensor | Chain, anchors: Sequence[int] | Tensor, threshold: float = 1.1, rounds: int = 3) -> Tensor:
    """The segment (…, token) of every token, numbered from 0: −1 for tokens that are no states.

    Rows of the chain are compared by (KL(p‖q) + KL(q‖p)) / 2. In the first round each anchor's proposal is the mean of all
    rows closer to the anchor's than the threshold. In later rounds proposals merge: the first takes the mean of all those
    closer to it than the threshold, then the first of what is left, and so on. In the end a token belongs to the proposal that
    is most likely to lead to it; numbers that no token has are closed up.

    Args:
        P: transitions (…, token, token), as of the mean self-attention of a diffusion model.
        anchors: positions (anchor,): those of a uniform grid, as published (`uniform_anchors`), or the tokens of the
            highest `stationary` probability (`ranked_anchors`); or (…, anchor), for each chain its own.
        threshold: above which rows are different; 1.1 as published for COCO-Stuff.
        rounds: of merging, the first included; 3 as published.

    Raises:
        AttentionError: anchors that are no states, a threshold or rounds that are not positive.

    Source: Tian, Aggarwal, Colaco, Kira & Gonzalez-Franco, *Diffuse, Attend, and Segment*, CVPR 2024; anchors by TokenRank:
    Erel et al., *Attention (as Discrete-Time Markov) Chains*, NeurIPS 2025.

    >>> P = torch.tensor([[0.6, 0.4, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    >>> diff_seg(P, anchors=[0, 2])
    tensor([0, 0, 1])
    """
    chain = as_chain(P)
    if not threshold > 0 or isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise AttentionError(f"threshold={threshold}, rounds={rounds}; both must be positive: 1.1, 3.")
    chosen = torch.as_tensor(anchors, device=chain.states.device)
    if chosen.is_floating_point() or not chosen.numel() or chosen.min() < 0 or chosen.max() >= len(chain):
        raise AttentionError(f"anchors={anchors!r}; give positions of tokens, from 0 to {len(chain) - 1}.")
    states = chain.states.reshape(-1, len(chain))
    chosen = chosen.expand(*chain.states.shape[:-1], -1).reshape(len(states), -1)
    if not bool(states.gather(1, chosen).all()):
        raise AttentionError("an anchor is no state of the chain (padding, or a token that was not chosen); leave it out.")
    matrices = chain.matrix.reshape(-1, len(chain), len(chain))
    found = [
        _segments(matrix[inside][:, inside], (inside.cumsum(0) - 1)[own], threshold, rounds)
        for matrix, inside, own in zip(matrices, states, chosen, strict=True)
    ]
    labels = torch.full_like(states, -1, dtype=torch.long)
    for row, inside, segments in zip(labels, states, found, strict=True):
        row[inside] = segments
    return labels.reshape(chain.states.shape)


def uniform_anchors(grid: tuple[int, int], side: int) -> list[int]:
    """The patches at the centres of side × side equal parts of a grid (rows, columns), by their number in the grid.

    Raises:
        AttentionError: a side of less than 1, or more than the grid has.

    >>> uniform_anchors((4, 4), 2)
    [5, 7, 13, 15]
    """
    if not 1 <= side <= min(grid):
        raise AttentionError(f"side is {side}; on a grid of {grid[0]} × {grid[1]} it is from 1 to {min(grid)}.")
    rows, columns = ([(2 * k + 1) * length // (2 * side) for k in range(side)] for length in grid)
    return [row * grid[1] + column for row in rows for column in columns]


def ranked_anchors(scores: Tensor, count: int) -> Tensor:
    """The positions (…, count) of the highest scores (…, token), as of `stationary`: the anchors by TokenRank.

    Raises:
        AttentionError: a count of less than 1, or more than there are tokens.
    """
    if not 1 <= count <= scores.shape[-1]:
        raise AttentionError(f"count is {count}; of {scores.shape[-1]} tokens it is from 1 to as many.")
    return scores.argsort(dim=-1, descending=True, stable=True)[..., :count]


def _segments(rows: Tensor, anchors: Tensor, threshold: float, rounds: int) -> Tensor:
    near = (_divergences(rows[anchors], rows) < threshold).to(rows.dtype)
    proposals = near @ rows / near.sum(1, keepdim=True)
    for _ in range(rounds - 1):
        proposals = _merged(proposals, threshold)
    segments = proposals.argmax(0)
    return segments.unique(return_inverse=True)[1]


def _merged(proposals: Tensor, threshold: float) -> Tensor:
    merged = []
    while len(proposals):
        near = _divergences(proposals[:1], proposals)[0] < threshold
        merged.append(proposals[near].mean(0))
        proposals = proposals[~near]
    return torch.stack(merged)


def _divergences(some: Tensor, others: Tensor) -> Tensor:
    """(KL(p‖q) + KL(q‖p)) / 2 of every pair (some, others); zeros count as the least positive number of their type."""
    least = torch.finfo(some.dtype).tiny
    p, q = some.clamp_min(least).log(), others.clamp_min(least).log()
    own, other = (some * p).sum(-1)[:, None], (others * q).sum(-1)
    return ((own - some @ q.mT) + (other - p @ others.mT)) / 2
