"""The scale of colours that maps share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import numpy as np
from matplotlib.colors import Normalize
from numpy.typing import NDArray
from torch import Tensor

from attnchain_interp.errors import AttentionError

_ENDS: Final = (0.005, 0.995)  # quantiles
_ALIKE: Final = 0.95  # of the end: above it, values are all alike


@final
@dataclass(frozen=True)
class Scale:
    """A scale of colours from zero to the greatest value, or symmetric about zero for scores with a sign.

    Zero always has its own colour: a constant map differs from an all-zero map.

    Attributes:
        greatest: the value, or the magnitude, at the end of the colours; positive.
        signed: whether there are colours for both signs.
        begin: the value at the beginning of the colours of a scale without a sign.
        note: where the colours begin and end, in words; empty where they go from zero to the greatest value.
    """

    greatest: float
    signed: bool
    begin: float = 0.0
    note: str = ""

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

    @classmethod
    def robust(cls, maps: Iterable[NDArray[np.float64]], signed: bool | None = None, from_zero: bool = False) -> Scale:
        """Returns the scale of most values, so that a few patches do not take all colours.

        It ends at the 99.5% quantile of the sizes where the greatest is more than twice that. It begins at the 0.5% quantile
        where that is more than half of the end, and the values are not all alike: such maps are far from zero everywhere.
        `from_zero` begins it at zero all the same.

        >>> Scale.robust([np.array([0.0, 2.0])])
        Scale(greatest=2.0, signed=False, begin=0.0, note='')
        >>> Scale.robust([np.array([*[1.0] * 300, 9.0])])
        Scale(greatest=1.0, signed=False, begin=0.0, note=', up to the 99.5% quantile')
        >>> Scale.robust([np.linspace(8.0, 10.0, 201)]).note
        ', from the 0.5% quantile'
        """
        several = [np.ravel(each) for each in maps if each.size]
        whole = cls.of(several, signed)
        low, end = map(float, np.quantile(np.abs(np.concatenate(several or [np.zeros(1)])), _ENDS))
        clips = 0 < 2 * end < whole.greatest
        greatest = end if clips else whole.greatest
        begin = low if not (whole.signed or from_zero) and greatest / 2 < low < _ALIKE * greatest else 0.0
        first, last = (f"the {each:.1%} quantile" for each in _ENDS)
        notes = {(True, True): f", from {first} to {last}", (True, False): f", from {first}", (False, True): f", up to {last}"}
        return cls(greatest, whole.signed, begin, notes.get((begin > 0, clips), ""))

    @property
    def least(self) -> float:
        return -self.greatest if self.signed else self.begin

    def extend(self, values: NDArray[np.float64]) -> Literal["neither", "min", "max", "both"]:
        """Returns at which ends a colour bar of these values has an arrow: where values lie beyond the colours."""
        below, above = bool((values < self.least).any()), bool((values > self.greatest).any())
        return "both" if below and above else "min" if below else "max" if above else "neither"

    @property
    def norm(self) -> Normalize:
        return Normalize(self.least, self.greatest)


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
