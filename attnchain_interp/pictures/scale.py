"""The scale of colours that maps share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from matplotlib.colors import Normalize
from numpy.typing import NDArray
from torch import Tensor

from attnchain_interp.errors import AttentionError

_QUANTILE: Final = 0.995


@final
@dataclass(frozen=True)
class Scale:
    """A scale of colours from zero to the greatest value, or symmetric about zero for scores with a sign.

    Zero always has its own colour: a constant map differs from an all-zero map.

    Attributes:
        greatest: the value, or the magnitude, at the end of the colours; positive.
        signed: whether there are colours for both signs.
    """

    greatest: float
    signed: bool

    @classmethod
    def of(cls, maps: Iterable[NDArray[np.float64]], signed: bool | None = None) -> Scale:
        """Returns the scale that all of these maps share. `signed=None` means: signed if a value is negative.

        Raises:
            AttentionError: negative values on a scale without a sign.
        """
        several = [each for each in maps if each.size]
        least = min((float(each.min()) for each in several), default=0.0)
        greatest = max((float(abs(each).max()) for each in several), default=0.0)
        if signed is None:
            signed = least < 0
        if not signed and least < 0:
            raise AttentionError(
                f"signed=False, but the scores go down to {least:.3g}.", "Leave signed out, or pass their abs()."
            )
        return cls(greatest or 1.0, signed)

    @property
    def least(self) -> float:
        return -self.greatest if self.signed else 0.0

    @property
    def norm(self) -> Normalize:
        return Normalize(self.least, self.greatest)


def robust(values: NDArray[np.float64]) -> tuple[Scale, str]:
    """Returns the scale of values, and where it ends in words: at a quantile, if the greatest is more than twice that.

    >>> robust(np.array([1.0, 2.0]))
    (Scale(greatest=2.0, signed=False), '')
    >>> robust(np.array([*[1.0] * 300, 9.0]))
    (Scale(greatest=1.0, signed=False), ', up to the 99.5% quantile')
    """
    whole = Scale.of([values])
    end = float(np.quantile(np.abs(values), _QUANTILE)) if values.size else 0.0
    if 0 < 2 * end < whole.greatest:
        return Scale(end, whole.signed), f", up to the {_QUANTILE:.1%} quantile"
    return whole, ""


def finite(values: Any, name: str) -> NDArray[np.float64]:
    """Returns the numbers of a tensor, an array or a list in float64.

    Raises:
        AttentionError: values that are not real numbers, or are NaN or infinite.
    """
    if isinstance(values, Tensor) and not values.is_complex():
        values = values.detach().cpu().double().numpy()
    try:
        numbers = np.asarray(values)
        if numbers.dtype.kind not in "biuf":
            raise TypeError(f"they are {numbers.dtype}")
    except (TypeError, ValueError) as error:
        raise AttentionError(
            f"{name} is a {type(values).__name__} without an array of real numbers ({error}).", "Pass a tensor or an array."
        ) from error
    numbers = numbers.astype(np.float64)
    wrong = numbers.size - int(np.isfinite(numbers).sum())
    if wrong:
        kind = "NaN" if np.isnan(numbers).any() else "infinite"
        raise AttentionError(
            f"{name} holds {wrong} values of {numbers.size} that are not finite ({kind}), which have no colour.",
            "Find where they come from, or replace them (torch.nan_to_num).",
        )
    return numbers
