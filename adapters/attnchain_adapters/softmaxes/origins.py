"""Finds softmaxes in a forward: those of torch's functions, and those that a model writes by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, final
from weakref import ref

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

from attnchain_adapters.softmaxes.einsum_labels import einsum_labels
from attnchain_adapters.softmaxes.kept_probabilities import SHAPED

SOFTMAX: Final = frozenset(
    [
        *(torch.softmax, Tensor.softmax, F.softmax, torch.special.softmax, F.gumbel_softmax, F.softmin),
        *(torch.log_softmax, Tensor.log_softmax, F.log_softmax, torch.special.log_softmax),
    ]
)
SUM: Final = frozenset((torch.sum, Tensor.sum))
_TOTAL: Final = SUM | {torch.logsumexp, Tensor.logsumexp, torch.special.logsumexp}
STARTS: Final = SOFTMAX | _TOTAL | {F.normalize, torch.einsum}
_ADD: Final = frozenset((torch.add, Tensor.add, Tensor.add_))
SHIFT: Final = _ADD | frozenset((torch.clamp, Tensor.clamp, torch.clamp_min, Tensor.clamp_min))
DIVIDE: Final = frozenset((torch.div, Tensor.div, Tensor.div_, torch.true_divide, Tensor.true_divide, Tensor.__truediv__))
MULTIPLY: Final = frozenset((torch.mul, Tensor.mul, Tensor.mul_))
INVERT: Final = frozenset((torch.reciprocal, Tensor.reciprocal, Tensor.__rtruediv__, Tensor.pow, torch.pow))
_SUBTRACT: Final = frozenset((torch.sub, Tensor.sub, Tensor.sub_, Tensor.__sub__))


@final
@dataclass(frozen=True)
class _Total:
    """The sum or the log-sum-exp of a tensor over an axis, or the inverse of that sum.

    Attributes:
        source: the tensor.
        axis: from its beginning.
        undone_by: the functions of both that give a softmax, or its logarithm.
    """

    source: ref[Tensor]
    axis: int
    undone_by: frozenset[Any]


@final
class SoftmaxOrigins:
    """Remembers sums, and knows a tensor that is divided by its own sum, or less its own log-sum-exp, for a softmax."""

    def __init__(self) -> None:
        self._totals: Any = WeakIdKeyDictionary()

    def __bool__(self) -> bool:
        return bool(self._totals)

    def axis(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> int | None:
        """Takes the next function of a forward. Returns the axis over which its result is a softmax; None if it is none."""
        if not isinstance(result, Tensor):
            return None
        if function in SOFTMAX:
            return _whole(axis_given(args, kwargs))
        if function is F.normalize:
            power, axis = [*args[1:3], *(kwargs.get(name, value) for name, value in (("p", 2.0), ("dim", 1))[len(args) - 1 :])]
            return _whole(axis) if power == 1 else None
        first, second = (*args[:2], None, None)[:2]
        if function is torch.einsum and len(args) == 2 and isinstance(second, Tensor):
            labels, out = einsum_labels(args[0], [second])
            self._summed(second, labels, out, result)
        if not isinstance(first, Tensor):
            return None
        if function in _TOTAL and (axis := _whole(axis_given(args, kwargs))) is not None:
            self._totals[result] = _Total(ref(first), axis % first.ndim, DIVIDE if function in SUM else _SUBTRACT)
        elif len(self._totals):
            if first in self._totals and function in SHIFT | SHAPED:
                self._totals[result] = self._totals[first]
            elif isinstance(second, Tensor) and second in self._totals and function in _ADD:
                self._totals[result] = self._totals[second]
            elif first in self._totals and function in INVERT:
                self._totals[result] = replace(self._totals[first], undone_by=MULTIPLY)
            elif isinstance(second, Tensor):
                pair = (second, first) if first in self._totals and function in MULTIPLY else (first, second)
                return self._undone(function, *pair)
        return None

    def _summed(self, operand: Tensor, labels: list[str], out: list[str], result: Tensor) -> None:
        """Remembers the sum that an einsum of one tensor takes, where it is over one axis."""
        gone = [place for place, each in enumerate(labels) if each not in out]
        if len(gone) == 1 and [each for each in labels if each in out] == out:
            self._totals[result] = _Total(ref(operand), gone[0], DIVIDE)

    def _undone(self, function: Any, tensor: Tensor, total: Tensor) -> int | None:
        """The axis over which a tensor is a softmax now, if the function divides it by its own total."""
        found = self._totals.get(total)
        if found is None or found.source() is not tensor or function not in found.undone_by:
            return None
        sums = (*tensor.shape[: found.axis], 1, *tensor.shape[found.axis + 1 :])
        return found.axis if total.shape in (sums, tensor.shape) else None


def axis_given(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Returns the axis among the arguments of a function of one tensor."""
    return args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis"))


def _whole(axis: Any) -> int | None:
    if isinstance(axis, list | tuple) and len(axis) == 1:
        axis = axis[0]
    return axis if isinstance(axis, int) else None
