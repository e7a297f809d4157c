"""Points and boxes in a photograph, in pixels, and the patches in them."""

from __future__ import annotations

from math import isnan
from typing import Any

import torch
from torch import Tensor

from attnchain_evals.segments.refinement import WHOLE, Share
from attnchain_interp import AttentionError, AttentionStore, Role


def as_place(name: str, value: Any, count: int) -> tuple[float, ...] | None:
    """Returns the numbers of a point (2) or a box (4); None for None.

    Args:
        name: of the argument, for the message.

    Raises:
        AttentionError: another number of them, no numbers, or a box whose corners are in the wrong order.

    >>> as_place("point", [3, 4], 2)
    (3.0, 4.0)
    """
    if value is None:
        return None
    try:
        found = () if isinstance(value, str) else tuple(float(each) for each in value)
    except (TypeError, ValueError, RuntimeError):  # the last is torch's, of a tensor of several numbers
        found = ()
    if len(found) != count or any(map(isnan, found)):
        wanted = {2: "(x, y)", 4: "(left, top, right, bottom)"}[count]
        raise AttentionError(
            f"{name} is {value!r}; it is {count} numbers {wanted}.", "Give them in pixels, from the top left."
        )
    if count == 4 and any(low > high for low, high in zip(found[:2], found[2:], strict=True)):
        raise AttentionError(
            f"{name} is {value!r}, which ends before it begins.",
            "Give (left, top, right, bottom): left is at most right, and top at most bottom.",
        )
    return found


def patches_in(store: AttentionStore, place: tuple[float, ...], size: tuple[int, int], covered: Share = WHOLE) -> Tensor:
    """Returns the uniform distribution (token,) over the patches at a point or in a box of a photograph of one image.

    Args:
        place: (x, y) or (left, top, right, bottom) in pixels. A box may end at the right and the lower edge.
        size: (width, height) of the photograph.
        covered: the shares of its height and width that the patches cover. A place outside them has the nearest patch.

    Raises:
        AttentionError: it is not within the photograph.
    """
    left, top, right, bottom = place if len(place) == 4 else (*place, *place)
    if not (0 <= left <= right <= size[0] and 0 <= top <= bottom <= size[1] and left < size[0] and top < size[1]):
        raise AttentionError(
            f"{place} is not within the photograph of {size[0]} × {size[1]} pixels.",
            "Give (x, y), or (left, top, right, bottom), in pixels from the top left.",
        )
    rows, columns = store.tokens.grid or (1, 1)
    low, high = (min(int(y * rows / (size[1] * covered[0])), rows - 1) for y in (top, bottom))
    first, last = (min(int(x * columns / (size[0] * covered[1])), columns - 1) for x in (left, right))
    inside = torch.zeros(rows, columns)
    inside[low : high + 1, first : last + 1] = 1
    start = torch.zeros(len(store.tokens))
    start[store.tokens.roles[0].cpu() == Role.PATCH] = inside.flatten() / inside.sum()
    return start
