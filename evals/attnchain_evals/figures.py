"""Pictures of attributions, layers, bounces and heads; each function returns a matplotlib `Figure`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals.files import whole
from attnchain_interp import AttentionStore

_CELL = 1.5  # inches


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
    figure, axes = _axes(len(images), len(pictures))
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

    figure, axes = _axes(len(store) + 1, len(columns(store.names[0])))
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
    figure, axes = _axes(1, len(steps) + 2)
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
    figure, axes = _axes(len(store), max(layer.heads for layer in store))
    for k, layer in enumerate(store):
        chain = store.chain(layer.name, "each")
        one = ac.Chain(chain.matrix[example], chain.states[example])
        ranks, lambda2 = ac.stationary(one), ac.second_eigenvalue(one)
        for head in range(layer.heads):
            grid = store.tokens.to_grid(ranks[head][None])[0]
            axes[k, head].imshow(grid.cpu().numpy(), cmap="magma")
            axes[k, head].set_title(f"{layer.name}  head {head}\n|λ₂| = {float(lambda2[head]):.3f}", fontsize=5)
    return figure


def displayable(image: Tensor) -> NDArray[Any]:
    """(height, width, channel) in [0, 1] of an image (channel, height, width) in any range."""
    image = image.detach().float().cpu()
    low, high = image.min(), image.max()
    image = (image - low) / (high - low).clamp_min(1e-12)
    return image.expand(3, -1, -1).permute(1, 2, 0).numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy()


def write_figure(figure: Figure, path: Path) -> Path:
    """Writes the figure atomically, in the format of the path's suffix; returns the path."""
    with whole(path) as partial:
        figure.savefig(partial, format=path.suffix[1:], dpi=150)
    return path


def _grid(store: AttentionStore, method: ac.AttentionAttribution, example: int) -> NDArray[Any]:
    return store.tokens.to_grid(method.score(store))[example].cpu().numpy()


def _axes(rows: int, columns: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(_CELL * columns, _CELL * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes
