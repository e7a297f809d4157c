"""Traces a layer's attention in a running model, from its map to the addition to the input of its block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_adapters.attention_calls import AttentionCall
from attnchain_adapters.contribution_path import LAYER_NORM, ContributionPath, Step, Steps, factor_of, is_by_token, steps_of
from attnchain_adapters.kept_probabilities import KEPT
from attnchain_interp import AttentionError, Factors
from attnchain_interp.capture import AttentionBlock, LayerNorm, MakeNorms

_ADD: Final = (torch.add, Tensor.add, Tensor.add_)
_READ: Final = (F.linear, Tensor.__getitem__)  # functions that take a sum as it is


@final
@dataclass(frozen=True)
class _Traced:
    """A tensor that the output of the heads has become by some steps.

    Attributes:
        alone: the same without what stands beside the attention; None where nothing was added.
    """

    tensor: Tensor
    steps: Steps
    alone: Tensor | None = None


@final
@dataclass(frozen=True)
class _Sum:
    """The addition to the input of the block: attention (laid out as in the model), input, and what they add up to.

    Attributes:
        total: None where something else is in the sum.
    """

    attended: Tensor
    steps: Steps
    residual: Tensor
    total: Tensor | None


@final
class ContributionTrace:
    """Follows one layer, function by function, and takes the output of its attention block apart.

    The trace keeps the model's own functions between the output of the heads and the addition. No knowledge of projections,
    layer scales and reshapes is needed. Products with a factor for each token are gates, and the scale of a normalisation is
    one; what is added beside the attention (a parallel feed-forward network) is left out. The result is a sum over heads and
    tokens only if the other functions are linear; `AttentionBlock` checks the sum.

    Args:
        name: of the model and the layer, for messages.
        given: for each module around the attention that is running, the outermost first, the tensors that it was given; kept
            up to date. The output of attention is added to one of those at the start.
    """

    def __init__(self, name: str, given: Sequence[Sequence[Tensor]]) -> None:
        self._name, self._given = name, given
        self._inputs = {id(tensor): tensor for tensors in given for tensor in tensors}
        self._carriers: dict[int, tuple[Tensor, Tensor]] = {}  # sums of an input and something else, with the input
        self._call: AttentionCall | None = None
        self._paths: dict[int, _Traced] = {}
        self._made: dict[int, Tensor] = {}  # tensors that were computed from the paths and are none
        self._sum: _Sum | None = None
        self._inside: Sequence[Tensor] | None = None
        self._views: list[Tensor] = []
        self._norms: list[tuple[LayerNorm, Tensor]] = []
        self._goes_on = self._goes_elsewhere = False

    @property
    def added(self) -> bool:
        """Returns whether the output of attention has been added to the input of its block."""
        return self._sum is not None

    @property
    def begun(self) -> bool:
        """Returns whether the layer has attended."""
        return self._call is not None

    @property
    def shown(self) -> tuple[Tensor | Factors, bool, MakeNorms]:
        """Returns the attention of the layer, whether its softmax had a sink, and what measures its values."""
        return self._called.attention.detach(), self._called.sink, self._called.value_norms

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
        values = call.values  # now: the model may change the tensors of the call in place
        self._call = replace(call, make_values=lambda: values)

    def follow(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Takes the next function of the model, and its result. Ignores all functions before the layer has attended."""
        if self._call is None:
            return
        if self._sum is None:
            self._step(function, args, kwargs, result)
        elif isinstance(result, Tensor):
            self._after(function, args, kwargs, result)

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
            raise self._refused("its output is not added to an input of a module around it")
        found = self._sum
        parts = ContributionPath(found.steps, self._refused).parts(values, found.attended)
        attended, residual = parts.laid(found.attended), parts.laid(found.residual)
        norm, output = self._normalised(found)
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
        given: dict[int | str, Any] = {**dict(enumerate(args)), **kwargs}
        places = [place for place, value in given.items() if id(value) in self._paths]
        if places and isinstance(result, Tensor):
            traced = self._continued(function, args, kwargs, given, places, result)
            if self._sum is not None:
                return
            if traced is not None:
                self._paths[id(result)] = traced
                return
        tensors = list(_tensors(given.values()))
        if any(self._is_made(tensor) for tensor in tensors):
            self._made |= {id(tensor): tensor for tensor in _tensors([result])}
        elif function in _ADD and (base := next((t for t in map(self._base, tensors) if t is not None), None)) is not None:
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
        if (len(places) > 1 and factor is None) or (factor is not None and result.shape != tensor.shape):
            return None
        if function in _ADD and others and kwargs.get("alpha", 1) == 1:
            other = others[0]
            before = result - other if result is tensor else tensor  # the addition may be in place
            if (base := self._base(other)) is not None:
                if result is base:
                    base = result - tensor
                is_alone = traced.alone is None and self._inputs.get(id(other)) is not None
                attended, total = before if traced.alone is None else traced.alone, result.clone() if is_alone else None
                self._sum, self._views = _Sum(attended.clone(), traced.steps, base.clone(), total), [result]
                around = (given for given in self._given if any(each is self._base(other) for each in given))
                self._inside = next(around, None)
                self._paths.clear()
                self._made.clear()
                return None
            if other.shape == result.shape and is_by_token(other) and not self._is_made(other):
                return _Traced(result, traced.steps, before if traced.alone is None else traced.alone)
        if factor is None and any(map(self._is_made, others)):
            return None
        if traced.alone is not None and function not in KEPT:
            return None
        return _Traced(result, (*traced.steps, *steps_of(function, args, kwargs, place, factor)), traced.alone)

    def _is_made(self, tensor: Any) -> bool:
        """Whether a tensor was computed from the output of the heads."""
        return id(tensor) in self._paths or id(tensor) in self._made

    def _base(self, tensor: Tensor) -> Tensor | None:
        """The input of the block that a tensor is, or that it holds beside something else; None for another tensor."""
        return self._inputs.get(id(tensor)) if id(tensor) in self._inputs else self._carriers.get(id(tensor), (None, None))[1]

    def _after(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> None:
        """Notes the uses of the sum, while the outermost module that was given the block's input is running."""
        if self._inside is not None and not any(given is self._inside for given in self._given):
            return
        several = list(_tensors((*args, *kwargs.values())))
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

    def _normalised(self, found: _Sum) -> tuple[LayerNorm | None, Tensor | None]:
        """The norm after the addition and the block's output: a sum to which more is added later is that output itself.

        Raises:
            AttentionError: the sum is neither carried on nor normalised by one layer norm.
        """
        if self._goes_on or not (self._norms or self._goes_elsewhere):
            return None, found.total
        if self._goes_elsewhere or len(self._norms) > 1 or found.total is None:
            raise self._refused("the sum with its input is neither carried on to another addition nor given to one layer_norm")
        return self._norms[0]

    def _refused(self, reason: str) -> AttentionError:
        return AttentionError(
            f"{self._name}: {reason}, so the contribution of each token is not known.",
            'Read its attention alone: maps="attention".',
        )


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
