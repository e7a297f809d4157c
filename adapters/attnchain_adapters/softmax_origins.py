"""Finds softmaxes in a forward: those of torch's functions, and those that a model writes by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, final
from weakref import ref

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

_SOFTMAX: Final = frozenset(
    [
        *(torch.softmax, Tensor.softmax, F.softmax, torch.special.softmax, F.gumbel_softmax, F.softmin),
        *(torch.log_softmax, Tensor.log_softmax, F.log_softmax, torch.special.log_softmax),
    ]
)
SUM: Final = frozenset((torch.sum, Tensor.sum))
_TOTAL: Final = SUM | {torch.logsumexp, Tensor.logsumexp, torch.special.logsumexp}
_STARTS: Final = _SOFTMAX | _TOTAL | {F.normalize}
SHIFT: Final = frozenset((torch.add, Tensor.add, Tensor.add_, torch.clamp, Tensor.clamp, torch.clamp_min, Tensor.clamp_min))
DIVIDE: Final = frozenset((torch.div, Tensor.div, Tensor.div_, torch.true_divide, Tensor.true_divide, Tensor.__truediv__))
_SUBTRACT: Final = frozenset((torch.sub, Tensor.sub, Tensor.sub_, Tensor.__sub__))


@final
class SoftmaxOrigins:
    """Remembers sums, and knows a tensor that is divided by its own sum, or less its own log-sum-exp, for a softmax."""

    def __init__(self) -> None:
        self._totals: Any = WeakIdKeyDictionary()

    def __bool__(self) -> bool:
        return bool(self._totals)

    def starts(self, function: Any) -> bool:
        """Returns whether a function may begin a softmax."""
        return function in _STARTS

    def axis(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> int | None:
        """Takes the next function of a forward. Returns the axis over which its result is a softmax; None if it is none."""
        if not isinstance(result, Tensor):
            return None
        if function in _SOFTMAX:
            return _whole(axis_given(args, kwargs))
        if function is F.normalize:
            power, axis = [*args[1:3], *(kwargs.get(name, value) for name, value in (("p", 2.0), ("dim", 1))[len(args) - 1 :])]
            return _whole(axis) if power == 1 else None
        first = args[0] if args else None
        if not isinstance(first, Tensor):
            return None
        if function in _TOTAL and result.ndim == first.ndim:
            self._totals[result] = ref(first), axis_given(args, kwargs), function in SUM
        elif len(self._totals):
            if function in SHIFT and first in self._totals:
                self._totals[result] = self._totals[first]
            elif function in DIVIDE | _SUBTRACT and len(args) > 1 and isinstance(args[1], Tensor) and args[1] in self._totals:
                source, axis, divides = self._totals[args[1]]
                if source() is first and divides == (function in DIVIDE):
                    return _whole(axis)
        return None


def axis_given(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Returns the axis among the arguments of a function of one tensor."""
    return args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis"))


def _whole(axis: Any) -> int | None:
    if isinstance(axis, list | tuple) and len(axis) == 1:
        axis = axis[0]
    return axis if isinstance(axis, int) else None
