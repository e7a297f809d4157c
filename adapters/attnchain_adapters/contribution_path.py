"""The functions that a model puts the output of its heads through, from its attention to the addition to a block's input."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_adapters.kept_probabilities import CAST, KEPT, SHAPED

_ALIKE: Final = 1e-3  # of the greatest entry: how far the biases of two tokens may be apart, by rounding
_MULTIPLY: Final = (torch.mul, Tensor.mul, Tensor.mul_, torch.multiply, Tensor.multiply)
_DIVIDE: Final = (torch.div, Tensor.div, Tensor.div_, torch.true_divide, Tensor.true_divide)
LAYER_NORM: Final = inspect.signature(F.layer_norm)
_RMS_NORM: Final = inspect.signature(F.rms_norm)


@final
@dataclass(frozen=True)
class Step:
    """A call of a function of torch, for another tensor at the place of the one that it was given."""

    function: Any
    call: Callable[[Tensor], Tensor]


@final
@dataclass(frozen=True)
class Gate:
    """A product of a tensor of this shape with a factor that differs from token to token."""

    factor: Tensor
    shape: torch.Size


Steps = tuple[Step | Gate, ...]


@final
@dataclass(frozen=True)
class PathParts:
    """A path as a sum: its output is scale ⊙ Σ_h W^h (gate^h ⊙ v^h) + bias. The fields are those of `AttentionBlock`.

    Attributes:
        laid: brings a tensor that is laid out as the output into (batch, token, width).
    """

    values: Tensor
    projection: Tensor | None
    gate: Tensor | None
    scale: Tensor | None
    bias: Tensor
    laid: Callable[[Tensor], Tensor]


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


def is_by_token(tensor: Any) -> bool:
    """Returns whether a value is a tensor with a number, or a vector, for each token."""
    return isinstance(tensor, Tensor) and any(size > 1 for size in tensor.shape[:-1])


def factor_of(function: Any, places: Sequence[int | str], given: dict[int | str, Any], own: Callable[[Any], bool]) -> Any:
    """Returns the place of a path's tensor in a product, and the other factor where it differs from token to token.

    A factor that was computed from the path (`own`) must be one number for a token: the scale of a normalisation.
    Returns None where there is no such factor.
    """
    if function not in (*_MULTIPLY, *_DIVIDE) or len(given) < 2:
        return None
    for place in places:
        other: Any = next((value for key, value in given.items() if key != place), None)
        is_number = is_by_token(other) and other.shape[-1] == 1 and given[place].shape[-1] > 1
        if is_by_token(other) and (is_number or not own(other)) and (place == 0 or function in _MULTIPLY):
            return place, other
    return None


@final
class ContributionPath:
    """The functions between the heads and the addition, which take the output of the heads alone.

    Args:
        steps: the functions, the first one first.
        refused: makes the error that the block of this path is no sum over tokens, for a reason.
    """

    def __init__(self, steps: Steps, refused: Callable[[str], Exception]) -> None:
        self._steps, self._refused = steps, refused

    def parts(self, values: Tensor, attended: Tensor) -> PathParts:
        """Takes the path apart, by sending the values (batch, head, key, dim), or unit vectors in their place, through it.

        Args:
            values: v.
            attended: the output of the path in the model.

        Raises:
            AttentionError: an output that is not (batch, token, width), a gate between projections, or something added that is
                not a bias.
        """
        zero = torch.zeros_like(values)
        nothing, ungated = self._sent(zero), self._sent(zero, gated=False)
        laid = self._layout(ungated, values)
        gate, scale = self._gates(values.shape, nothing.shape, laid)
        offset = laid(nothing)
        alike = float((offset - offset[:1, :1]).abs().max()) <= _ALIKE * float(attended.abs().max())
        if not alike and gate is None and scale is None:
            raise self._refused("the term added to it differs from token to token and is not a bias")
        projection, bare = None, laid(ungated)
        batch, heads, n, dim = values.shape
        rounds = -(-heads * dim // (batch * n))
        if rounds <= heads or (gate is not None and gate.shape[-1] > 1):
            units = torch.eye(heads * dim, dtype=values.dtype, device=values.device)
            units = F.pad(units, (0, 0, 0, rounds * batch * n - len(units))).view(rounds, batch, n, heads, dim).transpose(2, 3)
            rows = [laid(self._sent(unit.contiguous(), gated=False)) - bare for unit in units]
            projection = torch.cat(rows).flatten(0, 1)[: heads * dim].unflatten(0, (heads, dim))
        else:  # fewer sendings by the values of one head after the other
            alone = torch.eye(heads, dtype=values.dtype, device=values.device)[:, None, :, None, None] * values
            values = torch.stack([laid(self._sent(one, gated=False)) - bare for one in alone], 1)
        return PathParts(values, projection, gate, scale, offset[0, 0] if alike else offset, laid)

    def _sent(self, heads: Tensor, gated: bool = True) -> Tensor:
        """The output of the functions for these outputs of heads (batch, head, query, dim)."""
        for step in self._steps:
            if isinstance(step, Step):
                heads = step.call(heads)
            elif gated:
                heads = heads * step.factor.to(heads.dtype)
        return heads

    def _layout(self, nothing: Tensor, heads: Tensor) -> Callable[[Tensor], Tensor]:
        """Brings a tensor laid out as the output into (batch, token, width); known by where the first example comes out."""
        shape, (batch, _, n, _) = tuple(nothing.shape[:-1]), heads.shape
        if shape == (n,) and batch == 1:
            return lambda tensor: tensor[None]
        first = torch.zeros_like(heads)
        first[0] = 1
        moved = (self._sent(first, gated=False) != nothing).any(-1)
        if shape == (batch, n) and not bool(moved[1:].any()):
            return lambda tensor: tensor
        if shape == (n, batch):
            return lambda tensor: tensor.transpose(0, 1)
        raise self._refused(f"its output is {tuple(nothing.shape)}, not (batch, token, width)")

    def _gates(
        self, shape: torch.Size, output: torch.Size, laid: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor | None, Tensor | None]:
        """The products of all gates before the projection (batch, head, query, dim), and after it (batch, query, width).

        One number for a token can be anywhere, since it commutes with everything.
        """
        gate = scale = None
        places = torch.arange(shape.numel()).view(shape)  # where each number of the heads is now; None once they are mixed
        for step in self._steps:
            if isinstance(step, Step):
                if places is not None and step.function in SHAPED:
                    places = step.call(places).contiguous()
                elif step.function not in CAST and step.function not in KEPT:
                    places = None
                continue
            factor, tokens = step.factor, output[:-1].numel()
            if factor.shape[-1] == 1 and step.shape.numel() == tokens * step.shape[-1]:
                scale = _times(scale, laid(factor.expand(*step.shape[:-1], 1).reshape(*output[:-1], 1)))
            elif places is not None:
                found = torch.empty(shape, dtype=factor.dtype, device=factor.device)
                found.view(-1)[places.flatten().to(factor.device)] = factor.expand(step.shape).flatten()
                gate = _times(gate, found[..., :1] if bool((found == found[..., :1]).all()) else found)
            elif step.shape == output:
                scale = _times(scale, laid(factor.expand(output)))
            else:
                raise self._refused("a gate stands between its projections")
        return gate, scale


def _times(one: Tensor | None, other: Tensor) -> Tensor:
    return other if one is None else one * other
