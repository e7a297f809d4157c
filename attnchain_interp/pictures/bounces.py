"""A walk over an image after 0, 1, 2 … bounces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from attnchain_interp.chain.functionals import bounce, stationary
from attnchain_interp.errors import AttentionError
from attnchain_interp.pictures.images import displayable
from attnchain_interp.pictures.panels import blank_axes, draw_map, name_column
from attnchain_interp.pictures.patches import frame_patch, on_grid, patch_at
from attnchain_interp.pictures.scale import Scale
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.head_weights import Heads
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.starts import Start, start_distribution


def show_bounces(
    store: AttentionStore,
    image: Any = None,
    normalization: Any = None,
    start: Start = "center",
    steps: Sequence[int] = (0, 1, 2, 3, 5, 10),
    layers: LayerSelection = "all",
    heads: Heads = "mean",
    damping: float = 0.99,
    example: int = 0,
) -> Figure:
    """Returns a matplotlib `Figure`: a walk from one token after n bounces, and the stationary distribution at n = ∞.

    Each map has its own scale, from zero to its greatest value.

    Args:
        store: a store with an image grid.
        image: the input of the example (channel, height, width). It is shown first, with a frame around the start patch.
        normalization: how the image was normalised: see `displayable`.
        start: "center", "class", "uniform", a token by number, or a distribution (batch, token).
        steps: the numbers of bounces that are shown.
        layers, heads: see `AttentionStore.chain`.
        damping: of the stationary distribution: see `stationary`. The bounces are not damped.
        example: number of the example in the batch.

    Raises:
        AttentionError: no steps, no image grid, no such example, or as `AttentionStore.chain`, `bounce`, `stationary` and
            `displayable`.

    Source: Erel et al. 2025, multi-bounce attention.
    """
    if not len(steps):
        raise AttentionError("steps is empty.", "Name at least one number of bounces: steps=(1, 2).")
    found = Walk.over(store, start, max(steps), layers, heads, damping, example)
    shown = {f"n = {n}": found.maps[n] for n in steps} | {"n = ∞": found.limit}
    before = int(image is not None)
    figure, axes = blank_axes(1, len(shown) + before)
    if before:
        found.draw_start(axes[0, 0], displayable(image, normalization))
    for axis, (name, grid) in zip(axes[0, before:], shown.items(), strict=True):
        draw_map(axis, grid, Scale.of([grid]))
        name_column(axis, name)
    return figure


@final
@dataclass(frozen=True)
class Walk:
    """The distributions of a walk on the image grid.

    Attributes:
        maps: (step, rows, columns), the start first.
        limit: (rows, columns), the stationary distribution.
        origin: (row, column) of the start patch; None if the walk does not start at one patch.
    """

    maps: NDArray[np.float64]
    limit: NDArray[np.float64]
    origin: tuple[int, int] | None

    @classmethod
    def over(
        cls,
        store: AttentionStore,
        start: Start,
        steps: int,
        layers: LayerSelection,
        heads: Heads,
        damping: float,
        example: int,
    ) -> Walk:
        """Returns the walk over the chain of a store. Arguments and errors: see `show_bounces`."""
        if isinstance(heads, str) and heads == "each":
            raise AttentionError('heads="each" gives a walk for every head; one walk is drawn.', "Name the head: heads=[0].")
        chain, tokens = store.chain(layers, heads), store.tokens
        path = bounce(chain, start_distribution(chain, tokens, start), steps, path=True)
        limit = stationary(chain, damping)
        return cls(on_grid(tokens, path, example), on_grid(tokens, limit, example), patch_at(tokens, start))

    def draw_start(self, axis: Any, picture: NDArray[np.float64]) -> None:
        """Draws the image (height, width, channel), with a frame around the start patch."""
        axis.imshow(picture)
        name_column(axis, "input")
        if self.origin is not None:
            frame_patch(axis, self.origin, self.limit.shape, picture.shape[:2])  # type: ignore[arg-type]
