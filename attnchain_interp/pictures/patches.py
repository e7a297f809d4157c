"""Patches of an image: scores on its grid, the place of a token, and a frame around a patch."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from torch import Tensor

from attnchain_interp.checks import check_position
from attnchain_interp.pictures.scale import finite
from attnchain_interp.store.starts import token_position
from attnchain_interp.store.tokens import Role, TokenLayout


def on_grid(tokens: TokenLayout, scores: Tensor, example: int) -> NDArray[np.float64]:
    """Returns the scores (batch, …, token) of one example as (…, rows, columns).

    Raises:
        AttentionError: no image grid, or an example that does not exist.
    """
    return finite(tokens.to_grid(scores)[check_position("example", example, len(scores))], "the scores")


def patch_at(tokens: TokenLayout, token: object) -> tuple[int, int] | None:
    """Returns (row, column) of a token ("center", "class" or a number) on the grid; None if it is not a patch."""
    if tokens.grid is None or not isinstance(token, str | int) or token in ("uniform", "last"):
        return None
    position = token_position(tokens, token)
    if int(tokens.roles[0, position]) != Role.PATCH:
        return None
    patch = int((tokens.roles[0, :position] == Role.PATCH).sum())
    return divmod(patch, tokens.grid[1])


def frame_patch(axis: Axes, place: tuple[int, int], grid: tuple[int, int], size: tuple[int, int]) -> None:
    """Draws a frame around the patch (row, column) of an image or a map of `size` (height, width)."""
    tall, wide = size[0] / grid[0], size[1] / grid[1]
    corner = (place[1] * wide - 0.5, place[0] * tall - 0.5)
    frame = Rectangle(corner, wide, tall, fill=False, edgecolor="#E69F00", linewidth=1.2)
    frame.set_path_effects([withStroke(linewidth=2.4, foreground="black")])
    axis.add_patch(frame)
