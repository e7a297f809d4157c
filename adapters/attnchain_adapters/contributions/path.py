"""The functions that a model puts the output of its heads through, from its attention to the addition to a block's input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnchain_adapters.contributions.steps import Gate, Step, Steps, sent
from attnchain_adapters.softmaxes.kept_probabilities import CAST, KEPT, SHAPED

_ALIKE: Final = 1e-3  # of the greatest entry: how far the biases of two tokens may be apart, by rounding
_LAID: Final = SHAPED | CAST | KEPT  # functions that move numbers and change none


@final
@dataclass(frozen=True, eq=False)
class PathParts:
    """A path as a sum: its output is scale ⊙ Σ_h W^h (gate^h ⊙ v^h) + bias. The fields are those of `AttentionBlock`.

    Attributes:
        laid: brings a tensor that is laid out as the output into (batch, token, width).
    """

    values: Tensor
    projection: Tensor | None
    bias: Tensor
    laid: Callable[[Tensor], Tensor]
    gate: Tensor | None = None
    scale: Tensor | None = None


@final
class ContributionPath:
    """The functions between the heads and the addition, which take the output of the heads alone.

    Args:
        steps: the functions, the first one first.
        refused: makes the error that the block of this path is not a sum over tokens, for a reason.
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
        laid = self._layout(attended.shape, values)
        gate, scale = self._gates(values.shape, attended.shape, laid)
        known = self._linear(values.shape, attended.shape[-1])
        if known is not None and gate is None and scale is None:
            return PathParts(values, *known, laid)
        zero = torch.zeros_like(values)
        offset, bare = laid(sent(self._steps, zero)), laid(sent(self._steps, zero, gated=False))
        alike = float((offset - offset[:1, :1]).abs().max()) <= _ALIKE * float(attended.abs().max())
        if not alike and gate is None and scale is None:
            raise self._refused("the term added to it differs from token to token and is not a bias")
        bias = offset[0, 0] if alike else offset
        if known is not None:
            return PathParts(values, known[0], bias, laid, gate, scale)
        batch, heads, n, dim = values.shape
        rounds = -(-heads * dim // (batch * n))
        if rounds <= heads or (gate is not None and gate.shape[-1] > 1):
            units = torch.eye(heads * dim, dtype=values.dtype, device=values.device)
            units = F.pad(units, (0, 0, 0, rounds * batch * n - len(units))).view(rounds, batch, n, heads, dim).transpose(2, 3)
            rows = [laid(sent(self._steps, unit.contiguous(), gated=False)) - bare for unit in units]
            projection = torch.cat(rows).flatten(0, 1)[: heads * dim].unflatten(0, (heads, dim))
            return PathParts(values, projection, bias, laid, gate, scale)
        alone = torch.eye(heads, dtype=values.dtype, device=values.device)[:, None, :, None, None] * values
        values = torch.stack(
            [laid(sent(self._steps, one, gated=False)) - bare for one in alone], 1
        )  # fewer than by unit vectors
        return PathParts(values, None, bias, laid, gate, scale)

    def _linear(self, shape: torch.Size, width: int) -> tuple[Tensor, Tensor] | None:
        """The projection (head, dim, width) and the bias of a path with one `F.linear` and nothing else that computes."""
        computing = [step for step in self._steps if isinstance(step, Step) and step.function not in _LAID]
        weight = computing[0].weight if len(computing) == 1 else None
        if weight is None or type(weight) not in (Tensor, nn.Parameter):  # quantised weights compute in their own way
            return None
        _, heads, _, dim = shape
        channels = torch.arange(heads * dim, dtype=torch.int32, device="cpu").view(heads, 1, dim).expand(shape)
        channels = _shaped(self._steps[: self._steps.index(computing[0])], channels)
        if channels.shape[-1] != heads * dim or weight.shape != (width, heads * dim):
            return None
        order = channels.reshape(-1, heads * dim)[0]  # head and dim of each channel
        projection, bias = weight.mT, computing[0].bias
        if bool((order.diff() != 1).any()):
            projection = projection[order.argsort().to(weight.device)]
        return projection.unflatten(0, (heads, dim)), weight.new_zeros(width) if bias is None else bias

    def _layout(self, output: torch.Size, heads: Tensor) -> Callable[[Tensor], Tensor]:
        """Brings a tensor laid out as the output into (batch, token, width).

        As many examples as tokens are told apart by where the first example comes out.
        """
        shape, (batch, _, n, _) = tuple(output[:-1]), heads.shape
        if shape == (n,) and batch == 1:
            return lambda tensor: tensor[None]
        swapped = shape == (n, batch)
        if batch == n > 1 and swapped:
            first = torch.zeros_like(heads)
            first[0] = 1
            swapped = bool(
                (sent(self._steps, first, gated=False) != sent(self._steps, 0 * first, gated=False)).any(-1)[1:].any()
            )
        if swapped and n > 1:
            return lambda tensor: tensor.transpose(0, 1)
        if shape == (batch, n):
            return lambda tensor: tensor
        raise self._refused(f"its output is {tuple(output)}, not (batch, token, width)")

    def _gates(
        self, shape: torch.Size, output: torch.Size, laid: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor | None, Tensor | None]:
        """The products of all gates before the projection (batch, head, query, dim), and after it (batch, query, width).

        One number for a token can be anywhere, since it commutes with everything.
        """
        gate = scale = None
        for number, step in enumerate(self._steps):
            if isinstance(step, Step):
                continue
            factor, before = step.factor, self._steps[:number]
            if factor.shape[-1] == 1 and step.shape.numel() == output[:-1].numel() * step.shape[-1]:
                scale = _times(scale, laid(factor.expand(*step.shape[:-1], 1).reshape(*output[:-1], 1)))
            elif all(isinstance(each, Gate) or each.function in _LAID for each in before):
                found = torch.empty(shape, dtype=factor.dtype, device=factor.device)
                places = _shaped(before, torch.arange(shape.numel(), device="cpu").view(shape)).flatten().to(factor.device)
                found.view(-1)[places] = factor.expand(step.shape).flatten()
                gate = _times(gate, found[..., :1] if bool((found == found[..., :1]).all()) else found)
            elif step.shape == output:
                scale = _times(scale, laid(factor.expand(output)))
            else:
                raise self._refused("a gate stands between its projections")
        return gate, scale


def _times(one: Tensor | None, other: Tensor) -> Tensor:
    return other if one is None else one * other


def _shaped(steps: Steps, places: Tensor) -> Tensor:
    """Where numbers of the heads (batch, head, query, dim) are after the steps that reshape."""
    for step in steps:
        if isinstance(step, Step) and step.function in SHAPED:
            try:
                places = step.call(places)
            except RuntimeError:  # a view of numbers that lie in the order of their axes
                places = step.call(places.contiguous())
    return places
