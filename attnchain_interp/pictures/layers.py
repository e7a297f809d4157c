"""The figure of the paper: the attention of each layer, read in four ways."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from attnchain_interp.chain.chain import Chain
from attnchain_interp.chain.functionals import bounce, stationary
from attnchain_interp.pictures.images import displayable
from attnchain_interp.pictures.panels import blank_axes, draw_map, name_column, name_row
from attnchain_interp.pictures.patches import frame_patch, on_grid, patch_at
from attnchain_interp.pictures.scale import Scale
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.head_weights import Heads
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.starts import start_distribution
from attnchain_interp.store.tokens import Role


def show_layers(
    store: AttentionStore,
    image: Any = None,
    normalization: Any = None,
    layers: LayerSelection = "all",
    heads: Heads = "mean",
    damping: float = 0.99,
    example: int = 0,
) -> Figure:
    """Returns a matplotlib `Figure` with layers as rows; the columns are centre row, column sum, class row and TokenRank.

    Each map has its own scale, from zero to its greatest value. Without a class token there is no class row.

    Args:
        store: a store with an image grid.
        image: the input of the example (channel, height, width), shown on top with a frame around the centre patch.
        normalization: how the image was normalised: see `displayable`.
        layers, heads: see `AttentionStore.chain`. Each layer is shown by itself.
        damping: of TokenRank.
        example: number of the example in the batch.

    Raises:
        AttentionError: no image grid, no such example, or as `AttentionStore.chain`, `stationary` and `displayable`.

    Source: Erel et al. 2025, the comparison of TokenRank with column sum, centre and class token.
    """
    tokens, names = store.tokens, [layer.name for layer in store.select(layers)]
    starts = {"centre token": "center", "column sum": "uniform", "class token": "class"}
    if not bool((tokens.roles == Role.CLASS).any()):
        del starts["class token"]
    above = int(image is not None)
    figure, axes = blank_axes(len(names) + above, len(starts) + 1)
    if above:
        picture = displayable(image, normalization)
        axes[0, 0].imshow(picture)
        frame_patch(axes[0, 0], patch_at(tokens, "center") or (0, 0), tokens.grid or (1, 1), picture.shape[:2])
        name_column(axes[0, 0], "input")
    for row, name in zip(axes[above:], names, strict=True):
        chain: Chain = store.chain(name, heads)
        scores = [bounce(chain, start_distribution(chain, tokens, start), 1) for start in starts.values()]
        for axis, score in zip(row, [*scores, stationary(chain, damping)], strict=True):
            grid = on_grid(tokens, score, example)
            draw_map(axis, grid, Scale.of([grid]))
        name_row(row[0], name)
    for axis, name in zip(axes[above], [*starts, "TokenRank"], strict=True):
        name_column(axis, name)
    return figure
