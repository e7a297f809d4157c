"""The addition of attention to the input of its block in a running model, and what the model makes of the sum."""

from __future__ import annotations

from typing import Any, Final, final

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_adapters.contributions.steps import LAYER_NORM, Steps
from attnchain_adapters.torch_operators import tensors_in
from attnchain_interp.capture import LayerNorm

_ADD: Final = (torch.add, Tensor.add, Tensor.add_)
_READ: Final = (F.linear, Tensor.__getitem__)  # functions that take a sum as it is


@final
class BlockSum:
    """The sum of attention and the input of its block, whose uses are followed.

    Args:
        attended: the output of attention, in the layout of the model.
        steps: from the heads to `attended`.
        residual: the input.
        total: the result of the addition.
        alone: whether nothing else is in the sum.
    """

    def __init__(self, attended: Tensor, steps: Steps, residual: Tensor, total: Tensor, alone: bool) -> None:
        self.attended, self.steps, self.residual = attended.clone(), steps, residual.clone()  # the model may change its own
        self._total, self._views = total.clone() if alone else None, [total]
        self._norms: list[tuple[LayerNorm, Tensor]] = []
        self._goes_on = self._goes_elsewhere = False

    def follow(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> None:
        """Takes the next function of the model, and its result. Functions of other tensors are ignored."""
        several = list(tensors_in((*args, *kwargs.values())))
        total = next((tensor for tensor in several if any(tensor is view for view in self._views)), None)
        if total is None:
            return
        if function in _ADD and all(tensor.shape == total.shape for tensor in several):
            self._goes_on = True  # also in place
        elif result is total:
            return
        elif result.data_ptr() == total.data_ptr() and result.is_contiguous() and total.is_contiguous():
            self._views.append(result)
        elif function is F.layer_norm:
            call = LAYER_NORM.bind(*args, **kwargs)
            call.apply_defaults()
            norm = LayerNorm(*(call.arguments[part] for part in ("weight", "bias", "eps")))
            self._norms.append((norm, result.clone().view_as(self._views[0])))
        elif function in _READ:
            self._goes_on = True
        else:
            self._goes_elsewhere = True

    @property
    def use(self) -> tuple[LayerNorm | None, Tensor | None] | None:
        """The norm after the addition and the block's output; None where the sum is neither carried on nor normalised once.

        A sum to which more is added later is that output itself. The output is None where something else is in the sum.
        """
        if self._goes_on or not (self._norms or self._goes_elsewhere):
            return None, self._total
        if self._goes_elsewhere or len(self._norms) > 1 or self._total is None:
            return None
        return self._norms[0]


def is_sum(function: Any, kwargs: dict[str, Any]) -> bool:
    """Returns whether a function of torch adds two tensors as they are."""
    return function in _ADD and kwargs.get("alpha", 1) == 1
