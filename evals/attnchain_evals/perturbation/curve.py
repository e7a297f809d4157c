"""A perturbation curve: its points, its area, its picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from numbers import Real
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from attnchain_interp import AttentionError
from attnchain_interp.checks import check_one_of, check_whole_number
from attnchain_interp.reprs import counted

Mode = Literal["deletion", "insertion"]
Order = Literal["morf", "lerf", "random"]
Rounding = Literal["nearest", "up"]


@final
@dataclass(frozen=True, eq=False)
class PerturbationCurve:
    """The score of the target class against the fraction of features deleted or inserted.

    Attributes:
        fractions: (step,), after rounding to whole features. (batch, step) for a label map, because its examples have
            different numbers of features.
        scores: (batch, step), of the target.
        features: the features that were removed, in words: "14 × 14 patches".
    """

    fractions: Tensor
    scores: Tensor
    features: str = ""

    def __repr__(self) -> str:
        batch, steps = self.scores.shape
        removed = f" of {self.features}" if self.features else ""
        area = f", mean AUC {float(self.auc.mean()):.3f}" if steps > 1 else ""
        return f"PerturbationCurve(batch {batch}, {counted(steps, 'step')}{removed}{area})"

    def _repr_html_(self) -> str | None:
        """Returns the mean curve as inline SVG. None for one step, negative scores, or fractions of each example."""
        if self.fractions.ndim != 1 or len(self.fractions) < 2 or bool((self.scores < 0).any()):
            return None
        mean, left, top, size = self.scores.mean(0), 40, 10, 260
        high = max(float(mean.max()), 1e-9)
        pairs = zip(self.fractions.tolist(), mean.tolist(), strict=True)
        points = " ".join(f"{left + size * x:.1f},{top + size * (1 - y / high):.1f}" for x, y in pairs)
        return f"""<svg role="img" aria-label="mean curve" viewBox="0 0 320 300" width="320" font-size="12"
font-family="sans-serif" fill="currentColor">
<path fill="none" stroke="currentColor" d="M{left} {top}V{top + size}H{left + size}"/>
<text x="36" y="18" text-anchor="end">{high:.2g}</text><text x="36" y="270" text-anchor="end">0</text>
<text x="170" y="288" text-anchor="middle">fraction of {escape(self.features or "features")}, 0 to 1</text>
<text x="300" y="22" text-anchor="end">mean of {len(self.scores)}, AUC {float(self.auc.mean()):.3f}</text>
<polyline fill="none" stroke="#0072B2" stroke-width="2" points="{points}"/></svg>"""

    @property
    def auc(self) -> Tensor:
        """(batch,): the area under each curve by the trapezoidal rule, divided by the range of the fractions.

        The area is taken against the actual fractions. It lies in [0, 1] for probabilities and accuracy.

        Raises:
            AttentionError: the curve has one step.
        """
        if self.scores.shape[1] < 2:
            raise AttentionError("the curve has one step, and an area needs two.", "Pass more fractions, or ends=True.")
        area = torch.trapezoid(self.scores, self.fractions, dim=1)
        return area / (self.fractions[..., -1] - self.fractions[..., 0])

    @property
    def symmetric(self) -> Tensor:
        """(batch,) bool: true where each fraction has its complement, after rounding to whole features."""
        complements = 1 - self.fractions.flip(-1)
        return ((self.fractions - complements).abs() < 3e-7).all(-1).expand(len(self.scores))  # four units of float32

    @property
    def distinct(self) -> Tensor:
        """(batch, step) bool: false where an example of few features repeats the fraction of the step before."""
        first = torch.ones_like(self.scores[:, :1], dtype=torch.bool)
        return torch.cat([first, (self.fractions.diff(dim=-1) > 0).expand(len(first), -1)], 1)


def checked_fractions(fractions: Any) -> tuple[float, ...]:
    """Returns fractions as a tuple, which can be a key. Refuses an empty one, and what does not lie in [0, 1].

    Args:
        fractions: a sequence of numbers, or an array or tensor (step,).
    """
    numbers = fractions.tolist() if isinstance(fractions, np.ndarray | Tensor) else fractions
    listed = isinstance(numbers, Sequence) and not isinstance(numbers, str) and len(numbers) > 0
    if not listed or not all(isinstance(each, Real) and 0 <= float(each) <= 1 for each in numbers):
        raise AttentionError(
            f"fractions is {fractions!r}; it is a sequence of numbers from 0 to 1.", "Pass fractions=(0.1, 0.5)."
        )
    return tuple(numbers)


def counts_of(fractions: int | Sequence[float], sizes: Tensor, ends: bool, rounding: Rounding) -> Tensor:
    """Returns how many of `sizes` (batch,) features are taken at each step (batch, step), in rising order.

    With ends, no step repeats the one before in all examples. See `perturbation_curve` for the other arguments.
    """
    if isinstance(fractions, int):
        check_whole_number("fractions", fractions, "the number of steps")
        fractions = [step / fractions for step in range(fractions + 1)]
    wanted = sorted({*checked_fractions(fractions), *((0.0, 1.0) if ends else ())})
    check_one_of("rounding", rounding, ("nearest", "up"))
    exact = torch.tensor(wanted, dtype=torch.float64, device=sizes.device) * sizes[:, None]
    counts = (exact.round() if rounding == "nearest" else (exact - 1e-9).ceil()).long()  # 0.1 of 30 is 3, not 4
    return counts.unique(dim=1) if ends else counts
