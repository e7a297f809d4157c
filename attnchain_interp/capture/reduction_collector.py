"""Reduces every layer's attention as it passes, and keeps the small results alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from attnchain_interp.capture.collector import Expected, Shown, told
from attnchain_interp.capture.reducers import Reducer, SecondEigenvalues
from attnchain_interp.chain import Chain
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import Factors, full_precision
from attnchain_interp.reprs import brief, counted
from attnchain_interp.store import LayerAttention, TokenLayout

_TOGETHER: Final = 2**25  # bytes of maps built at once to be reduced, as many as the solver works on together
_BUILT: Final = 2048  # tokens up to which a map is built to be reduced: one head's fits in there


@final
@dataclass(frozen=True, eq=False)
class Reductions:
    """The results of reducers for one forward pass.

    Attributes:
        results: reducer's name → one tensor (batch, head, …) per layer.
        names: the layers, from the first to the last.
        tokens: the layout of the tokens.
        metadata: strings that name the model, the adapter, …
    """

    results: Mapping[str, list[Tensor]]
    names: list[str]
    tokens: TokenLayout
    metadata: Mapping[str, str]

    def __repr__(self) -> str:
        ends = " … ".join(dict.fromkeys((self.names[0], self.names[-1])))
        layers = f"{counted(len(self.names), 'layer')} ({ends})"
        results = ", ".join(f"{name}: {brief(tensors[0])}" for name, tensors in self.results.items())
        return f"Reductions of {layers}, of each {results}"

    def __getitem__(self, reducer: str) -> Tensor:
        """Returns the result of a reducer by its name: (batch, layer, head, …).

        Raises:
            AttentionError: no reducer has this name, or the layers' results differ in shape.
        """
        if reducer not in self.results:
            raise AttentionError(f"nothing is called {reducer!r}; the capture kept {', '.join(self.results)}.")
        several = self.results[reducer]
        if len({result.shape for result in several}) > 1:
            raise AttentionError(
                f"the layers' {reducer} differ in shape and cannot be stacked.", f"Take them one by one: results[{reducer!r}]."
            )
        return torch.stack(several, 1)


@final
class ReductionCollector:
    """Gives every layer to reducers and keeps their results.

    Args:
        reducers: one or more, with different names.

    Raises:
        AttentionError: something else than reducers, none, or two with one name.
    """

    def __init__(self, reducers: Sequence[Reducer]) -> None:
        listed = list(reducers) if isinstance(reducers, list | tuple) else []
        if not listed or any(isinstance(reducer, type) or not hasattr(reducer, "reduce") for reducer in listed):
            raise AttentionError(
                f"keep={reducers!r} is unknown.",
                'Use "auto", "maps", "factors" or a list of reducers: [attnchain_interp.StationaryVectors()].',
            )
        for reducer in listed:
            if absent := [name for name in ("name", "tokens", "starts_anywhere") if not hasattr(reducer, name)]:
                raise AttentionError(
                    f"the reducer {type(reducer).__name__} has no {' and no '.join(absent)}; a reducer has name, tokens and"
                    " starts_anywhere.",
                    "Give its class name = '…', tokens = 'all' or None, and starts_anywhere = False.",
                )
        self._order = [reducer.name for reducer in reducers]
        if len(set(self._order)) < len(self._order):
            raise AttentionError(
                f"two reducers share a name ({', '.join(self._order)}).", "Pass another name: Bounces(…, name=…)."
            )
        # |λ₂| first: its pass finds the stationary vectors too, and the chain remembers them
        self._reducers = sorted(reducers, key=lambda reducer: not isinstance(reducer, SecondEigenvalues))
        self._expected: Expected | None = None
        self._results: dict[str, dict[str, Tensor]] = {}

    def __repr__(self) -> str:
        return f"ReductionCollector({'+'.join(self._order)}, {counted(len(self._results), 'layer')} taken)"

    def expect(self, expected: Expected) -> None:
        """Refuses attention to other tokens, whose maps are not chains. See `Collector.expect`."""
        if expected.queries is not None:
            raise AttentionError(
                "reducers reduce chains, and attention to other tokens (cross-attention, a pooling head) is not a chain.",
                "Keep maps or factors.",
            )
        self._expected = expected

    @full_precision()
    def take(self, name: str, shown: Shown) -> None:
        """Reduces one layer, some heads at a time. See `Collector.take`."""
        attention, expected = shown.attention, told(self._expected)
        expected.check_layer(name, attention, self._results)
        heads, n = attention.shape[1], attention.shape[-1]
        room = max(1, _TOGETHER // (4 * n * n * attention.shape[0])) if n <= _BUILT else heads
        parts: dict[str, list[Tensor]] = {reducer.name: [] for reducer in self._reducers}
        for start in range(0, heads, room):
            chosen = slice(start, start + room)
            part = attention.heads(chosen) if isinstance(attention, Factors) else attention[:, chosen]
            chains = _Chains(LayerAttention(name, part, shown.sink), expected.tokens)
            for reducer in self._reducers:
                parts[reducer.name].append(chains.reduced(reducer))
        self._results[name] = {reducer: torch.cat(several, 1) for reducer, several in parts.items()}

    def result(self, names: Sequence[str], metadata: Mapping[str, str]) -> Reductions:
        """Returns the results of the reducers. See `Collector.result`."""
        ran = [name for name in self._results if name in names]
        results = {reducer: [self._results[name][reducer] for name in ran] for reducer in self._order}
        return Reductions(results, ran, told(self._expected).tokens, metadata)


class _Chains:
    """The chains of some heads of a layer, made once for all reducers that ask for the same states."""

    def __init__(self, layer: LayerAttention, tokens: TokenLayout) -> None:
        self._layer, self._tokens = layer, tokens
        self._made: dict[tuple[bytes, bool], Chain] = {}

    def reduced(self, reducer: Reducer) -> Tensor:
        """Returns (batch, head, …) over all tokens."""
        chosen, factors = self._tokens.select(reducer.tokens).cpu(), self._layer.attention
        alike, key = bool((chosen == chosen[:1]).all()), chosen.numpy().tobytes()
        states = chosen.to(self._layer.device)
        if not alike or not isinstance(factors, Factors) or reducer.starts_anywhere:
            return _result(reducer, self._chain((key, False), lambda: self._whole(states)), self._tokens)
        places = _places(states[0])
        chain = self._chain((key, True), lambda: _among(factors, places))
        result = _result(reducer, chain, self._tokens)
        if result.ndim < 3:
            return result
        whole = result.new_zeros(*result.shape[:-1], states.shape[-1])
        whole[..., places] = result
        return whole

    def _chain(self, key: tuple[bytes, bool], make: Callable[[], Chain]) -> Chain:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _whole(self, states: Tensor) -> Chain:
        layer, over_heads = self._layer, self._layer.over_heads(states)
        if isinstance(layer.attention, Factors) and layer.attention.shape[-1] <= _BUILT:
            layer = LayerAttention(layer.name, layer.maps)
        return Chain(layer.transitions().conditioned(over_heads).scaled(columns=over_heads), over_heads, check=False)


def _result(reducer: Reducer, chain: Chain, tokens: TokenLayout) -> Tensor:
    try:
        result = reducer.reduce(chain, tokens)
    except TypeError as error:  # torch would say that the `@` of the model takes no such operands
        cause = f"the reducer {reducer.name!r} raised a TypeError: {error}"
        raise AttentionError(cause, f"Correct {type(reducer).__name__}.reduce.") from error
    wanted = tuple(chain.states.shape[:2])
    if not isinstance(result, Tensor) or tuple(result.shape[:2]) != wanted:
        raise AttentionError(
            f"the reducer {reducer.name!r} returned {brief(result)}; it must return a tensor (batch, head, …) of {wanted}.",
            f"Correct {type(reducer).__name__}.reduce.",
        )
    return result


def _among(factors: Factors, places: Tensor | slice) -> Chain:
    """The chain over some tokens alone."""
    layer = LayerAttention("", factors.among(places))
    every = torch.ones(layer.attention.shape[:-1], dtype=torch.bool, device=layer.device)
    if factors.sinks is not None or every.shape[-1] > _BUILT:
        return Chain(layer.transitions().conditioned(every), every, check=False)
    return Chain(layer.maps, every, check=factors.mask is not None)  # a mask may leave a row nothing


def _places(states: Tensor) -> Tensor | slice:
    """The positions where `states` (token,) is true: a slice, which is a view, where they stand together."""
    places = states.nonzero()[:, 0]
    first, last = int(places[0]), int(places[-1])
    return slice(first, last + 1) if last - first + 1 == len(places) else places
