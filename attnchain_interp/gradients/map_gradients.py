"""The gradient of a target's score with respect to every attention map of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, final

import torch
from torch import Tensor

from attnchain_interp.capture import CaptureRequest, Reading
from attnchain_interp.capture.store_collector import MAX_BYTES
from attnchain_interp.capture.threads import in_turn
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.differentiable_maps import MapGraph
from attnchain_interp.gradients.gradient_collector import FactoredGradient, GradientCollector
from attnchain_interp.gradients.target import (
    SeveralScores,
    Target,
    kept_by_target,
    logits_kept,
    plain_target,
    position_read,
    selected_score,
)
from attnchain_interp.operators import float32_or_wider
from attnchain_interp.operators.tiles import rows_at_once
from attnchain_interp.store import AttentionStore, LayerSelection, Role, TokenLayout

_TILE: Final = 2**21  # entries of a map that are built at once


@final
@dataclass(frozen=True, eq=False)
class AttentionGradients:
    """The maps of a forward pass, and the gradient of a target's score with respect to each of their entries.

    `found[k]` is (maps, gradients) of a layer by number, and iteration goes from the first layer that runs to the last; both
    (batch, head, query, key) in float32 or better, rows of padding zero. `tiles` gives them some queries at a time.

    Attributes:
        store: the maps, or their queries and keys.
        gradients: of each layer of the store, a tensor (batch, head, query, key) or its factors. A tensor is zero where the
            map is zero: such an entry is masked, and nothing that the model reads changes it.
        position: (batch,) the position whose logits hold the target, where the target names one: (position, class).
    """

    store: AttentionStore
    gradients: Sequence[Tensor | FactoredGradient]
    position: Tensor | None = None

    def __repr__(self) -> str:
        return f"AttentionGradients of {self.store}"

    @classmethod
    def named(cls, store: AttentionStore, gradients: Mapping[str, Tensor]) -> AttentionGradients:
        """Returns the gradients of a store's layers. Those of masked entries are set to zero.

        Raises:
            AttentionError: a gradient that is NaN or infinite.
        """
        check_finite(store, [gradients[name] for name in store.names])
        return cls(store, [gradients[layer.name].masked_fill(layer.maps == 0, 0) for layer in store])

    @property
    def tokens(self) -> TokenLayout:
        return self.store.tokens

    def __len__(self) -> int:
        return len(self.gradients)

    def __getitem__(self, layer: int) -> tuple[Tensor, Tensor]:
        maps, gradient = self.store[layer].maps, self.gradient(layer)
        inside = (self.store.queries or self.tokens).mask[:, None, :, None].to(gradient.device)
        return float32_or_wider(maps) * inside, float32_or_wider(gradient) * inside

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self[layer] for layer in range(len(self)))

    def gradient(self, layer: int) -> Tensor:
        """Returns the gradient (batch, head, query, key) of a layer by number."""
        gradient = self.gradients[layer]
        if isinstance(gradient, Tensor):
            return gradient
        return gradient.maps().masked_fill_(self.store[layer].maps == 0, 0)

    def tiles(self, layer: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yields queries of a layer, all or some at a time, with their maps and gradients (batch, head, query, key).

        Where the layer is held in factors, memory is that of a tile, and a gradient need not be zero where the map is. In
        causal attention the keys end with the last one that a query of the tile sees.
        """
        attention, gradient = self.store[layer].attention, self.gradients[layer]
        if isinstance(attention, Tensor) or isinstance(gradient, Tensor):
            yield (slice(None), *self[layer])
            return
        batch, heads, queries, keys = attention.shape
        inside = (self.store.queries or self.tokens).mask[:, None, :, None].to(attention.device)
        whole, size = bool(inside.all()), rows_at_once(_TILE, batch * heads * keys, attention.device)
        for start in range(0, queries, size):
            rows = slice(start, min(start + size, queries))
            seen = slice(0, rows.stop if attention.causal else keys)
            maps = attention.maps(rows, seen)
            yield rows, maps if whole else maps * inside[:, :, rows], gradient.maps(rows, seen)

    def select(self, layers: LayerSelection) -> AttentionGradients:
        """Returns some of the layers, in the order in which they run.

        Raises:
            AttentionError: a layer that does not exist.
        """
        by_name, store = dict(zip(self.store.names, self.gradients, strict=True)), self.store.only(layers)
        return replace(self, store=store, gradients=[by_name[name] for name in store.names])

    @property
    def read(self) -> Tensor:
        """Says whether the target reads each token (batch, token) in the last layer: whether its row has a gradient."""
        gradient = self.gradients[-1]
        rows = gradient.outputs if isinstance(gradient, FactoredGradient) else gradient
        return rows.any(-1).any(1)

    def context(self) -> AttentionGradients:
        """Returns the same of the text that the target reads: in a causal model, the tokens after it become padding.

        The text ends at `position`, or at the last token that the target reads where no position is known (a function of the
        output, a class). The layout keeps its grid where no patch is after it.

        Raises:
            AttentionError: a position of padding.
        """
        if not self.store.causal:
            return self
        roles, mask = self.tokens.roles, self.tokens.mask
        position = self.position
        if position is None:
            read = self.read.to(roles.device)
            read = (read if len(read) == len(mask) else read.any(0, keepdim=True)) & mask  # of several scores all
            places = torch.arange(len(self.tokens), device=roles.device)
            position = torch.where(read.any(1), (read * places).argmax(1), self.tokens.last.to(roles.device))
        position = position[:, None].to(roles.device)
        padding = ~mask.gather(1, position)[:, 0]
        if bool(padding.any()):
            example = int(padding.int().argmax())
            raise AttentionError(
                f"target names position {int(position[example])} of example {example}, which is padding.",
                "Pass a list with a target (position, class) for each example.",
            )
        after = mask & (torch.arange(len(self.tokens), device=roles.device) > position)
        if not bool(after.any()):
            return self
        grid = None if bool((after & (roles == Role.PATCH)).any()) else self.tokens.grid
        tokens = replace(self.tokens, roles=roles.masked_fill(after, int(Role.PAD)), grid=grid)
        return replace(self, store=AttentionStore(list(self.store), tokens, self.store.metadata))


