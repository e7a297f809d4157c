"""A forward that only looks: which modules attend, from how many tokens to how many, and in which way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from math import prod
from typing import Any, Final, Self, final

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from attnchain_adapters.checks import takes_hooks
from attnchain_adapters.recording.attention_calls import AttentionCall, heads_of
from attnchain_adapters.recording.attention_recorder import AttentionRecorder
from attnchain_adapters.softmaxes.two_softmaxes import DOUBT, Doubt
from attnchain_adapters.torch_models.provenance import Origin, Provenance
from attnchain_adapters.torch_operators import function_of
from attnchain_interp import Factors
from attnchain_interp.capture import of_this_thread, plain_run

_APART: Final = "its keys are sorted, shifted or turned, and its queries are not, so a key is another token than its query"


@final
@dataclass(frozen=True, eq=False)
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
        number: counts the uses of a forward from 0, with products that turned out to be none.
        after: the numbers of the uses whose results it was computed from.
        given: numbers the first sequence that its module was given; None where there is none.
        weighs: it weighs things that are not tokens: the experts of a router, or the learnt values of a memory.
        width: the size of a value; None where it has no part in telling tokens from channels.
        arguments: the names of the arguments of the model from which the values were computed.
        moved: the tokens are at other places than in the arguments.
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
    width: int | None = None
    arguments: frozenset[str] = frozenset()
    moved: bool = False
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


def survey(model: nn.Module, run: Callable[[], Any], arguments: Mapping[str, Any] | None = None) -> list[Use]:
    """Runs a forward without gradients. Returns every use of attention in it, in order.

    Args:
        model, run: the model, and what runs it.
        arguments: those of the model by their names.
    """
    seen = _Survey(model, arguments or {})
    with torch.no_grad(), plain_run(model), seen:
        run()
    settled = {number for number, doubt in seen.doubts.items() if doubt.settled}
    return [replace(use, calls=seen.entries[use.module] + 1) for use in seen.uses if use.number not in settled]


@final
class _Survey(AttentionRecorder):
    """Reads all attention, and hands none of it over."""

    def __init__(self, model: nn.Module, arguments: Mapping[str, Any]) -> None:
        super().__init__(model, {}, frozenset(), None)
        self.uses: list[Use] = []
        self.doubts: dict[int, Doubt] = {}  # by the numbers of the uses that they are
        self.entries: dict[str, int] = {}
        self._given: list[list[Tensor]] = []
        self._provenance = Provenance(model, arguments)
        self._call: tuple[Any, tuple[Any, ...], dict[str, Any]] = None, (), {}
        self._origin, self._values = Origin(), Origin()  # of the arguments of the function, and of the values among them
        self._begun_at: list[int] = []
        self._numbers: Any = WeakIdKeyDictionary()  # of sequences that modules were given
        self._next = count()

    def __enter__(self) -> Self:
        super().__enter__()
        for module in filter(takes_hooks, self._model.modules()):
            self._handles.append(module.register_forward_pre_hook(of_this_thread(self._begun), with_kwargs=True))
            self._handles.append(module.register_forward_hook(of_this_thread(self._done), with_kwargs=True, always_call=True))
        return self

    def _follows(self, name: str, module: nn.Module) -> bool:
        return takes_hooks(module)

    def _begun(self, *_: Any) -> None:
        self._begun_at.append(len(self.uses))

    def _done(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self._begun_at:
            uses = range(self._begun_at.pop(), len(self.uses))
            self._provenance.returned((*args, *kwargs.values()), output, uses)

    def _enter(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        before = len(self._running)
        super()._enter(name, module, args, kwargs)
        self.entries[name] = self.entries.get(name, -1) + 1
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        self._given[before:] = [[tensor for tensor in given if tensor.is_floating_point()]]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before, call = len(self.uses), (function_of(func), args, kwargs or {})
        self._call, self._origin = call, (origin := self._provenance.given(*call[1:]))
        result = super().__torch_function__(func, types, args, kwargs)
        self._provenance.computed(*call, result, origin, range(before, len(self.uses)))
        return result

    def _reads(self) -> bool:
        return True

    def _doubt(self, doubt: Doubt) -> None:
        self.doubts[len(self.uses)] = doubt
        self._read(DOUBT, None)

    def _read(self, call: AttentionCall | str, result: Any) -> Any:
        module, name, _ = self._running[-1] if self._running else (self._model, "", None)
        self._values = self._provenance.values(*self._call)
        given = next(iter(self._given[len(self._running) - 1 :]), []) if self._running else []
        first, after = self._numbers.setdefault(given[0], next(self._next)) if given else None, self._origin.uses
        use = Use(name, type(module).__name__, self.entries.get(name, 0), number=len(self.uses), after=after, given=first)
        if isinstance(call, str):
            self.uses.append(replace(use, reason=call))
            return result
        shape, maps = tuple(call.attention.shape), call.attention
        lengths = self._lengths()
        unlike = shape[-2] == 1 and (shape[-1] not in lengths or shape[1] in lengths - {1, shape[0]})
        if call.weighs or self._values.learnt or (unlike and call.route == "softmax"):
            self.uses.append(replace(use, shape=shape, weighs=True))
            return result
        places, square = self._provenance.places(*self._call, shape), shape[-1] == shape[-2]
        if reason := self._no_tokens(call) or (_APART if square and len(places) > 1 else ""):
            self.uses.append(replace(use, reason=reason))
            return result
        if isinstance(maps, Factors) and maps.mask is not None:
            maps = maps.maps()
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
                width=None if call.route == "multi-head" else call.values.shape[-1],
                arguments=self._values.arguments,
                moved=True in places,
            )
        )
        return result

    def _no_tokens(self, call: AttentionCall) -> str:
        """Returns why the map is not over tokens; empty where it is.

        The numbers of tokens that the modules around were given tell.
        """
        *_, queries, keys = call.attention.shape
        lengths, further = self._lengths(), keys - queries
        unknown = not {keys, further} & lengths or (queries, further) in self._values.joined
        if further > 0 and queries in lengths and unknown:
            return f"it attends to {further} keys beside its {queries} tokens: a memory, a cache, or a key of zeros"
        if queries == keys not in lengths and call.values.shape[-1] in lengths:
            return f"it mixes {keys} channels, or windows of {keys} tokens, and its map is not over the tokens"
        heads = heads_of(self._running[-1][0] if self._running else self._model) or 1
        if call.attention.shape[1] == 1 < heads and queries == heads * keys not in lengths and keys in lengths:
            return f"its {queries} queries may be those of {heads} heads of {keys} tokens, folded into one axis"
        return ""

    def _lengths(self) -> set[int]:
        """The numbers of tokens that the modules around can have been given."""
        return {each for given in self._given[: len(self._running)] for tensor in given for each in _lengths(tensor)}

    def _same(self, call: AttentionCall) -> bool | None:
        """Whether queries and keys are the same tokens, from what the modules around were given; None for two sequences."""
        leading, _, queries, keys = call.attention.shape
        if queries != keys:
            return False
        around = [
            [each for each in given if each.ndim == 3 and keys in each.shape[:2]]
            for given in self._given[: len(self._running)]
        ]
        around = [sequences for sequences in reversed(around) if sequences]
        if call.folded:  # a helper is given heads, and the module around it the sequence
            around.sort(key=lambda sequences: sequences[0].shape[0] == leading)
        return True if not around or all(_equal(tensor, around[0][0]) for tensor in around[0]) else None


def _lengths(tensor: Tensor) -> set[int]:
    """The numbers of tokens that a sequence or an image can have, whichever of its axes are the tokens."""
    shape = tensor.shape
    return {*shape[:2]} if tensor.ndim < 4 else {prod(shape[1:-1]), prod(shape[2:])}


def _equal(first: Tensor, second: Tensor) -> bool:
    return first is second or (first.shape == second.shape and torch.equal(first, second))
