"""What a capture keeps of each layer as it passes: its maps, their factors, or what reducers make of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast, final

import torch
from torch import Tensor

from attnchain_interp.capture.attention_block import AttentionBlock, Measure, check_measure
from attnchain_interp.capture.reducers import Reducer, SecondEigenvalues
from attnchain_interp.chain.chain import Chain
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators.factors import Factors
from attnchain_interp.reprs import brief
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.layers import LayerAttention
from attnchain_interp.store.tokens import TokenLayout

Keep = Literal["auto", "maps", "factors"] | Sequence[Reducer]
Edit = Callable[[str, Tensor], Tensor]

MAX_BYTES: Final = 2**31
_TOGETHER: Final = 2**24  # bytes of maps built at once to be reduced
_BUILT: Final = 2048  # tokens up to which a map is built to be reduced: one head's fits in there

log = logging.getLogger("attnchain_interp")


@final
@dataclass(frozen=True)
class Reductions:
    """What reducers made of a forward pass.

    Attributes:
        results: by the reducer's name, one tensor (batch, head, …) per layer.
        names: of the layers, from the first to the last.
        tokens: the layout of the tokens.
        metadata: as of a store.
    """

    results: Mapping[str, list[Tensor]]
    names: list[str]
    tokens: TokenLayout
    metadata: Mapping[str, str]

    def __repr__(self) -> str:
        layers = f"{len(self.names)} layers ({self.names[0]} … {self.names[-1]})"
        results = ", ".join(f"{name}: {brief(tensors[0])}" for name, tensors in self.results.items())
        return f"Reductions of {layers}, of each {results}"

    def __getitem__(self, reducer: str) -> Tensor:
        """(batch, layer, head, …): the result of a reducer, by its name.

        Raises:
            AttentionError: no reducer of this name, or layers of different shapes.
        """
        if reducer not in self.results:
            raise AttentionError(f"nothing is called {reducer!r}; the capture kept {', '.join(self.results)}.")
        several = self.results[reducer]
        if len({result.shape for result in several}) > 1:
            raise AttentionError(
                f"the layers' {reducer} differ in shape and cannot be stacked; take them one by one: results[{reducer!r}]."
            )
        return torch.stack(several, 1)


@final
class Keeping:
    """Takes each layer's attention as it is recorded, and gives the result of the capture in the end.

    An adapter calls `expect` before the forward, `take` (or, where there is a `measure`, `take_block`) for every layer during
    it, and `result` after it.

    Args:
        keep: "maps", "factors", reducers, or "auto": maps while they fit into `max_bytes`, factors from there on.
        max_bytes: for "auto".
        edit: layer name and map (batch, head, query, key) → the map that the model goes on with; in the model's graph where
            gradients are enabled. None lets it compute what it would; a recorder may then leave its own call as it is.
        measure: of the contributions that are kept in place of attention, one map (batch, 1, query, key) per layer.

    Raises:
        AttentionError: something else, no reducers, or two of one name.
    """

    def __init__(
        self, keep: Keep = "auto", max_bytes: int = MAX_BYTES, edit: Edit | None = None, measure: Measure | None = None
    ) -> None:
        reducers = [] if isinstance(keep, str) else list(keep)
        known = keep in ("auto", "maps", "factors") if isinstance(keep, str) else bool(reducers)
        if not known or not all(hasattr(reducer, "reduce") for reducer in reducers):
            raise AttentionError(
                f'keep={keep!r} is unknown; use "auto", "maps", "factors" or a list of reducers such as'
                " [attnchain_interp.StationaryVectors()]."
            )
        names = [reducer.name for reducer in reducers]
        if len(set(names)) < len(names):
            raise AttentionError(f"two reducers share a name ({', '.join(names)}); pass another: Bounces(…, name=…).")
        self._keep = keep if isinstance(keep, str) else "reducers"
        self._max_bytes = max_bytes
        self.edit = edit
        self.measure: Measure | None = measure
        if measure is not None:
            check_measure(measure)
        # |λ₂| first: its pass finds the stationary vectors too, and the chain remembers them
        self._reducers = sorted(reducers, key=lambda reducer: not isinstance(reducer, SecondEigenvalues))
        self._order = names
        self._tokens: TokenLayout | None = None
        self._queries: TokenLayout | None = None
        self._layers: dict[str, LayerAttention] = {}
        self._results: dict[str, dict[str, Tensor]] = {}
        self._note = ""

    def __repr__(self) -> str:
        kept = self._keep if self._keep != "reducers" else "+".join(self._order)
        return f"Keeping({kept!r}, {len(self._layers) or len(self._results)} layers taken)"

    def expect(
        self,
        tokens: TokenLayout,
        layers: int,
        heads: int,
        fused: bool,
        element: int = 4,
        queries: TokenLayout | None = None,
    ) -> None:
        """Before the forward: what will come.

        Args:
            tokens: the layout of its tokens.
            layers, heads: how many are to be kept.
            fused: whether attention goes through `scaled_dot_product_attention`, so that factors can be had.
            element: bytes of a map's element.
            queries: the layout of the queries, where they are other tokens (cross-attention, a pooling head).

        Raises:
            AttentionError: factors are wanted and not to be had, maps do not fit, or reducers are to reduce what is no chain.
        """
        self._tokens, self._queries = tokens, queries
        if queries is not None and self.measure is not None:
            raise AttentionError(
                "contributions are those of self-attention, whose output is added to its own tokens; this is attention to"
                " other tokens (cross-attention, a pooling head), of which maps can be captured: capture(model, …)."
            )
        if queries is not None and self._keep == "reducers":
            raise AttentionError(
                "reducers reduce chains, and attention to other tokens (cross-attention, a pooling head) is none; keep maps or"
                " factors."
            )
        size = layers * heads * tokens.batch * len(queries or tokens) * len(tokens) * element
        eager = (
            "this model computes attention without the fused call, so there are no factors to keep; load it with the"
            ' "sdpa" implementation'
        )
        if self._keep == "factors" and not fused:
            raise AttentionError(f'keep="factors": {eager}, or keep maps or reducers.')
        if self._keep == "auto":
            fits = size <= self._max_bytes
            if not fits and not fused:
                raise AttentionError(
                    f"the maps of {layers} layers × {heads} heads × {len(tokens)} tokens take {_text(size)}, over"
                    f" max_bytes={self._max_bytes:,}, and {eager}. Or choose layers=…, raise max_bytes, or keep reducers:"
                    " capture(model, …, keep=[attnchain_interp.StationaryVectors()])."
                )
            self._keep = "maps" if fits else "factors"
            self._note = f"{self._keep}: the maps take {_text(size)}" if fits else f"factors: maps would take {_text(size)}"
            log.info("keep='auto' keeps %s", self._note)

    def take(self, name: str, attention: Tensor | Factors, sink: bool = False) -> None:
        """During the forward: the attention of one layer, maps (batch, head, query, key) or factors.

        `sink` says that the softmax had one, which was dropped from the maps.

        Raises:
            AttentionError: a layer for the second time, other tokens than expected, or what a reducer raises; where there is a
                `measure`, which maps alone do not give.
        """
        if self.measure is not None:
            raise AttentionError(
                f"layer {name!r} showed its attention alone, and contributions are computed from its values too: text is being"
                " generated, or the adapter does not follow values. Capture one forward of the finished text."
            )
        self._take(name, attention, sink)

    def take_block(self, name: str, block: AttentionBlock) -> None:
        """During the forward, where there is a `measure`: what the output of a layer's attention block is the sum of.

        Raises:
            AttentionError: as `take`, and as `AttentionBlock.contributions`.
        """
        assert self.measure is not None, "blocks are taken for it"  # noqa: S101
        self._take(name, block.contributions(self.measure, self._checked(name, block.attention).mask))

    def _checked(self, name: str, attention: Tensor | Factors) -> TokenLayout:
        tokens = self._tokens
        assert tokens is not None, "expect comes first"  # noqa: S101
        if name in self._layers or name in self._results:
            raise AttentionError(f"layer {name!r} computed attention twice in one forward; its maps cannot be told apart.")
        expected = (tokens.batch, len(self._queries or tokens), len(tokens))
        if (attention.shape[0], *attention.shape[2:]) != expected:
            queries, keys = attention.shape[-2:]
            beside = "" if queries == keys else " (a cache of earlier keys, or a pooled sequence, gives rectangular maps)"
            raise AttentionError(
                f"layer {name!r} attends from {queries} to {keys} tokens in a batch of {attention.shape[0]}{beside}, not from"
                f" {expected[1]} to {expected[2]} in a batch of {expected[0]} as its inputs say: its sequence is not laid out"
                " as usual for this family, so scores could not be put back onto the input."
            )
        return tokens

    def _take(self, name: str, attention: Tensor | Factors, sink: bool = False) -> None:
        tokens = self._checked(name, attention)
        if self._keep == "reducers":
            self._reduce(LayerAttention(name, attention, sink), tokens)
        elif self._keep == "maps" and isinstance(attention, Factors):
            self._layers[name] = LayerAttention(name, attention.maps(), sink=attention.sinks is not None)
        elif self._keep == "factors" and not isinstance(attention, Factors):
            raise AttentionError(f'layer {name!r} showed its map but no factors; use keep="maps" or reducers.')
        else:
            attention = attention.owned() if isinstance(attention, Factors) else attention
            self._layers[name] = LayerAttention(name, attention, sink)

    def result(self, names: Sequence[str], metadata: Mapping[str, str]) -> AttentionStore | Reductions:
        """After the forward: the store, or what the reducers made, of the layers `names` in the order in which they ran."""
        assert self._tokens is not None  # noqa: S101
        notes = {"kept": self._note, "measure": self.measure}
        metadata = {**metadata, **{name: note for name, note in notes.items() if note}}
        names = [name for name in self._results or self._layers if name in names]
        if self._keep != "reducers":
            return AttentionStore([self._layers[name] for name in names], self._tokens, metadata, self._queries)
        results = {reducer: [self._results[name][reducer] for name in names] for reducer in self._order}
        return Reductions(results, list(names), self._tokens, metadata)

    def _reduce(self, layer: LayerAttention, tokens: TokenLayout) -> None:
        attention, heads, n = layer.attention, layer.heads, layer.attention.shape[-1]
        room = max(1, _TOGETHER // (4 * n * n * attention.shape[0])) if n <= _BUILT else heads
        parts: dict[str, list[Tensor]] = {reducer.name: [] for reducer in self._reducers}
        for start in range(0, heads, room):
            chosen = slice(start, start + room)
            part = attention.heads(chosen) if isinstance(attention, Factors) else attention[:, chosen]
            chains = _Chains(LayerAttention(layer.name, part, layer.sink), tokens)
            for reducer in self._reducers:
                parts[reducer.name].append(chains.reduced(reducer))
        self._results[layer.name] = {reducer: torch.cat(several, 1) for reducer, several in parts.items()}


class _Chains:
    """The chains of some heads of a layer, made once for all reducers that ask for the same states."""

    def __init__(self, layer: LayerAttention, tokens: TokenLayout) -> None:
        self._layer, self._tokens = layer, tokens
        self._made: dict[tuple[str, bool], Chain] = {}

    def reduced(self, reducer: Reducer) -> Tensor:
        """(batch, head, …) over all tokens."""
        states = self._tokens.select(reducer.tokens).to(self._layer.device)
        alike = bool((states == states[:1]).all())
        among = alike and isinstance(self._layer.attention, Factors) and not reducer.starts_anywhere
        key = (repr(reducer.tokens), among)
        if key not in self._made:
            self._made[key] = self._among(_places(states[0])) if among else self._whole(states)
        result = reducer.reduce(self._made[key], self._tokens)
        if not among or result.ndim < 3:
            return result
        whole = result.new_zeros(*result.shape[:-1], states.shape[-1])
        whole[..., _places(states[0])] = result
        return whole

    def _among(self, tokens: Tensor | slice) -> Chain:
        factors = cast("Factors", self._layer.attention)
        layer = LayerAttention("", factors.among(tokens))
        every = torch.ones(layer.attention.shape[:-1], dtype=torch.bool, device=layer.device)
        if factors.sinks is not None or every.shape[-1] > _BUILT:
            return Chain(layer.transitions().conditioned(every), every, check=False)
        return Chain(layer.maps, every, check=factors.mask is not None)  # a mask may leave a row nothing

    def _whole(self, states: Tensor) -> Chain:
        layer, over_heads = self._layer, self._layer.over_heads(states)
        if isinstance(layer.attention, Factors) and layer.attention.shape[-1] <= _BUILT:
            layer = LayerAttention(layer.name, layer.maps)
        return Chain(layer.transitions().conditioned(over_heads).scaled(columns=over_heads), over_heads, check=False)


def _places(states: Tensor) -> Tensor | slice:
    """Where `states` (token,) is true: a slice where these stand together, so that it is a view that is taken."""
    places = states.nonzero()[:, 0]
    first, last = int(places[0]), int(places[-1])
    return slice(first, last + 1) if last - first + 1 == len(places) else places


def kept(store: AttentionStore, keeping: Keeping) -> AttentionStore | Reductions:
    """What `keeping` keeps of a store that is there already."""
    fused = all(isinstance(layer.attention, Factors) for layer in store)
    keeping.expect(store.tokens, len(store), max(layer.heads for layer in store), fused, queries=store.queries)
    for layer in store:
        keeping.take(layer.name, layer.attention, layer.sink)
    return keeping.result(store.names, store.metadata)


def _text(size: int) -> str:
    power = min(3, int(math.log(max(size, 1), 1024)))
    return f"{size / 1024**power:.1f} {('B', 'KB', 'MB', 'GB')[power]}"
