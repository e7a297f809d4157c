"""Pictures of attributions, layers, bounces and heads; each function returns a matplotlib `Figure`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals.files import whole
from attnchain_interp import AttentionStore
from attnchain_interp.pictures.images import displayable
from attnchain_interp.pictures.panels import blank_axes

_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")  # Okabe and Ito


def attribution_figure(images: Tensor, masks: Tensor | None, maps: Mapping[str, Tensor]) -> Figure:
    """One row per image: the image, its mask where there is one, and a heat map (each on its own scale) per method.

    Args:
        images: (batch, channel, height, width), in any range.
        masks: (batch, height, width) bool, or None.
        maps: method → (batch, rows, columns).
    """
    pictures: dict[str, Any] = {"input": [displayable(image) for image in images]}
    if masks is not None:
        pictures["mask"] = [mask.cpu().numpy() for mask in masks]
    pictures |= {name: [grid.detach().cpu().numpy() for grid in grids] for name, grids in maps.items()}
    figure, axes = blank_axes(len(images), len(pictures))
    for column, (name, row) in enumerate(pictures.items()):
        axes[0, column].set_title(name, fontsize=7)
        for k, picture in enumerate(row):
            axes[k, column].imshow(picture, cmap="gray" if name == "mask" else "magma")
    return figure


def layer_figure(store: AttentionStore, image: Tensor, example: int = 0) -> Figure:
    """Rows are layers; columns the centre token's row, the column sum, the class token's row, TokenRank.

    The class column is left out where there is no class token.

    Args:
        store: with an image grid.
        image: (channel, height, width), shown on top.
        example: which of the batch.
    """
    has_class = bool((store.tokens.roles == ac.Role.CLASS).any())

    def columns(layer: str) -> dict[str, ac.AttentionAttribution]:
        shown: dict[str, ac.AttentionAttribution] = {
            "centre token": ac.MultiBounce(steps=1, start="center", layers=layer),
            "column sum": ac.ColumnSum(layers=layer),
            "class token": ac.MultiBounce(steps=1, start="class", layers=layer),
            "TokenRank": ac.TokenRank(layers=layer),
        }
        return shown if has_class else {name: method for name, method in shown.items() if name != "class token"}

    figure, axes = blank_axes(len(store) + 1, len(columns(store.names[0])))
    axes[0, 0].imshow(displayable(image))
    axes[0, 0].set_title("input", fontsize=7)
    for k, layer in enumerate(store.names, start=1):
        for column, (name, method) in enumerate(columns(layer).items()):
            axes[k, column].imshow(_grid(store, method, example), cmap="magma")
            axes[k, column].set_title(name if k == 1 else "", fontsize=7)
        axes[k, 0].text(-0.08, 0.5, layer, fontsize=6, rotation=90, va="center", ha="right", transform=axes[k, 0].transAxes)
    return figure


def bounce_figure(store: AttentionStore, image: Tensor, token: int, example: int = 0) -> Figure:
    """The walk from one token after n = 0, 1, 2, 3, 5 steps, and without end (the stationary distribution).

    Args:
        store: with an image grid.
        image: (channel, height, width).
        token: where it starts, by position in the sequence.
        example: which of the batch.
    """
    steps = (0, 1, 2, 3, 5)
    figure, axes = blank_axes(1, len(steps) + 2)
    axes[0, 0].imshow(displayable(image))
    axes[0, 0].set_title("input", fontsize=7)
    for column, n in enumerate(steps, start=1):
        axes[0, column].imshow(_grid(store, ac.MultiBounce(steps=n, start=token), example), cmap="magma")
        axes[0, column].set_title(f"n = {n}", fontsize=7)
    axes[0, -1].imshow(_grid(store, ac.TokenRank(), example), cmap="magma")
    axes[0, -1].set_title("n = ∞", fontsize=7)
    return figure


def head_figure(store: AttentionStore, example: int = 0) -> Figure:
    """Layer × head: the stationary distribution of every head by itself, with its |λ₂| above it."""
    figure, axes = blank_axes(len(store), max(layer.heads for layer in store))
    for k, layer in enumerate(store):
        chain = store.chain(layer.name, "each")
        one = ac.Chain(chain.matrix[example], chain.states[example])
        found = ac.mixing(one)
        for head in range(layer.heads):
            grid = store.tokens.to_grid(found.stationary[head][None])[0]
            axes[k, head].imshow(grid.cpu().numpy(), cmap="magma")
            axes[k, head].set_title(
                f"{layer.name}  head {head}\n|λ₂| = {float(found.second_eigenvalue[head]):.3f}", fontsize=5
            )
    return figure


def metastable_figure(images: Tensor, memberships: Tensor, weights: Tensor) -> Figure:
    """One row per image: the image, the metastable states as coloured regions over it, and what each state weighs.

    Each patch has the colour of the state that it belongs to most, the stronger the more it does; each state's number stands
    on its most typical patch. Colours come again after the seventh state; then the
    numbers tell them apart. A state that is no patch's first is hollow in the legend.

    Args:
        images: (batch, channel, height, width), in any range.
        memberships: (batch, state, rows, columns), as `tokens.to_grid(memberships.mT)` gives them.
        weights: (batch, state) stationary weights, as from `coarse_grained_stationary`; states of weight 0 are not drawn.
    """
    figure, axes = blank_axes(len(images), 3)
    for row, image, grids, shares in zip(axes, images, memberships.detach().cpu(), weights.detach().cpu(), strict=True):
        picture = displayable(image)
        height, width, _ = picture.shape
        share, state = (tensor.numpy() for tensor in grids.max(0))
        rows, columns = share.shape
        regions = np.zeros((rows, columns, 4))
        regions[..., :3] = np.array([to_rgb(colour) for colour in _COLOURS])[state % len(_COLOURS)]
        regions[..., 3] = 0.15 + 0.6 * share
        row[0].imshow(picture)
        row[1].imshow(picture.mean(-1), cmap="gray", vmin=-0.3, vmax=1.3)
        row[1].imshow(regions, extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="nearest")
        handles = []
        for number in np.flatnonzero(shares.numpy() > 0):
            colour, label = _COLOURS[number % len(_COLOURS)], f"{number + 1}: {shares[number]:.1%}"
            if (state == number).any():
                y, x = np.unravel_index(np.where(state == number, share, -1).argmax(), share.shape)
                place = (width * (x + 0.5) / columns - 0.5, height * (y + 0.5) / rows - 0.5)
                text = row[1].text(*place, str(number + 1), fontsize=6, weight="bold", ha="center", va="center")
                text.set_path_effects([withStroke(linewidth=1.5, foreground="white")])
                handles.append(Patch(color=colour, label=label))
            else:
                handles.append(Patch(edgecolor=colour, fill=False, label=f"{label} (no patch's first)"))
        row[2].legend(handles=handles, loc="center left", fontsize=6, frameon=False, ncols=2 if len(handles) > 8 else 1)
        row[2].set_box_aspect(height / width)
    for axis, title in zip(axes[0], ("input", "metastable states", "stationary weight"), strict=True):
        axis.set_title(title, fontsize=7)
    return figure


def write_figure(figure: Figure, path: Path) -> Path:
    """Writes the figure atomically, in the format of the path's suffix; returns the path."""
    with whole(path) as partial:
        figure.savefig(partial, format=path.suffix[1:], dpi=150)
    return path


def _grid(store: AttentionStore, method: ac.AttentionAttribution, example: int) -> NDArray[Any]:
    return store.tokens.to_grid(method.score(store))[example].cpu().numpy()