def check_finite(store: AttentionStore, gradients: Sequence[Tensor | FactoredGradient]) -> None:
    """Checks the gradients of the layers of a store, except in rows of padding.

    Raises:
        AttentionError: a gradient that is NaN or infinite.
    """
    inside = (store.queries or store.tokens).mask[:, None, :, None]
    for name, gradient in zip(store.names, gradients, strict=True):
        rows = gradient if isinstance(gradient, Tensor) else gradient.outputs
        wrong = ~rows.isfinite() & inside.to(rows.device)
        if bool(wrong.any()):
            what = "example" if len(rows) == store.batch else "score"
            where = f"{what} {int(wrong.flatten(1).any(1).int().argmax())}"
            raise AttentionError(
                f"the gradient by layer {name!r} is NaN or infinite in {where}: the model or the target has no derivative, or"
                f" the backward overflows {str(rows.dtype).removeprefix('torch.')}.",
                "Read the model in float32: model.float(). If that is no help, choose another target.",
            )


@in_turn
def capture_gradients(
    model: Any,
    *inputs: Any,
    target: Target = None,
    layers: LayerSelection = "all",
    keep: Literal["auto", "maps", "factors"] = "auto",
    max_bytes: int = MAX_BYTES,
    reading: Reading | None = None,
    **kwargs: Any,
) -> AttentionGradients:
    """Captures the maps of one forward pass and the gradients of a score with respect to them, by one backward.

    The gradient is the whole derivative: an earlier map also acts through the queries and keys of later ones. Gradients are
    enabled here, whatever the caller disabled. The model computes as it would, fused attention included. Parameters need not
    require gradients, get none in `.grad`, and the model is left as it was.

    Args:
        model: a model that an adapter recognises.
        inputs, kwargs: the arguments of the model.
        layers: the layers to differentiate. See `AttentionStore.select`.
        keep: "maps" keeps tensors (batch, head, query, key) of maps and gradients. "factors" keeps queries, keys, values and
            the gradients of attention's output, in memory linear in the number of tokens: methods build tiles of them.
            "auto" keeps maps while they and their gradients fit into `max_bytes`, and factors from there on, if attention is
            fused.
        max_bytes: the limit for "auto"; 2 GiB.
        reading: says which attention is meant. See `Reading`.
        target: which number of each example's output is its score, as Captum selects it: an index of the class, or one per
            example (tensor or list); a tuple of indices, or one per example, for outputs with more axes; None where the
            output has one number per example. Or a function from the model's output to scores (batch,). `SeveralScores` of
            one example have a gradient each, (score, head, query, key), beside maps (1, head, query, key).

    Raises:
        AttentionError: see `capture`; attention from other queries than the keys' tokens; an output without logits, or a
            target that it does not hold; a model through which no gradient flows from the score to the maps; a gradient that
            is NaN or infinite.
    """
    target = plain_target(target)
    with MapGraph(model) as graph:
        last = kept_by_target(target)
        kwargs = kwargs if last is None else {**logits_kept(graph.model, last, {**kwargs, "reading": reading}), **kwargs}
        inputs, reading, kwargs = graph.arguments(inputs, reading, kwargs)
        collector = GradientCollector(keep, max_bytes)
        request = CaptureRequest(collector, layers, reading, told=graph.told)
        store = graph.adapter.capture(graph.model, inputs, kwargs, request)
        if store.queries is not None:
            raise AttentionError(
                "gradients are taken of self-attention; this is attention to other tokens.",
                'Choose Reading(kind="encoder") or Reading(kind="decoder"), or take those of a whole encoder–decoder:'
                " capture_encoder_decoder_gradients.",
            )
        score = selected_score(graph.output, target, store.batch)
        tokens = target.tokens() if isinstance(target, SeveralScores) and target.tokens is not None else None
        gradients = collector.gradients_of(score, store.names, tokens)
        check_finite(store, gradients)
    found = AttentionGradients(store, gradients, position_read(graph.output, target, store.tokens))
    whole = all(isinstance(layer.attention, Tensor) for layer in store)
    return replace(found, gradients=[found.gradient(layer) for layer in range(len(store))]) if whole else found
