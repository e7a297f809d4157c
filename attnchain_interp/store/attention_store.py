"""The layer × head store of attention maps that every adapter fills and every method reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal, final

import torch
from torch import Tensor

from attnchain_interp.chain import Chain
from attnchain_interp.checks import check_type
from attnchain_interp.files import as_path
from attnchain_interp.store.chains import Direction, Sink, chain_of
from attnchain_interp.store.head_weights import Heads
from attnchain_interp.store.interop import NamedMaps, maps_to_bertviz, maps_to_xarray, named_maps, stacked
from attnchain_interp.store.layer_selection import LayerSelection, in_order, layer_name, select_layers
from attnchain_interp.store.layer_weights import LayerWeights
from attnchain_interp.store.layers import STACK, LayerAttention, checked_layers
from attnchain_interp.store.roles import Role
from attnchain_interp.store.store_repr import store_repr
from attnchain_interp.store.tokens import TokenLayout, TokenSelection

if TYPE_CHECKING:
    from xarray import DataArray


@final
class AttentionStore:
    """Attention by layer and head, as maps or as their factors, with the layout of the tokens.

    `len(store)` counts layers. `store[-1]` and `store["blocks.11.attn"]` are one `LayerAttention`. Iteration is in order.

    Args:
        layers: from the first to the last, with unique names. Maps (batch, head, query, key) are row-stochastic.
        tokens: the layout of the tokens, same batch and number of tokens as the maps. Rows of padding are not checked.
        metadata: strings to keep with the maps (model, adapter, …).
        queries: the layout of the queries, if these are other tokens than the keys: cross-attention of a decoder to its
            encoder, or the probe of a pooling head. A store holds and writes such maps, but they are not a chain.

    Raises:
        AttentionError: no layers, a name used twice, maps of a wrong shape, of another batch or number of tokens than
            the layout, with NaN or negative entries, or with rows that do not sum to one.
    """

    def __init__(
        self,
        layers: Iterable[LayerAttention],
        tokens: TokenLayout,
        metadata: Mapping[str, str] | None = None,
        queries: TokenLayout | None = None,
    ) -> None:
        self._layers = checked_layers(layers, tokens, queries)
        self.tokens, self.queries = tokens, queries
        check_type("metadata", {} if metadata is None else metadata, Mapping, 'Pass a dict, such as {"model": "mine"}.')
        self.metadata = dict(metadata or {})
        self.mapped: Path | None = None  # the file that still holds the tensors, after `read(path, mmap=True)`

    @classmethod
    def from_maps(
        cls,
        maps: Sequence[Tensor] | NamedMaps | Tensor,
        tokens: TokenLayout | None = None,
        names: Sequence[str] | None = None,
        *,
        queries: TokenLayout | None = None,
    ) -> AttentionStore:
        """Returns a store of attention tensors that another tool made.

        Args:
            maps: one tensor (batch, head, query, key) per layer (transformers' `output.attentions`, nnterp's
                `attention_probabilities`, a BertViz list); a mapping from names to such tensors; a TransformerLens cache,
                whose patterns are taken, with or without batch; or one tensor (layer, batch, …), as `maps().transpose(0, 1)`.
            tokens: the layout; that of one example stands for all. None means that every token is a text token.
            names: of the layers, if `maps` is not a mapping. None means "layer.0" and so on.
            queries: the layout of the queries, if these are other tokens than the keys.

        Raises:
            AttentionError: the errors of the class, another number of names than maps, or no maps.
        """
        named = named_maps(maps, names)
        tokens = TokenLayout.text() if tokens is None else tokens
        if isinstance(tokens, TokenLayout):
            tokens = tokens.fitted(named[0][1].shape[0], named[0][1].shape[-1])
        return cls([LayerAttention(name, tensor) for name, tensor in named], tokens, queries=queries)

    @cached_property
    def causal(self) -> bool:
        """Says whether no token attends to a later one, in any layer: the model is a decoder."""
        return all(layer.causal(self.tokens.mask) for layer in self)

    @property
    def kind(self) -> Literal["decoder", "encoder", "image"]:
        """The kind of model, by which methods choose their defaults: causal, else of patches of an image, else any other."""
        return "decoder" if self.causal else "image" if bool((self.tokens.roles == Role.PATCH).any()) else "encoder"

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[LayerAttention]:
        return iter(self._layers.values())

    def __getitem__(self, layer: int | str) -> LayerAttention:
        return self._layers[layer_name(self.names, layer)]

    def __contains__(self, layer: object) -> bool:
        return layer in self._layers if isinstance(layer, str) else layer in self._layers.values()

    @property
    def names(self) -> list[str]:
        return list(self._layers)

    @property
    def batch(self) -> int:
        return self.tokens.batch

    @property
    def unread(self) -> tuple[str, ...]:
        """The names of the modules that attended in the forward and are not in this store."""
        return tuple(filter(None, self.metadata.get("unread", "").split(", ")))

    def __repr__(self) -> str:
        return store_repr(self, self.mapped)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}\n  ac.explore(store) shows it as an interactive page.</pre>"

    def select(self, layers: LayerSelection) -> list[LayerAttention]:
        """Returns the selected layers: "all", a name, a number, a slice, or a list of names and numbers.

        Raises:
            AttentionError: a layer does not exist, or nothing is selected.
        """
        return [self[name] for name in select_layers(self.names, layers)]

    def only(self, layers: LayerSelection) -> AttentionStore:
        """Returns the store of some layers, in the order in which they run. Its metadata name all layers.

        Raises:
            AttentionError: a layer does not exist, or nothing is selected.
        """
        chosen = [self[name] for name in in_order(self.names, layers)]
        metadata = {STACK: ", ".join(self.names)} if len(chosen) < len(self) else {}
        store = AttentionStore(chosen, self.tokens, metadata | self.metadata, self.queries)
        store.mapped = self.mapped
        return store

    def maps(self, layers: LayerSelection = "all") -> Tensor:
        """Returns the maps (batch, layer, head, query, key) of layers of one shape. Factors are multiplied out.

        Raises:
            AttentionError: a layer does not exist, or the layers have different shapes.
        """
        return stacked(self.select(layers))

    def chain(
        self,
        layers: LayerSelection = "all",
        heads: Heads = "mean",
        *,
        tokens: TokenSelection = None,
        direction: Direction = "incoming",
        sink: Sink = "drop",
        balanced: bool | float = False,
        layer_weights: LayerWeights = "mean",
    ) -> Chain:
        """Returns one Markov chain per example: heads restricted to the chosen tokens, and weighted means of heads and layers.

        Args:
            layers: see `select`. The mean of several maps is again a chain. Factors give a chain whose map is never built.
            heads: see `head_weights`; or "each", which keeps the heads apart.
            tokens: the states. See `states_of`. None means the patches of an image; "no-sinks" leaves out their `sinks`.
            direction: "incoming" follows attention from query to key: mass gathers where attention goes. "outgoing" is the
                reversed chain: mass gathers where attention comes from.
            sink: the treatment of attention to tokens that are not states, and to a sink in the softmax. "drop" renormalises
                the rows. "absorb" leaves them below one, and a walk that goes there ends (`expected_visits`).
            balanced: balance the chain, or that of each head for "each", or the strength of it. See `balance`.
            layer_weights: the weights of the layers in the mean. See `attnchain_interp.store.layer_weights`.

        Returns:
            A chain (batch, token, token), or (batch, head, token, token) for "each".

        Raises:
            AttentionError: the queries are other tokens; a layer, a head or a token does not exist; a token attends to none of
                the chosen tokens; layers have different numbers of heads under "each", or are on different devices; weights
                of layers that `layer_weights` refuses.
        """
        return chain_of(self, layers, heads, tokens, direction, sink, balanced, layer_weights)

    def to(self, device: torch.device | str) -> AttentionStore:
        """Returns the store with its maps on another device."""
        return AttentionStore([layer.to(device) for layer in self], self.tokens, self.metadata, self.queries)

    def to_xarray(self, layers: LayerSelection = "all") -> DataArray:
        """Returns the maps as an xarray `DataArray` (batch, layer, head, query, key) in float32 or wider, on the CPU.

        Coordinates: names of layers; `query_role`, `key_role`, and with labels `query_label`, `key_label`, (batch, token). The
        metadata are its attributes. Factors are multiplied out.

        Raises:
            AttentionError: a layer does not exist, or the layers have different shapes.
            ImportError: xarray is not installed. The message has the install line.
        """
        names = [layer.name for layer in self.select(layers)]
        return maps_to_xarray(self.maps(layers), names, self.queries or self.tokens, self.tokens, self.metadata)

    def to_bertviz(self, example: int = 0) -> tuple[list[Tensor], list[str]]:
        """Returns the arguments of BertViz: `head_view(*store.to_bertviz())`, and `model_view` likewise.

        The attention is one float32 tensor (1, head, query, key) per layer, on the CPU, without padding. The tokens are the
        labels of the layout; without labels, role and position ("text 3"), or row and column ("patch 0,5").

        Raises:
            AttentionError: the example does not exist, or the layers have different shapes.
        """
        return maps_to_bertviz(self.maps(), self.queries, self.tokens, example)

    def write(self, path: str | Path) -> None:
        """Writes maps or factors, layout and metadata as one safetensors file with a checksum, whole or not at all.

        Raises:
            AttentionError: metadata or labels that are not strings of UTF-8, no such folder, a file or folder that must not
                be written, a disk that is full or fails. Nothing is left behind, and an earlier file stays as it was.
        """
        from attnchain_interp.store.safetensors_file import write_layers  # loads pydantic

        write_layers(as_path(path), self, self.tokens, self.metadata, self.queries)

    @staticmethod
    def read(path: str | Path, *, mmap: bool = False, verify: bool = False) -> AttentionStore:
        """Returns the store that `write` put into a file.

        Args:
            path: of the file.
            mmap: leave the tensors in the file. The store changes when somebody writes into the file, and the process is
                killed when somebody shortens it; `write` replaces a file, and does neither.
            verify: compare the tensors with the checksum of the file.

        Raises:
            AttentionError: no such file, no store, or a damaged one. The message names the file, the field and what came.
        """
        from attnchain_interp.store.safetensors_file import read_store  # loads pydantic

        path = as_path(path)
        store = read_store(path, mmap, verify, AttentionStore)
        store.mapped = path if mmap else None
        return store
