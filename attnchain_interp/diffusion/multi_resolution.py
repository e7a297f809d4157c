"""Self-attention of several resolutions as one chain, on the finest grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_interp.errors import AttentionError
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.layers import LayerAttention
from attnchain_interp.store.tokens import Grid


def aggregated_attention(stores: Sequence[AttentionStore]) -> AttentionStore:
    """One layer of one head on the finest grid of the stores: the mean of their maps, weighted by the side of their grids.

    The attention of a coarse patch is spread over the finer patches that it covers: as a key bilinearly, as a query by giving
    each of them the same row. Rows sum to one.

    Args:
        stores: of self-attention alone, one for each resolution of a sampling (`capture_pipeline`); the sides of the finest
            grid are multiples of those of the others. Layers and heads are averaged.

    Raises:
        AttentionError: no stores, tokens that are no image, grids that do not fit into one another.

    Source: Tian et al., *Diffuse, Attend, and Segment*, CVPR 2024, section 3.
    """
    if not stores:
        raise AttentionError("stores is empty; give one store of self-attention for each resolution.")
    grids = [_grid(store) for store in stores]
    finest = max(grids)
    odd = [grid for grid in grids if any(long % short for long, short in zip(finest, grid, strict=True))]
    if odd:
        raise AttentionError(f"the grid {odd[0]} does not fit into {finest} a whole number of times in both directions.")
    weights = [grid[0] / sum(rows for rows, _ in grids) for grid in grids]
    maps = sum(
        (weight * _finer(_mean(store), grid, finest) for weight, store, grid in zip(weights, stores, grids, strict=True)),
        torch.zeros(()),
    )
    first = stores[grids.index(finest)]
    metadata = {**first.metadata, "grids": str(grids)}
    return AttentionStore([LayerAttention("mean", maps[:, None])], first.tokens, metadata)


def _grid(store: AttentionStore) -> Grid:
    grid = store.tokens.grid
    if grid is None or store.queries is not None or grid[0] * grid[1] != len(store.tokens):
        raise AttentionError('these tokens are not those of an image alone; capture kind="self".')
    return grid


def _mean(store: AttentionStore) -> Tensor:
    """(batch, token, token): the mean over layers and heads."""
    return store.chain(tokens="all").matrix


def _finer(maps: Tensor, grid: Grid, finest: Grid) -> Tensor:
    """Maps (batch, token, token) of a grid as maps of a finer one."""
    batch, tokens = maps.shape[:2]
    keys = F.interpolate(maps.view(batch, tokens, *grid), finest, mode="bilinear").flatten(2)
    keys = keys / keys.sum(-1, keepdim=True)
    rows, columns = (long // short for long, short in zip(finest, grid, strict=True))
    queries = keys.view(batch, *grid, -1).repeat_interleave(rows, 1).repeat_interleave(columns, 2)
    return queries.flatten(1, 2)
