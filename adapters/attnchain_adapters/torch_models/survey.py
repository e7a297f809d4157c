"""A forward that only looks: which modules attend, from how many tokens to how many, and in which way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from math import prod
from threading import get_ident
from typing import Any, Self, final

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from attnchain_adapters.attention_calls import AttentionCall
from attnchain_adapters.attention_recorder import AttentionRecorder, heads_of
from attnchain_adapters.softmax_trail import tensors_in
from attnchain_interp import Factors
from attnchain_interp.capture import plain_run


@final
@dataclass(frozen=True)
class Use:
    """One use of attention in a forward.

    Attributes:
        module: the name of the innermost module that was running; empty for the model itself.
        owner: the class of the module.
        call: the number of the module's call.
        calls: how often the model calls the module.
        shape: (batch, head, query, key) of the map; None where it cannot be read.
        folded: the first axis is batch and heads together.
        heads: the number of heads that the module says; None where it says none.
        route: see `AttentionCall`.
        causal: no query attends to a later key.
        same: whether queries and keys are the same tokens; None where nothing tells.
        padded: some key gets no attention at all.
        absent: marks keys that are padding, (batch, key), where the call says so.
        number: counts the uses of a forward from 0.
        after: the numbers of the uses whose results it was computed from.
        given: numbers the first sequence that its module was given; None where there is none.
        weighs: it weighs things that are no tokens: the experts of a router.
        reason: why the map cannot be read; empty where it can.
    """

    module: str
    owner: str
    call: int
    calls: int = 1
    shape: tuple[int, ...] | None = None
    folded: bool = False
    heads: int | None = None
    route: str = ""
    causal: bool = False
    same: bool | None = True
    padded: bool = False
    absent: Tensor | None = None
    number: int = 0
    after: frozenset[int] = frozenset()
    given: int | None = None
    weighs: bool = False
    reason: str = ""

    @property
    def layers(self) -> list[str]:
        """The names of the layers that the calls of the module are: its own name, with a number where there are several."""
        name = self.module or self.owner
        return [name] if self.calls == 1 else [f"{name}[{call}]" for call in range(self.calls)]

    @property
    def layer(self) -> str:
        return self.layers[self.call]

    def __str__(self) -> str:
        size = f", {self.shape[-2]} queries × {self.shape[-1]} keys" if self.shape else ""
        return f"{self.layer} ({self.owner}{size})"


def survey(model: nn.Module, run: Callable[[], Any]) -> list[Use]:
    """Runs a forward without gradients. Returns every use of attention in it, in order."""
    seen = _Survey(model)
    with torch.no_grad(), plain_run(model), seen:
        run()
    return [replace(use, calls=seen.entries[use.module] + 1) for use in seen.uses]


@final
class _Survey(AttentionRecorder):
    """Reads all attention, and hands none of it over."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, {}, frozenset(), self)
        self.uses: list[Use] = []
        self.entries: dict[str, int] = {}
        self._given: list[list[Tensor]] = []
        self._made_of: Any = WeakIdKeyDictionary()  # a tensor → the numbers of the uses that it was computed from
        self._sources: frozenset[int] = frozenset()
        self._begun_at: list[int] = []
        self._numbers: Any = WeakIdKeyDictionary()  # of sequences that modules were given
        self._next = count()

    def __enter__(self) -> Self:
        super().__enter__()
        for module in (each for each in self._model.modules() if not isinstance(each, torch.jit.ScriptModule)):
            self._handles.append(module.register_forward_pre_hook(self._begun, with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._done, with_kwargs=True, always_call=True))
        return self

    def _begun(self, *_: Any) -> None:
        if get_ident() == self._thread:
            self._begun_at.append(len(self.uses))

    def _done(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """What a module returns is computed from what it was given, and from its uses, in whatever way."""
        if get_ident() != self._thread or not self._begun_at:
            return
        uses = range(self._begun_at.pop(), len(self.uses))
        made_of = frozenset(uses).union(*(self._made_of.get(each, ()) for each in tensors_in((*args, *kwargs.values()))))
        for tensor in tensors_in((output,)):
            self._made_of[tensor] = made_of | self._made_of.get(tensor, frozenset())

    def take(self, name: str, attention: Tensor | Factors, sink: bool = False, value_norms: object = None) -> None:
        raise NotImplementedError("a survey takes nothing")

    def _enter(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        before = len(self._running)
        super()._enter(name, module, args, kwargs)
        if len(self._running) > before:
            self.entries[name] = self.entries.get(name, -1) + 1
            given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            self._given[before:] = [[tensor for tensor in given if tensor.is_floating_point()]]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before, used = len(self.uses), list(tensors_in((*args, *(kwargs or {}).values())))
        self._sources = frozenset().union(*(self._made_of.get(tensor, ()) for tensor in used))
        result = super().__torch_function__(func, types, args, kwargs)
        made_of = self._sources | frozenset(range(before, len(self.uses)))
        for tensor in tensors_in((result, *(args[:1] if func in (Tensor.__setitem__, Tensor.copy_) else ()))):
            self._made_of[tensor] = made_of
        return result

    def _reads(self) -> bool:
        return True

    def _read(self, call: AttentionCall | str, result: Any) -> Any:
        module, name, _ = self._running[-1] if self._running else (self._model, "", None)
        given = self._given[len(self._running) - 1] if self._running else []
        first = self._numbers.setdefault(given[0], next(self._next)) if given else None
        use = Use(
            name,
            type(module).__name__,
            self.entries.get(name, 0),
            number=len(self.uses),
            after=self._sources,
            given=first,
        )
        if isinstance(call, str):
            self.uses.append(replace(use, reason=call))
            return result
        shape, maps = tuple(call.attention.shape), call.attention
        lengths = self._lengths()
        if call.weighs or (shape[-2] == 1 and (shape[-1] not in lengths or shape[1] in lengths - {1, shape[0]})):
            self.uses.append(replace(use, shape=shape, weighs=True))
            return result
        if reason := self._no_tokens(call):
            self.uses.append(replace(use, reason=reason))
            return result
        if isinstance(maps, Factors) and maps.mask is not None:
            maps = maps.maps()
        square = shape[-1] == shape[-2]
        if isinstance(maps, Factors):
            causal, padded = maps.causal, False
        else:
            causal = square and shape[-1] > 1 and not bool(maps.triu(1).any())
            padded = not bool(maps.ne(0).any((1, 2)).all())
        self.uses.append(
            replace(
                use,
                shape=shape,
                folded=call.folded,
                heads=heads_of(module),
                route=call.route,
                causal=causal,
                same=(call.same_tokens or None) if square and call.same_tokens is not None else self._same(call),
                padded=padded,
                absent=call.absent,
            )
        )
        return result

    def _no_tokens(self, call: AttentionCall) -> str:
        """Returns why keys are no tokens: no module around was given as many, but as many as the others are."""
        *_, queries, keys = call.attention.shape
        lengths = self._lengths()
        if keys in lengths:
            return ""
        if queries == keys and call.values.shape[-1] in lengths:
            return f"it mixes the {keys} channels of each head, and its map is not over tokens"
        further = keys - queries
        if further > 0 and queries in lengths and further not in lengths:
            return f"it attends to {further} keys beside its {queries} tokens: a memory, a cache, or a key of zeros"
        return ""

    def _lengths(self) -> set[int]:
        """The numbers of tokens that the modules around can have been given."""
        return {each for given in self._given[: len(self._running)] for tensor in given for each in _lengths(tensor)}

    def _same(self, call: AttentionCall) -> bool | None:
        """Whether queries and keys are the same tokens, from what the modules around were given; None for two sequences."""
        leading, _, queries, keys = call.attention.shape
        if queries != keys:
            return False
        around = [[tensor for tensor in given if _holds(tensor, keys)] for given in self._given[: len(self._running)]]
        around = [sequences for sequences in reversed(around) if sequences]
        if call.folded:  # a helper is given heads, and the module around it the sequence
            around.sort(key=lambda sequences: sequences[0].shape[0] == leading)
        return True if not around or all(_equal(tensor, around[0][0]) for tensor in around[0]) else None


def _lengths(tensor: Tensor) -> set[int]:
    """The numbers of tokens that a sequence or an image can have, whichever of its axes are the tokens."""
    shape = tensor.shape
    return {*shape[:2]} if tensor.ndim < 4 else {prod(shape[1:-1]), prod(shape[2:])}


def _holds(tensor: Tensor, tokens: int) -> bool:
    """Returns whether a tensor is a batch of sequences of so many tokens."""
    return tensor.ndim == 3 and tokens in tensor.shape[:2]


def _equal(first: Tensor, second: Tensor) -> bool:
    return first is second or (first.shape == second.shape and torch.equal(first, second))


def sequences_given(values: Iterable[Any], nested: bool = False) -> Iterator[Tensor]:
    """Yields the tensors among the inputs of a model that can be a sequence or an image: neither flags nor masks.

    Those within a list or a dictionary count too. An image (channel, height, width) in a list is yielded as a batch of one.
    """
    for value in values:
        if isinstance(value, Mapping):
            yield from sequences_given(value.values(), nested)
        elif isinstance(value, list | tuple):
            yield from sequences_given(value, True)
        elif isinstance(value, Tensor) and value.ndim > 1 and value.dtype != torch.bool:
            yield value[None] if nested and value.ndim == 3 else value
