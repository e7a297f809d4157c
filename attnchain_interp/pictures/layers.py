"""The attention of each layer, read in four ways, and of each head with how slowly it mixes."""

from __future__ import annotations

from typing import Any, Literal

from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from attnchain_interp.chain import Chain, bounce, mixing, stationary
from attnchain_interp.checks import check_one_of
from attnchain_interp.pictures.figures import (
    PLAIN,
    blank_axes,
    check_images,
    colour_bar,
    covered_box,
    frame_patch,
    name_column,
    name_row,
    on_grid,
    patch_at,
    store_title,
    write_title,
)
from attnchain_interp.pictures.images import displayable, warn_of_photograph
from attnchain_interp.pictures.sink_marks import draw_marked
from attnchain_interp.pictures.text_heads import show_text_heads
from attnchain_interp.store import AttentionStore, Heads, LayerSelection, Role
from attnchain_interp.store.layers import check_store
from attnchain_interp.store.starts import start_distribution

_SLOW, _FRAME = "viridis", 2.5  # colours of |λ₂|, and points of the frame that has them


def show_layers(
    store: AttentionStore,
    image: Any = None,
    normalization: Any = None,
    *,
    layers: LayerSelection = "all",
    heads: Heads = "mean",
    damping: float = 0.99,
    example: int = 0,
    balanced: bool | float = False,
    keep_sinks: bool = False,
    title: str | None = None,
) -> Figure:
    """Returns a matplotlib `Figure` with layers as rows; the columns are centre row, column sum, class row and TokenRank.

    Each map has its own scale, from zero to its greatest value, or to a quantile where a few patches are far above all others.
    Without a class token there is no class row. Patches that are attention sinks of the shown layers have dashed frames and
    are left out of the scales, and all such tokens are listed under the picture (see `sinks`).

    Args:
        store: a store with an image grid.
        image: the input of the example (channel, height, width), shown on top with a frame around the centre patch.
        normalization: how the image was normalised: see `displayable`.
        layers, heads, balanced: see `AttentionStore.chain`. Each layer is shown by itself.
        damping: of TokenRank.
        example: number of the example in the batch.
        keep_sinks: let sinks count in the scales.
        title: above the picture; by default the model, the heads and what the maps are.

    Raises:
        AttentionError: no image grid, no such example, or as `AttentionStore.chain`, `stationary` and `displayable`.

    Source: Erel et al. 2025, the comparison of TokenRank with column sum, centre and class token.
    """
    check_images(store)
    warn_of_photograph(image, store.tokens.grid)
    tokens, names = store.tokens, [layer.name for layer in store.select(layers)]
    starts = {"centre token": "center", "column sum": "uniform", "class token": "class"}
    if not bool((tokens.roles == Role.CLASS).any()):
        del starts["class token"]
    above = int(image is not None)
    figure, axes = blank_axes(len(names) + above, len(starts) + 1)
    if above:
        picture = displayable(image, normalization)
        axes[0, 0].imshow(picture)
        place = patch_at(tokens, "center") or (0, 0)
        frame_patch(axes[0, 0], place, tokens.grid or (1, 1), covered_box(store, picture))
        name_column(axes[0, 0], "input")
    maps = list[tuple[Any, Any]]()
    for row, name in zip(axes[above:], names, strict=True):
        chain: Chain = store.chain(name, heads, balanced=balanced)
        scores = [bounce(chain, start_distribution(chain, tokens, start), 1) for start in starts.values()]
        for axis, score in zip(row, [*scores, stationary(chain, damping)], strict=True):
            maps.append((axis, on_grid(tokens, score, example)))
        name_row(row[0], name)
    for axis, name in zip(axes[above], [*starts, "TokenRank"], strict=True):
        name_column(axis, name)
    draw_marked(figure, maps, store, layers, example, keep_sinks)
    write_title(figure, title, store_title("layers", store, layers, heads=heads, balanced=balanced, damping=damping))
    return figure


def show_heads(
    store: AttentionStore,
    layers: LayerSelection = "all",
    *,
    order: Literal["head", "lambda2"] = "head",
    damping: float = 0.99,
    example: int = 0,
    keep_sinks: bool = False,
    title: str | None = None,
) -> Figure:
    """Returns a matplotlib `Figure`, layer × head: the TokenRank of every head, in a frame with the colour of its |λ₂|.

    A head with |λ₂| near one mixes slowly: it holds regions in which a walk stays long. Each map has its own scale, and
    attention sinks are marked and left out of it, as by `show_layers`.

    The picture of a text has a row for each head, with its number, and a column for each token. Rows are TokenRank, or,
    where attention is causal, the attention of the last token. |λ₂| stands beside them. Attention sinks have red labels, are
    listed, and are left out of the scale of colours, which may end at a quantile.

    Args:
        store: of images with a grid, or of texts, also with the patches of images among their tokens.
        layers: see `AttentionStore.select`.
        order: order of the heads of a layer: "head" by number, or "lambda2" from the slowest mixing to the fastest.
        damping: of TokenRank. |λ₂| is that of the undamped chain.
        example: number of the example in the batch.
        keep_sinks, title: see `show_layers`.

    Raises:
        AttentionError: another order, no such example, or as `AttentionStore.chain` and `mixing`.
    """
    check_store(store)
    check_one_of("order", order, ("head", "lambda2"))
    if store.tokens.grid is None:
        return show_text_heads(store, layers, order, damping, example, keep_sinks, title)
    chosen = store.select(layers)
    figure, axes = blank_axes(len(chosen), max(layer.heads for layer in chosen))
    colours = ScalarMappable(Normalize(0, 1), colormaps[_SLOW])
    maps = list[tuple[Any, Any]]()
    for row, layer in zip(axes, chosen, strict=True):
        found = mixing(store.chain(layer.name, "each"), damping)
        grids, second = on_grid(store.tokens, found.stationary, example), found.second_eigenvalue[example].tolist()
        numbers = sorted(range(layer.heads), key=lambda head, second=second: -second[head] if order == "lambda2" else head)
        for axis, head in zip(row, numbers, strict=False):
            maps.append((axis, grids[head]))
            axis.set_axis_on()
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(edgecolor=colours.to_rgba(second[head]), linewidth=_FRAME)
            name_column(axis, f"head {head}, |λ₂| = {second[head]:.3f}")
        name_row(row[0], layer.name)
    colour_bar(figure, colours, axes, "bottom")
    figure.axes[-1].set_xlabel("|λ₂|", fontsize=7, **PLAIN)
    draw_marked(figure, maps, store, layers, example, keep_sinks)
    write_title(figure, title, store_title("TokenRank of heads", store, layers, damping=damping))
    return figure
