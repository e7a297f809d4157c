"""Traces a layer's attention in a running model, from its map to the addition to the input of its block."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_adapters.attention_calls import AttentionCall
from attnchain_interp import AttentionError
from attnchain_interp.capture import AttentionBlock, LayerNorm

Step = Callable[[Tensor], Tensor]

_ADD: Final = (torch.add, Tensor.add, Tensor.add_)
_READ: Final = (F.linear, Tensor.__getitem__)  # functions that take a sum as it is
_LAYER_NORM: Final = inspect.signature(F.layer_norm)
_ALIKE: Final = 1e-3  # of the greatest entry: how far the biases of two tokens may be apart, by rounding


@final
class ContributionTrace:
    """Follows one layer, function by function, and takes the output of its attention block apart.

    The trace keeps the model's own functions between the output of the heads and the addition, and sends the values of each
    head through them alone. No knowledge of projections, layer scales and reshapes is needed. The result is a sum over heads
    and tokens only if these functions are linear; `AttentionBlock` checks the sum.

    Args:
        name: of the model and the layer, for messages.
        given: for each module around the attention that is running, the outermost first, the tensors that it was given; kept
            up to date. The output of attention is added to one of those at the start.
    """

    def __init__(self, name: str, given: Sequence[Sequence[Tensor]]) -> None:
        self._name, self._given = name, given
        self._inputs = {id(tensor): tensor for tensors in given for tensor in tensors}
        self._call: AttentionCall | None = None
        self._paths: dict[int, tuple[Tensor, tuple[Step, ...]]] = {}
        self._sum: tuple[Tensor, Tensor, Tensor] | None = None
        self._path: tuple[Step, ...] = ()
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

    def begin(self, call: AttentionCall, result: Any) -> None:
        """Takes the layer's use of attention, and what the torch function returned. The trace begins here."""
        if call.route == "multi-head":
            self._paths[id(result[0])] = result[0], (lambda heads: call.output(heads)[0],)
        else:
            self._paths[id(result)] = result, (call.output,)
        values = call.values  # now: the model may change the tensors of the call in place
        self._call = replace(call, make_values=lambda: values)

    def follow(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Takes the next function of the model, and its result. Ignores all functions before the layer has attended."""
        if self._call is not None and isinstance(result, Tensor):
            follow = self._step if self._sum is None else self._after
            follow(function, args, kwargs, result)

    def block(self) -> AttentionBlock:
        """Returns the output of the block, taken apart.

        Raises:
            AttentionError: the layer has not attended, its output is not added to the block's input, the use of the sum is not
                known, or something is added that is not a bias.
        """
        if self._call is None:
            raise self._refused("it has not attended")
        attention, values = self._call.attention, self._call.values
        if attention.shape[-2:] != (values.shape[2],) * 2:
            raise self._refused(f"it attends from {attention.shape[-2]} to {attention.shape[-1]} tokens")
        if self._sum is None:
            raise self._refused(
                "its output is not added to an input of a module around it (attention beside a feed-forward network, a"
                " normalisation or a gate before the addition)"
            )
        norm, output = self._normalised(self._sum[-1])
        alone = values.new_zeros(values.shape)
        nothing = self._sent(alone)
        laid = self._layout(nothing, alone)
        offset, (attended, residual, _) = laid(nothing), (laid(tensor) for tensor in self._sum)
        bias = offset[0, 0]
        if float((offset - bias).abs().max()) > _ALIKE * float(attended.abs().max()):
            raise self._refused("the term added to it differs from token to token and is not a bias")
        each = []
        for head in range(values.shape[1]):
            alone[:, head] = values[:, head]
            each.append(laid(self._sent(alone)) - bias)
            alone[:, head] = 0
        return AttentionBlock(self._name, attention, torch.stack(each, 1), bias, attended, residual, norm, laid(output))

    def _step(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> None:
        """Goes along with the output of the heads, until it is added to an input of the block."""
        given: dict[int | str, Any] = {**dict(enumerate(args)), **kwargs}
        places = [place for place, value in given.items() if id(value) in self._paths]
        if len(places) != 1:
            return
        attended, path = self._paths[id(given[places[0]])]
        residual = [value for value in given.values() if id(value) in self._inputs]
        if function in _ADD and residual:
            self._sum, self._path, self._views = (attended, residual[0], result), path, [result]
            self._paths.clear()
            around = (given for given in self._given if any(tensor is residual[0] for tensor in given))
            self._inside = next(around, None)
        else:
            self._paths[id(result)] = result, (*path, _again(function, args, kwargs, places[0]))

    def _after(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> None:
        """Notes the uses of the sum, while the outermost module that was given the block's input is running."""
        if self._inside is not None and not any(given is self._inside for given in self._given):
            return
        several = list(_tensors((*args, *kwargs.values())))
        total = next((tensor for tensor in several if any(tensor is view for view in self._views)), None)
        if total is None or result is total:
            return
        if result.data_ptr() == total.data_ptr() and result.is_contiguous() and total.is_contiguous():
            self._views.append(result)
        elif function is F.layer_norm:
            call = _LAYER_NORM.bind(*args, **kwargs)
            call.apply_defaults()
            norm = LayerNorm(*(call.arguments[part] for part in ("weight", "bias", "eps")))
            self._norms.append((norm, result.view_as(self._views[0])))
        elif function in _READ or (function in _ADD and all(tensor.shape == total.shape for tensor in several)):
            self._goes_on = True
        else:
            self._goes_elsewhere = True

    def _normalised(self, total: Tensor) -> tuple[LayerNorm | None, Tensor]:
        """The norm after the addition and the block's output: a sum to which more is added later is that output itself.

        Raises:
            AttentionError: the sum is neither carried on nor normalised by one layer norm.
        """
        if self._goes_on or not (self._norms or self._goes_elsewhere):
            return None, total
        if self._goes_elsewhere or len(self._norms) > 1:
            raise self._refused("the sum with its input is neither carried on to another addition nor given to one layer_norm")
        return self._norms[0]

    def _sent(self, heads: Tensor) -> Tensor:
        """The output of the traced functions for these outputs of heads (batch, head, query, dim)."""
        for step in self._path:
            heads = step(heads)
        return heads

    def _layout(self, nothing: Tensor, heads: Tensor) -> Callable[[Tensor], Tensor]:
        """Brings a tensor laid out as the output into (batch, token, width); known by where the first example comes out."""
        shape, (batch, _, n, _) = tuple(nothing.shape[:-1]), heads.shape
        if shape == (n,) and batch == 1:
            return lambda tensor: tensor[None]
        first = torch.zeros_like(heads)
        first[0] = 1
        moved = (self._sent(first) != nothing).any(-1)
        if shape == (batch, n) and not bool(moved[1:].any()):
            return lambda tensor: tensor
        if shape == (n, batch):
            return lambda tensor: tensor.transpose(0, 1)
        raise self._refused(f"its output is {tuple(nothing.shape)}, not (batch, token, width)")

    def _refused(self, reason: str) -> AttentionError:
        return AttentionError(
            f"{self._name}: {reason}, so the contribution of each token is not known.",
            "Capture its attention alone: capture(model, …).",
        )


def _again(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], place: int | str) -> Step:
    """The same call with another tensor at one place."""

    def step(tensor: Tensor) -> Tensor:
        if isinstance(place, str):
            return function(*args, **(kwargs | {place: tensor}))
        return function(*args[:place], tensor, *args[place + 1 :], **kwargs)

    return step


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
