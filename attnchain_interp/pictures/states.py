"""Metastable states as coloured regions of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from torch import Tensor

from attnchain_interp.chain import coarse_grained_stationary
from attnchain_interp.errors import AttentionError
from attnchain_interp.pictures.figures import PLAIN, Box, blank_axes, covered_box, name_column, write_title
from attnchain_interp.pictures.images import warn_of_photograph
from attnchain_interp.pictures.map_arguments import images_of
from attnchain_interp.pictures.scale import finite
from attnchain_interp.store import AttentionStore

_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")  # Okabe and Ito


def show_states(
    memberships: Any, images: Any, normalization: Any = None, *, weights: Any = None, title: str | None = None
) -> Figure:
    """Returns a matplotlib `Figure`: for each image its metastable states as coloured regions, and the weight of each state.

    Each patch has the colour of the state with its greatest membership; a stronger colour is a greater membership. The number
    of a state stands on its most typical patch. Colours repeat after seven states; the numbers tell those states apart. A
    state that is the first of no patch is hollow in the legend.

    Args:
        memberships: (batch, state, rows, columns): `store.tokens.to_grid(memberships.mT)`. Or a store of the images, whose
            states and weights are those of `MetastableStates` by default, and lie where its patches do.
        images: (batch, channel, height, width), or channels last.
        normalization: how the images were normalised: see `displayable`.
        weights: (batch, state) stationary weights (`coarse_grained_stationary`). States of weight 0 are not drawn. None means
            the share of the patches that belong to a state.
        title: above the picture; of a store, by default, the model and the settings of `MetastableStates`.

    Raises:
        AttentionError: shapes or numbers of examples that do not fit, NaN or infinite values, weights beside a store, or as
            `MetastableStates.memberships` and `displayable`.
    """
    store = memberships if isinstance(memberships, AttentionStore) else None
    if store is not None:
        memberships, weights, found = _found(store, weights)
        title = title or found
    grids = finite(memberships, "memberships")
    if grids.ndim != 4 or 0 in grids.shape:
        raise AttentionError(
            f"memberships has shape {grids.shape}; it must be (batch, state, rows, columns).",
            "Pass store.tokens.to_grid(memberships.mT).",
        )
    shares = grids.mean((2, 3)) if weights is None else finite(weights, "weights")
    if shares.shape != grids.shape[:2]:
        raise AttentionError(
            f"memberships holds {grids.shape[:2]} examples and states, and weights has shape {shares.shape}.",
            "Give both for the same examples.",
        )
    pictures = images_of(() if images is None else images, normalization, len(grids))
    for image in images if isinstance(images, list | tuple) else ():
        warn_of_photograph(image, grids.shape[2:])
    figure, axes = blank_axes(len(grids), 3, cell=2.6)
    for row, picture, memberships_of, weights_of in zip(axes, pictures, grids, shares, strict=True):
        row[0].imshow(picture)
        box = (0, 0, *picture.shape[1::-1]) if store is None else covered_box(store, picture)
        handles = _draw_regions(row[1], picture, memberships_of, weights_of, box)
        columns = 2 if len(handles) > 8 else 1
        legend = row[2].legend(handles=handles, loc="upper left", borderaxespad=0, fontsize=6, frameon=False, ncols=columns)
        for text in legend.get_texts():
            text.set(**PLAIN)
        row[2].set_box_aspect(picture.shape[0] / picture.shape[1])
    for axis, name in zip(axes[0], ("input", "metastable states", "stationary weight"), strict=True):
        name_column(axis, "share of the patches" if weights is None and axis is axes[0, 2] else name)
    axes[0, 2].title.set(x=0, horizontalalignment="left")  # above the weights
    write_title(figure, title)
    return figure


def _found(store: AttentionStore, weights: Any) -> tuple[Tensor, Tensor, str]:
    from attnchain_interp.attribution import MetastableStates, described  # loads captum, and this pyplot

    if weights is not None:
        raise AttentionError("weights are given beside a store, which has its own.", "Leave weights out.")
    method = MetastableStates()
    memberships = method.memberships(store)
    weights = coarse_grained_stationary(method.chain(store), memberships, method.damping)
    return store.tokens.to_grid(memberships.mT), weights, described(method, store)


def _draw_regions(
    axis: Axes, picture: NDArray[np.float64], memberships: NDArray[np.float64], weights: NDArray[np.float64], box: Box
) -> list[Patch]:
    """Draws the regions of one image in a part of it. Returns the entry of each state in the legend."""
    _, _, width, height = box
    share, state = memberships.max(0), memberships.argmax(0)
    rows, columns = share.shape
    regions = np.zeros((rows, columns, 4))
    regions[..., :3] = np.array([to_rgb(colour) for colour in _COLOURS])[state % len(_COLOURS)]
    regions[..., 3] = 0.15 + 0.6 * share.clip(0, 1)
    axis.imshow(picture.mean(-1), cmap="gray", vmin=-0.3, vmax=1.3)
    axis.imshow(regions, extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="nearest")
    axis.set(xlim=(-0.5, picture.shape[1] - 0.5), ylim=(picture.shape[0] - 0.5, -0.5))
    handles = []
    for number in np.flatnonzero(weights > 0):
        colour, label = _COLOURS[number % len(_COLOURS)], f"{number + 1}: {weights[number]:.1%}"
        if (state == number).any():
            y, x = np.unravel_index(np.where(state == number, share, -1).argmax(), share.shape)
            place = (width * (x + 0.5) / columns - 0.5, height * (y + 0.5) / rows - 0.5)
            text = axis.text(*place, str(number + 1), size=6, weight="bold", ha="center", va="center", color="black", **PLAIN)
            text.set_path_effects([withStroke(linewidth=1.5, foreground="white")])
            handles.append(Patch(color=colour, label=label))
        else:
            handles.append(Patch(edgecolor=colour, fill=False, label=f"{label} (no patch's first)"))
    return handles
