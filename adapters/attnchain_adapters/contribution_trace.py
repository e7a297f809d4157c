"""Traces a layer's attention in a running model, from its map to the addition to the input of its block."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_adapters.attention_recorder import multi_head_call, multi_head_output, multi_head_values
from attnchain_interp import AttentionError, Factors
from attnchain_interp.capture import AttentionBlock, LayerNorm

Step = Callable[[Tensor], Tensor]

_ADD: Final = (torch.add, Tensor.add, Tensor.add_)
_PRODUCT: Final = (torch.matmul, Tensor.matmul, torch.bmm, Tensor.bmm)
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
        heads: how many the module has, where they are folded into the batch.
        given: for each module around the attention that is running, the outermost first, the tensors that it was given; kept
            up to date. The output of attention is added to one of those at the start.
    """

    def __init__(self, name: str, heads: int, given: Sequence[Sequence[Tensor]]) -> None:
        self.attention: Tensor | Factors | None = None
        self._name, self._heads, self._given = name, heads, given
        self._inputs = {id(tensor): tensor for tensors in given for tensor in tensors}
        self._maps: dict[int, Tensor] = {}
        self._values: Tensor | None = None
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

    def follow(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Takes one function that the model has called, and its result. Ignores all functions before there is `attention`."""
        if self.attention is None:
            return
        if self._values is None:
            self._mix(function, args, kwargs, result)
        elif isinstance(result, Tensor):
            follow = self._step if self._sum is None else self._after
            follow(function, args, kwargs, result)

    def block(self) -> AttentionBlock:
        """Returns the output of the block, taken apart.

        Raises:
            AttentionError: attention is not multiplied with values, its output is not added to the block's input, the use of
                the sum is not known, or something is added that is not a bias.
        """
        attention, values = self.attention, self._values
        if attention is None or values is None:
            raise self._refused("its map is not multiplied with values by a matrix product")
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

    def _mix(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Waits for the product of the map and the values."""
        if function is F.scaled_dot_product_attention:
            value: Tensor = args[2] if len(args) > 2 else kwargs["value"]
            self._begin(value.repeat_interleave(result.shape[1] // value.shape[1], 1), result)
        elif function is F.multi_head_attention_forward:
            given = multi_head_call(*args, **kwargs).arguments
            value = multi_head_values(given)
            single = value.ndim == 3  # one example, without a batch
            self._begin(
                value[None] if single else value,
                result[0],
                lambda heads: multi_head_output(heads[0] if single else heads, given),
            )
        elif not self._maps:  # the softmax that has shown the map
            self._maps[id(result)] = result
        elif function in _PRODUCT and id(args[0]) in self._maps:
            maps, value = args[0], args[1]
            if maps.ndim == 4:
                self._begin(value.expand(*maps.shape[:2], -1, -1), result)
            else:
                maps, value = maps.unflatten(0, (-1, self._heads)), value.unflatten(0, (-1, self._heads))
                self._begin(value, result, lambda heads: heads.flatten(0, 1))
            self.attention = maps
            self._maps.clear()
        elif isinstance(result, Tensor) and any(id(tensor) in self._maps for tensor in _tensors(args)):
            self._maps[id(result)] = result

    def _begin(self, values: Tensor, output: Tensor, *steps: Step) -> None:
        self._values, self._paths[id(output)] = values, (output, steps)

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
