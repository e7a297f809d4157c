"""Traces a layer's attention in a running model, from its map to the addition to the input of its block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, final

import torch
from torch import Tensor

from attnchain_adapters.contributions.block_sum import BlockSum, is_sum
from attnchain_adapters.contributions.path import ContributionPath
from attnchain_adapters.contributions.steps import Gate, Step, Steps, factor_of, is_by_token, sent, steps_of
from attnchain_adapters.recording.attention_calls import AttentionCall
from attnchain_adapters.softmaxes.kept_probabilities import KEPT
from attnchain_adapters.torch_operators import tensors_in
from attnchain_interp import AttentionError
from attnchain_interp.capture import AttentionBlock, Shown

# functions that read nothing but the type or the shape of their further tensors
_AS_ANOTHER: Final = (Tensor.type_as, Tensor.to, Tensor.view_as, Tensor.reshape_as, Tensor.expand_as)


@final
@dataclass(frozen=True, eq=False)
class _Traced:
    """A tensor that the output of the heads has become by some steps.

    Attributes:
        alone: the same without what stands beside the attention; None where nothing was added.
    """

    tensor: Tensor
    steps: Steps
    alone: Tensor | None = None


@final
class ContributionTrace:
    """Follows one layer, function by function, and takes the output of its attention block apart.

    The trace keeps the model's own functions between the output of the heads and the addition. No knowledge of projections,
    layer scales and reshapes is needed. Products with a factor for each token are gates, and the scale of a normalisation is
    one; what is added beside the attention (a parallel feed-forward network) is left out. The result is a sum over heads and
    tokens only if the other functions are linear; `AttentionBlock` checks the sum.

    Args:
        name: of the model and the layer, for messages.
        given: for each module around the attention that is running, the outermost first, the tensors that it was given, and
            those of which a norm made them; kept up to date. The output of attention is added to one of those at the start.
    """

    def __init__(self, name: str, given: Sequence[Sequence[Tensor]]) -> None:
        self._name, self._given = name, given
        self._inputs = {id(tensor): tensor for tensors in given for tensor in tensors}
        self._carriers: dict[int, tuple[Tensor, Tensor]] = {}  # sums of an input and something else, with the input
        self._call: AttentionCall | None = None
        self._paths: dict[int, _Traced] = {}
        self._made: dict[int, Tensor] = {}  # tensors that were computed from the paths and are none
        self._sum: BlockSum | None = None
        self._inside: Sequence[Tensor] | None = None  # what the outermost module was given that got the input

    @property
    def added(self) -> bool:
        """Returns whether the output of attention has been added to the input of its block."""
        return self._sum is not None

    @property
    def begun(self) -> bool:
        """Returns whether the layer has attended."""
        return self._call is not None

    @property
    def shown(self) -> Shown:
        """Returns the attention of the layer."""
        return Shown(self._called.attention.detach(), self._called.sink, self._called.value_norms)

    @property
    def _called(self) -> AttentionCall:
        """The layer's use of attention.

        Raises:
            AttentionError: it has not attended.
        """
        if self._call is None:
            raise self._refused("it has not attended")
        return self._call

    def begin(self, call: AttentionCall, result: Any) -> None:
        """Takes the layer's use of attention, and what the torch function returned. The trace begins here."""
        if call.route == "multi-head":
            self._paths[id(result[0])] = _Traced(result[0], (Step(None, lambda heads: call.output(heads)[0]),))
        else:  # the product of maps and values, laid out otherwise
            self._paths[id(result)] = _Traced(result, (Step(Tensor.view, call.output),))
        values = call.make_values().clone(memory_format=torch.contiguous_format)  # the model may change its own in place
        self._call = replace(call, make_values=lambda: values)

    def follow(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Takes the next function of the model, and its result. Ignores all functions before the layer has attended."""
        if self._call is None:
            return
        if self._sum is None:
            self._step(function, args, kwargs, result)
        elif isinstance(result, Tensor) and (self._inside is None or any(given is self._inside for given in self._given)):
            self._sum.follow(function, args, kwargs, result)

    def block(self) -> AttentionBlock:
        """Returns the output of the block, taken apart.

        Raises:
            AttentionError: the layer has not attended, its output is not added to the block's input, the use of the sum is not
                known, or as `ContributionPath.parts`.
        """
        attention, values = self._called.attention.detach(), self._called.values.detach()
        if attention.shape[-2:] != (values.shape[2],) * 2:
            raise self._refused(f"it attends from {attention.shape[-2]} to {attention.shape[-1]} tokens")
        if self._sum is None:
            raise self._refused("its output is not added to an input of a module around it, or of the norm before it")
        found = self._sum
        parts = ContributionPath(found.steps, self._refused).parts(values, found.attended)
        attended, residual = parts.laid(found.attended), parts.laid(found.residual)
        if found.use is None:
            raise self._refused("the sum with its input is neither carried on to another addition nor given to one layer_norm")
        norm, output = found.use
        output = attended + residual if output is None else parts.laid(output)
        return AttentionBlock(
            self._name,
            attention,
            parts.values,
            parts.bias,
            attended,
            residual,
            norm,
            output,
            parts.projection,
            parts.gate,
            parts.scale,
        )

    def _step(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Goes along with the output of the heads, until it is added to an input of the block."""
        given: dict[int | str, Any] = {0: args[0]} if function in _AS_ANOTHER else {**dict(enumerate(args)), **kwargs}
        places = [place for place, value in given.items() if id(value) in self._paths]
        if places and isinstance(result, Tensor):
            traced = self._continued(function, args, kwargs, given, places, result)
            if self._sum is not None:
                return
            if traced is not None:
                self._paths[id(result)] = traced
                return
        tensors = list(tensors_in(given.values()))
        if any(self._is_made(tensor) for tensor in tensors):
            self._made |= {id(tensor): tensor for tensor in tensors_in([result])}
        elif (
            is_sum(function, kwargs)
            and (base := next((t for t in map(self._base, tensors) if t is not None), None)) is not None
        ):
            self._carriers[id(result)] = result, base

    def _continued(
        self,
        function: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: dict[int | str, Any],
        places: list[int | str],
        result: Tensor,
    ) -> _Traced | None:
        """The path after a function that took its tensor; None where it ends. Notes the addition to the input."""
        place, factor = factor_of(function, places, given, self._is_made) or (places[0], None)
        traced, tensor = self._paths[id(given[place])], given[place]
        others = [value for key, value in given.items() if key != place and isinstance(value, Tensor)]
        if len(places) == 2 and factor is None and is_sum(function, kwargs):
            return self._joined(function, places, given, result)
        if (len(places) > 1 and factor is None) or (factor is not None and result.shape != tensor.shape):
            return None
        if others and is_sum(function, kwargs):
            other = others[0]
            before = result - other if result is tensor else tensor  # the addition may be in place
            if (base := self._base(other)) is not None:
                if result is base:
                    base = result - tensor
                is_alone = traced.alone is None and self._inputs.get(id(other)) is not None
                around = next((given for given in self._given if any(each is self._base(other) for each in given)), None)
                attended = before if traced.alone is None else traced.alone
                self._sum = BlockSum(attended, traced.steps, base, result, is_alone)
                self._inside = around
                self._paths.clear()
                self._made.clear()
                return None
            if other.shape == result.shape and is_by_token(other, result) and not self._is_made(other):
                return _Traced(result, traced.steps, before if traced.alone is None else traced.alone)
        if factor is None and any(map(self._is_made, others)):
            return None
        if traced.alone is not None and function not in KEPT:
            return None
        return _Traced(result, (*traced.steps, *steps_of(function, args, kwargs, place, factor)), traced.alone)

    def _joined(self, function: Any, places: list[int | str], given: dict[int | str, Any], result: Tensor) -> _Traced | None:
        """The path after a sum of two paths (a projection and its adapter), without gates; else None."""
        several = [self._paths[id(given[place])] for place in places]
        if places != [0, 1] or any(each.alone is not None or any(isinstance(s, Gate) for s in each.steps) for each in several):
            return None

        def both(heads: Tensor) -> Tensor:
            first, second = (sent(each.steps, heads) for each in several)
            return first + second

        return _Traced(result, (Step(function, both),))

    def _is_made(self, tensor: Any) -> bool:
        """Whether a tensor was computed from the output of the heads."""
        return id(tensor) in self._paths or id(tensor) in self._made

    def _base(self, tensor: Tensor) -> Tensor | None:
        """The input of the block that a tensor is, or that it holds beside something else; None for another tensor."""
        return self._inputs.get(id(tensor)) if id(tensor) in self._inputs else self._carriers.get(id(tensor), (None, None))[1]

    def _refused(self, reason: str) -> AttentionError:
        return AttentionError(
            f"{self._name}: {reason}, so the contribution of each token is not known.",
            'Read its attention alone: maps="attention".',
        )
