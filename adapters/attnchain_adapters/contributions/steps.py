"""Steps of a path from the heads of a layer to its addition: functions of one tensor, and gates."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.nn import functional as F

_MULTIPLY: Final = (torch.mul, Tensor.mul, Tensor.mul_, torch.multiply, Tensor.multiply)
_DIVIDE: Final = (torch.div, Tensor.div, Tensor.div_, torch.true_divide, Tensor.true_divide)
LAYER_NORM: Final = inspect.signature(F.layer_norm)
_RMS_NORM: Final = inspect.signature(F.rms_norm)


@final
@dataclass(frozen=True, eq=False)
class Step:
    """A call of a function of torch, for another tensor at the place of the one that it was given.

    Attributes:
        function: of torch.
        call: calls it for the other tensor.
        weight, bias: those of `F.linear`.
    """

    function: Any
    call: Callable[[Tensor], Tensor]
    weight: Tensor | None = None
    bias: Tensor | None = None


@final
@dataclass(frozen=True, eq=False)
class Gate:
    """A product of a tensor of this shape with a factor that differs from token to token."""

    factor: Tensor
    shape: torch.Size


Steps = tuple[Step | Gate, ...]


def sent(steps: Steps, heads: Tensor, gated: bool = True) -> Tensor:
    """Returns the output of some steps, or of those that are not gates."""
    for step in steps:
        if isinstance(step, Step):
            heads = step.call(heads)
        elif gated:
            heads = heads * step.factor.to(heads.dtype)
    return heads


def steps_of(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], place: int | str, factor: Tensor | None) -> Steps:
    """Returns the steps of a function that was called with the tensor of a path at `place`.

    A normalisation is linear but for one number per token, which becomes a gate, as it was in this call.

    Args:
        function, args, kwargs: the call.
        place: of the path's tensor: its position or keyword.
        factor: the other factor of a product, or the divisor of a quotient, where it differs from token to token.
    """
    tensor: Tensor = kwargs[place] if isinstance(place, str) else args[place]
    if factor is not None:
        return (Gate(1 / factor if function in _DIVIDE else factor, tensor.shape),)
    if place == 0 and function in (F.layer_norm, F.rms_norm):
        signature = LAYER_NORM if function is F.layer_norm else _RMS_NORM
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        given = call.arguments
        if tuple(given["normalized_shape"]) == tuple(tensor.shape[-1:]):
            return _normalisation(tensor, given["weight"], given.get("bias"), given["eps"], centred=function is F.layer_norm)

    def call_again(other: Tensor) -> Tensor:
        if isinstance(place, str):
            return function(*args, **(kwargs | {place: other}))
        return function(*args[:place], other, *args[place + 1 :], **kwargs)

    if function is F.linear and place == 0:
        given = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
        return (Step(function, call_again, given["weight"], given.get("bias")),)
    return (Step(function, call_again),)


def _normalisation(tensor: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float | None, centred: bool) -> Steps:
    def centre(other: Tensor) -> Tensor:
        return other - other.mean(-1, keepdim=True)

    def affine(other: Tensor) -> Tensor:
        other = other if weight is None else other * weight
        return other if bias is None else other + bias

    wide = tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
    eps = torch.finfo(tensor.dtype).eps if eps is None else eps
    squares = (centre(wide) if centred else wide).square().mean(-1, keepdim=True)
    gate, after = Gate((squares + eps).rsqrt(), tensor.shape), Step(affine, affine)
    return (Step(centre, centre), gate, after) if centred else (gate, after)


def is_by_token(tensor: Any, path: Tensor) -> bool:
    """Returns whether a value is a tensor with a number, or a vector, for each token of a path's tensor (…, token, width).

    For one example of one token, it has as many axes as the path's tensor; a weight that is spread over tokens has fewer.
    """
    return isinstance(tensor, Tensor) and (any(size > 1 for size in tensor.shape[:-1]) or tensor.shape[:-1] == path.shape[:-1])


def factor_of(function: Any, places: Sequence[int | str], given: dict[int | str, Any], own: Callable[[Any], bool]) -> Any:
    """Returns the place of a path's tensor in a product, and the other factor where it differs from token to token.

    A factor that was computed from the path (`own`) must be one number for a token: the scale of a normalisation.
    Returns None where there is no such factor.
    """
    if function not in (*_MULTIPLY, *_DIVIDE) or len(given) < 2:
        return None
    for place in places:
        other: Any = next((value for key, value in given.items() if key != place), None)
        by_token = is_by_token(other, given[place])
        is_number = by_token and other.shape[-1] == 1 and given[place].shape[-1] > 1
        if by_token and (is_number or not own(other)) and (place == 0 or function in _MULTIPLY):
            return place, other
    return None
