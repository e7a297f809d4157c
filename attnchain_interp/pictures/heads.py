"""Every head by itself: its stationary distribution, and how slowly it mixes."""

from __future__ import annotations

from typing import Literal

from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from attnchain_interp.chain.mixing import mixing
from attnchain_interp.checks import check_one_of
from attnchain_interp.pictures.panels import blank_axes, colour_bar, draw_map, name_column, name_row
from attnchain_interp.pictures.patches import on_grid
from attnchain_interp.pictures.scale import Scale
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.layers import LayerSelection

_SLOW, _FRAME = "viridis", 2.5  # colours of |λ₂|, and points of the frame that has them


def show_heads(
    store: AttentionStore,
    layers: LayerSelection = "all",
    order: Literal["head", "lambda2"] = "head",
    damping: float = 0.99,
    example: int = 0,
) -> Figure:
    """Returns a matplotlib `Figure`, layer × head: the TokenRank of every head, in a frame with the colour of its |λ₂|.

    A head with |λ₂| near one mixes slowly: it holds regions in which a walk stays long. Each map has its own scale, from zero
    to its greatest value.

    Args:
        store: a store with an image grid.
        layers: see `AttentionStore.select`.
        order: order of the heads of a layer: "head" by number, or "lambda2" from the slowest mixing to the fastest.
        damping: of TokenRank. |λ₂| is that of the undamped chain.
        example: number of the example in the batch.

    Raises:
        AttentionError: another order, no image grid, no such example, or as `AttentionStore.chain` and `mixing`.
    """
    check_one_of("order", order, ("head", "lambda2"))
    chosen = store.select(layers)
    figure, axes = blank_axes(len(chosen), max(layer.heads for layer in chosen))
    colours = ScalarMappable(Normalize(0, 1), colormaps[_SLOW])
    for row, layer in zip(axes, chosen, strict=True):
        found = mixing(store.chain(layer.name, "each"), damping)
        grids, second = on_grid(store.tokens, found.stationary, example), found.second_eigenvalue[example].tolist()
        numbers = sorted(range(layer.heads), key=lambda head, second=second: -second[head] if order == "lambda2" else head)
        for axis, head in zip(row, numbers, strict=False):
            draw_map(axis, grids[head], Scale.of([grids[head]]))
            axis.set_axis_on()
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(edgecolor=colours.to_rgba(second[head]), linewidth=_FRAME)
            name_column(axis, f"head {head}, |λ₂| = {second[head]:.3f}")
        name_row(row[0], layer.name)
    colour_bar(figure, colours, axes, "bottom")
    figure.axes[-1].set_xlabel("|λ₂|", fontsize=7)
    return figure
