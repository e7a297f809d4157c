"""One layer's attention, and the layers of a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, final, runtime_checkable

import torch
from torch import Tensor

from attnchain_interp.chain.chain import check_rows
from attnchain_interp.checks import as_device, check_tensor, check_type
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import Dense, Factors, Operator, float32_or_wider
from attnchain_interp.operators.factored_map import FactoredMap, triangular
from attnchain_interp.reprs import counted
from attnchain_interp.store.layer_selection import LayerSelection
from attnchain_interp.store.tokens import TokenLayout

STACK: Final = "model_layers"  # the metadata that name all layers of a model, where a store holds some of them


@final
@dataclass(frozen=True, eq=False)
class LayerAttention:
    """The attention of one layer, as maps or as their factors.

    Attributes:
        name: the module name in the model.
        attention: maps (batch, head, query, key), or `Factors`. Cross-attention and pooled attention are not square.
        sink: the softmax had a sink that was dropped, so the rows of the maps sum to less than one.
        value_norms: ‖v‖ of each token's value in each head (batch, head, key), which the attention moves. `capture` fills it.
            None where only the attention is known. `sinks` reads it.
    """

    name: str
    attention: Tensor | Factors
    sink: bool = False
    value_norms: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.attention, Factors):
            check_tensor("attention", self.attention, "(batch, head, query, key), or Factors")
        if self.value_norms is not None:
            check_tensor("value_norms", self.value_norms, "(batch, head, key)")

    def __repr__(self) -> str:
        batch, heads, queries, keys = self.attention.shape
        size = counted(keys, "token") if queries == keys else f"{queries} queries × {keys} keys"
        kind = "factors" if isinstance(self.attention, Factors) else "maps"
        held = f"{kind}, {str(self.dtype).removeprefix('torch.')} on {self.device}"
        return f"LayerAttention({self.name!r}: batch {batch}, {counted(heads, 'head')} × {size}, {held})"

    @property
    def maps(self) -> Tensor:
        """The maps (batch, head, query, key). Factors are multiplied out here."""
        return self.attention.maps() if isinstance(self.attention, Factors) else self.attention

    @property
    def heads(self) -> int:
        return self.attention.shape[1]

    @property
    def device(self) -> torch.device:
        return self.attention.device

    @property
    def dtype(self) -> torch.dtype:
        return self.attention.query.dtype if isinstance(self.attention, Factors) else self.attention.dtype

    @property
    def below_one(self) -> bool:
        """Says whether rows sum to less than one, because of a sink."""
        return self.sink or (isinstance(self.attention, Factors) and self.attention.sinks is not None)

    def to(self, device: torch.device | str) -> LayerAttention:
        """Returns the layer on another device."""
        device = as_device(device)
        norms = None if self.value_norms is None else self.value_norms.to(device)
        return LayerAttention(self.name, self.attention.to(device), self.sink, norms)

    def check(self, queries: TokenLayout, keys: TokenLayout) -> None:
        """Checks that the maps are those of these tokens, and row-stochastic. Rows of padding are not looked at."""
        shape = tuple(self.attention.shape)
        if len(shape) != 4 or (shape[0], *shape[2:]) != (keys.batch, len(queries), len(keys)):
            raise AttentionError(
                f"layer {self.name!r} has maps of shape {shape}; with this TokenLayout they must be"
                f" ({keys.batch}, head, {len(queries)}, {len(keys)}): (batch, head, query, key).",
                "If the maps are not square (cross-attention, pooled attention), pass the layout of the queries: queries=…. A"
                " step of generate() holds its newest rows alone: capture(model.generate, …) gives all.",
            )
        if not shape[1]:
            raise AttentionError(f"layer {self.name!r} has no heads.", "Pass the maps of one head or more.")
        self._check_norms(keys)
        if not isinstance(self.attention, Factors):
            check_rows(self.attention, f"layer {self.name!r}", queries.mask[:, None].to(self.device), self.below_one)

    def _check_norms(self, keys: TokenLayout) -> None:
        norms = self.value_norms
        if norms is None:
            return
        batch, heads, _, tokens = self.attention.shape
        there = keys.mask[:, None].to(norms.device)
        if tuple(norms.shape) != (batch, heads, tokens) or bool((~(norms >= 0) & there).any()):
            raise AttentionError(
                f"value_norms of layer {self.name!r} has shape {tuple(norms.shape)}; it must hold {batch} × {heads} × {tokens}"
                " lengths (batch, head, key), none negative or NaN.",
                "Pass values.norm(dim=-1), with shared values repeated for every head; or leave value_norms out.",
            )

    def transitions(self) -> Operator:
        """Returns the map of each head (batch, head, token, token) in float32 or wider, without a restriction.

        Raises:
            AttentionError: queries and keys are of different tokens.
        """
        if self.attention.shape[-1] != self.attention.shape[-2]:
            raise no_chain(f"layer {self.name!r}", *self.attention.shape[-2:])
        if isinstance(self.attention, Factors):
            return FactoredMap(self.attention)
        return Dense(float32_or_wider(self.attention))

    def conditioned(self, states: Tensor) -> Operator:
        """Returns `transitions` with rows that sum to one over `states` (batch, token)."""
        return self.transitions().conditioned(self.over_heads(states))

    def unpadded(self, mask: Tensor) -> Operator:
        """Returns `transitions` with empty rows where `mask` (batch, token) is false: padding may hold anything."""
        return self.transitions().transposed().scaled(columns=self.over_heads(mask)).transposed()

    def leaving(self, mask: Tensor) -> Operator:
        """Returns `unpadded` with rows that sum to one, or to less where a sink takes the rest."""
        maps = self.unpadded(mask)
        sums = maps.sent_to(self.over_heads(mask))
        return maps.scaled(1 / torch.where((sums > 1) | (not self.below_one and sums > 0), sums, 1))

    def causal(self, states: Tensor) -> bool:
        """Returns whether no token among `states` (batch, token) attends to a later one, in any head."""
        if self.attention.shape[-1] != self.attention.shape[-2]:
            return False
        among = self.over_heads(states)
        if isinstance(self.attention, Factors):
            return bool(triangular(self.attention, among, upper=False).all())
        return bool(self.transitions().triangular(among, upper=False).all())

    def over_heads(self, states: Tensor) -> Tensor:
        """Returns `states` (batch, token) once for every head: (batch, head, token)."""
        return states.to(self.device)[:, None].expand(self.attention.shape[:-1])


@runtime_checkable
class Layers(Protocol):
    """The part of an `AttentionStore` from which weights, chains and sinks are made."""

    tokens: TokenLayout
    queries: TokenLayout | None
    metadata: dict[str, str]

    def __len__(self) -> int: ...

    def __getitem__(self, layer: int | str) -> LayerAttention: ...

    @property
    def names(self) -> list[str]: ...

    def select(self, layers: LayerSelection) -> list[LayerAttention]: ...

    def only(self, layers: LayerSelection) -> Layers: ...


def check_store(store: Any) -> None:
    """Refuses everything but an `AttentionStore`."""
    if not isinstance(store, Layers):
        fix = "Pass capture(model, …), or AttentionStore.from_maps(maps)."
        raise AttentionError(f"store is of type {type(store).__name__}; it must be of type AttentionStore.", fix)


def no_chain(name: str, queries: int, keys: int) -> AttentionError:
    """Returns the error of attention from these queries to other tokens."""
    return AttentionError(
        f"{name} leads from {queries} queries to {keys} other tokens (cross-attention, or a pooling head), which is not a"
        " chain.",
        "Use its rows as starts of a walk over the keys' own chain:"
        " bounce(store.chain(), cross.maps()[:, layer, head, query]).",
    )


def checked_layers(
    layers: Iterable[LayerAttention], tokens: TokenLayout, queries: TokenLayout | None
) -> dict[str, LayerAttention]:
    """Returns the layers of a store by name. See `AttentionStore`."""
    for name, layout in (("tokens", tokens), ("queries", queries)):
        if layout is not None or name == "tokens":
            check_type(name, layout, TokenLayout, "Write TokenLayout.text(mask, labels) or TokenLayout.image(grid).")
    fix = "Pass [LayerAttention(name, maps), …], or AttentionStore.from_maps(maps)."
    if isinstance(layers, Tensor | LayerAttention | Mapping) or not isinstance(layers, Iterable):
        raise AttentionError(f"layers is of type {type(layers).__name__}; it must be a list of LayerAttention.", fix)
    found: dict[str, LayerAttention] = {}
    for layer in layers:
        check_type("a layer", layer, LayerAttention, fix)
        if layer.name in found:
            raise AttentionError(f"two layers are named {layer.name!r}.", "Give each layer a name of its own.")
        if ", " in layer.name:
            raise AttentionError(
                f"a layer is named {layer.name!r}, and a comma and a space part the names of layers.", "Name it without them."
            )
        layer.check(tokens if queries is None else queries, tokens)
        found[layer.name] = layer
    if not found:
        raise AttentionError("a store needs at least one layer, and none was given.", "Pass a LayerAttention.")
    return found
