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
    """Returns one layer with one head on the finest grid of the stores: the mean of their maps, weighted by grid side.

    The attention of a coarse patch is spread over the finer patches that it covers: as a key bilinearly, as a query by the
    same row for each of them. Rows sum to one.

    Args:
        stores: self-attention alone, one store for each resolution of a sampling (`capture_pipeline`). The sides of the finest
            grid are multiples of the sides of the others. Layers and heads are averaged.

    Raises:
        AttentionError: no stores, tokens that are not patches of an image, or grids that do not fit into one another.

    Source: Tian et al., *Diffuse, Attend, and Segment*, CVPR 2024, section 3.
    """
    if not stores:
        raise AttentionError("stores is empty.", "Give one store of self-attention for each resolution.")
    grids = [_grid(store) for store in stores]
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
        torch.zeros(()),
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
