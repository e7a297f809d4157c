"""DiffSeg: self-attention of several resolutions as one chain, and segments of tokens with similar attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_interp.chain import Chain, as_chain
from attnchain_interp.checks import WHOLE, as_number, check_tensor, check_type, check_whole_number
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import full_precision
from attnchain_interp.store import AttentionStore, Grid, LayerAttention
from attnchain_interp.store.layers import check_store
from attnchain_interp.store.layout_checks import checked_pair

_TIE: Final = 1e-6  # of the greatest share of a token, within which another proposal has the same


def aggregated_attention(stores: Sequence[AttentionStore]) -> AttentionStore:
    """Returns one layer with one head on the finest grid of the stores: the mean of their maps, weighted by grid side.

    The attention of a coarse patch is spread over the finer patches that it covers: as a key bilinearly, as a query by the
    same row for each of them. Rows sum to one.

    Args:
        stores: self-attention alone, one store for each resolution of a sampling (`capture_pipeline`). The sides of the finest
            grid are multiples of the sides of the others. Layers and heads are averaged.

    Raises:
        AttentionError: no stores, tokens that are not patches of an image, grids that do not fit into one another, or
            batches of different sizes.

    Source: Tian et al., *Diffuse, Attend, and Segment*, CVPR 2024, section 3.
    """
    check_type("stores", stores, Sequence, "Pass a list of stores.")
    for store in stores:
        check_store(store)
    if not stores:
        raise AttentionError("stores is empty.", "Give one store of self-attention for each resolution.")
    grids = [_grid(store) for store in stores]
    batches = [store.tokens.batch for store in stores]
    if len(set(batches)) > 1:
        raise AttentionError(f"the stores hold batches of {batches} images.", "Give stores of the same images.")
    finest = max(grids)
    odd = [grid for grid in grids if any(long % short for long, short in zip(finest, grid, strict=True))]
    if odd:
        raise AttentionError(
            f"the grid {odd[0]} does not fit into {finest} a whole number of times in both directions.",
            "Leave out the store of that grid.",
        )
    weights = [grid[0] / sum(rows for rows, _ in grids) for grid in grids]
    maps = sum(
        (
            weight * _finer(store.chain(tokens="all").matrix, grid, finest)
            for weight, store, grid in zip(weights, stores, grids, strict=True)
        ),
        torch.zeros((), dtype=torch.float32, device="cpu"),
    )
    first = stores[grids.index(finest)]
    metadata = {**first.metadata, "grids": str(grids)}
    return AttentionStore([LayerAttention("mean", maps[:, None])], first.tokens, metadata)


def _grid(store: AttentionStore) -> Grid:
    grid = store.tokens.grid
    if grid is None or store.queries is not None or grid[0] * grid[1] != len(store.tokens):
        raise AttentionError("the tokens of a store are not the patches of an image alone.", 'Capture kind="self".')
    return grid


def _finer(maps: Tensor, grid: Grid, finest: Grid) -> Tensor:
    """Returns maps (batch, token, token) of a grid as maps of a finer one."""
    batch, tokens = maps.shape[:2]
    keys = F.interpolate(maps.view(batch, tokens, *grid), finest, mode="bilinear").flatten(2)
    keys = keys / keys.sum(-1, keepdim=True)
    rows, columns = (long // short for long, short in zip(finest, grid, strict=True))
    queries = keys.view(batch, *grid, -1).repeat_interleave(rows, 1).repeat_interleave(columns, 2)
    return queries.flatten(1, 2)


@torch.no_grad()
@full_precision()
def diff_seg(P: Tensor | Chain, anchors: Sequence[int] | Tensor, *, threshold: float = 1.1, rounds: int = 3) -> Tensor:
    """Returns the segment (…, token) of every token, numbered from 0; −1 for tokens that are not states.

    Rows of the chain are compared by (KL(p‖q) + KL(q‖p)) / 2. In the first round, the proposal of each anchor is the mean of
    all rows closer to the anchor's row than the threshold. In later rounds proposals merge: the first proposal takes the mean
    of all proposals closer to it than the threshold, then the first of the rest, and so on. In the end each token belongs to
    the proposal that most probably leads to it. Segments without tokens get no number.

    Args:
        P: transitions (…, token, token), for example the mean self-attention of a diffusion model.
        anchors: positions (anchor,), or (…, anchor) for each chain its own. Published is a uniform grid (`uniform_anchors`);
            `ranked_anchors` takes the tokens with the highest scores.
        threshold: the distance above which rows are different; 1.1 as published for COCO-Stuff.
        rounds: number of rounds; 3 as published.

    Raises:
        AttentionError: anchors that are no states or have another shape; a threshold or number of rounds that is not positive.

    Source: Tian, Aggarwal, Colaco, Kira & Gonzalez-Franco, *Diffuse, Attend, and Segment*, CVPR 2024; anchors by TokenRank:
    Erel et al., *Attention (as Discrete-Time Markov) Chains*, NeurIPS 2025.

    >>> P = torch.tensor([[0.6, 0.4, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    >>> diff_seg(P, anchors=[0, 2])
    tensor([0, 0, 1])
    """
    chain = as_chain(P)
    check_whole_number("rounds", rounds, "the number of rounds in which proposals merge")
    if not as_number(threshold) > 0:
        raise AttentionError(f"threshold is {threshold!r}; it is a distance between rows, above 0.", "Pass threshold=1.1.")
    try:
        chosen = torch.as_tensor(anchors, device=chain.states.device)
    except (TypeError, ValueError, RuntimeError):  # words, None
        chosen = torch.empty(0)
    if chosen.dtype not in WHOLE or not chosen.numel() or chosen.min() < 0 or chosen.max() >= len(chain):
        raise AttentionError(
            f"anchors is {anchors!r}; it is a list of positions of tokens.", f"Give numbers from 0 to {len(chain) - 1}."
        )
    batch = chain.states.shape[:-1]
    try:
        chosen = chosen.long().expand(*batch, -1)
    except RuntimeError:
        raise AttentionError(
            f"anchors has shape {tuple(chosen.shape)}; with this chain it must be (anchor,) or {(*batch, 'anchor')}.",
            "Give one list of anchors, or one for each chain.",
        ) from None
    states = chain.states.reshape(-1, len(chain))
    chosen = chosen.reshape(len(states), -1)
    if not bool(states.gather(1, chosen).all()):
        raise AttentionError(
            "an anchor is not a state of the chain: it is padding, or a token that was not chosen.", "Leave it out."
        )
    matrices = chain.matrix.reshape(-1, len(chain), len(chain))
    found = [
        _segments(matrix[inside][:, inside], (inside.cumsum(0) - 1)[own], threshold, rounds)
        for matrix, inside, own in zip(matrices, states, chosen, strict=True)
    ]
    labels = torch.full_like(states, -1, dtype=torch.long)
    for row, inside, segments in zip(labels, states, found, strict=True):
        row[inside] = segments
    return labels.reshape(chain.states.shape)


def uniform_anchors(grid: Grid, side: int) -> list[int]:
    """Returns the patches at the centres of side × side equal parts of a grid (rows, columns), by their number in the grid.

    Raises:
        AttentionError: a grid that is not two whole numbers; a side below 1, or above a side of the grid.

    >>> uniform_anchors((4, 4), 2)
    [5, 7, 13, 15]
    """
    check_whole_number("side", side, "the number of parts along each side of a grid")
    grid = checked_pair(grid)
    if side > min(grid):
        raise AttentionError(
            f"side is {side}; it is the number of parts along each side of a grid of {grid[0]} × {grid[1]}.",
            f"Pass a number from 1 to {min(grid)}.",
        )
    rows, columns = ([(2 * k + 1) * length // (2 * side) for k in range(side)] for length in grid)
    return [row * grid[1] + column for row in rows for column in columns]


def ranked_anchors(scores: Tensor, count: int) -> Tensor:
    """Returns the positions (…, count) of the highest scores (…, token). With scores of `stationary`: anchors by TokenRank.

    Raises:
        AttentionError: a count below 1, or above the number of tokens.
    """
    check_tensor("scores", scores, "(…, token)")
    check_whole_number("count", count, "the number of anchors")
    if count > scores.shape[-1]:
        raise AttentionError(
            f"count is {count}; it is the number of anchors among {scores.shape[-1]} tokens.",
            f"Pass a number from 1 to {scores.shape[-1]}.",
        )
    return scores.argsort(dim=-1, descending=True, stable=True)[..., :count]


def _segments(rows: Tensor, anchors: Tensor, threshold: float, rounds: int) -> Tensor:
    near = (_divergences(rows[anchors], rows) < threshold).to(rows.dtype)
    proposals = near @ rows / near.sum(1, keepdim=True)
    for _ in range(rounds - 1):
        proposals = _merged(proposals, threshold)
    greatest = proposals >= (1 - _TIE) * proposals.amax(0)  # equal proposals differ by the rounding of their sums
    segments = (~greatest).cumprod(0).sum(0)  # the first of them
    return segments.unique(return_inverse=True)[1]


def _merged(proposals: Tensor, threshold: float) -> Tensor:
    merged = []
    while len(proposals):
        near = _divergences(proposals[:1], proposals)[0] < threshold
        merged.append(proposals[near].mean(0))
        proposals = proposals[~near]
    return torch.stack(merged)


def _divergences(some: Tensor, others: Tensor) -> Tensor:
    """Returns (KL(p‖q) + KL(q‖p)) / 2 of every pair (some, others). Zeros count as the least positive number of their type."""
    least = torch.finfo(some.dtype).tiny
    p, q = some.clamp_min(least).log(), others.clamp_min(least).log()
    own, other = (some * p).sum(-1)[:, None], (others * q).sum(-1)
    return ((own - some @ q.mT) + (other - p @ others.mT)) / 2
