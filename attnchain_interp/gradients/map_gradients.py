"""The gradient of a target's score with respect to every attention map of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from attnchain_interp.capture import Reading
from attnchain_interp.capture.reading import separated
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.differentiable_maps import MapGraph
from attnchain_interp.gradients.target import Target, selected_score
from attnchain_interp.operators import float32_or_wider
from attnchain_interp.store import AttentionStore, LayerSelection, TokenLayout


@final
@dataclass(frozen=True)
class AttentionGradients:
    """The maps of a forward pass, and the gradient of a target's score with respect to each of their entries.

    `found[k]` is (maps, gradients) of a layer by number, and iteration goes from the first layer that runs to the last; both
    (batch, head, query, key) in float32 or better, rows of padding zero.

    Attributes:
        store: the maps.
        gradients: one tensor (batch, head, query, key) per layer of the store. Zero where the map is zero: such an entry is
            masked, and nothing that the model reads changes it.
    """

    store: AttentionStore
    gradients: list[Tensor]

    def __repr__(self) -> str:
        return f"AttentionGradients of {self.store}"

    @classmethod
    def named(cls, store: AttentionStore, gradients: Mapping[str, Tensor]) -> AttentionGradients:
        """Returns the gradients of a store's layers. Those of masked entries are set to zero."""
        return cls(store, [gradients[layer.name].masked_fill(layer.maps == 0, 0) for layer in store])

    @property
    def tokens(self) -> TokenLayout:
        return self.store.tokens

    def __len__(self) -> int:
        return len(self.gradients)

    def __getitem__(self, layer: int) -> tuple[Tensor, Tensor]:
        gradient = self.gradients[layer]
        inside = (self.store.queries or self.tokens).mask[:, None, :, None].to(gradient.device)
        return float32_or_wider(self.store[layer].maps) * inside, float32_or_wider(gradient) * inside

    def select(self, layers: LayerSelection) -> AttentionGradients:
        """Returns some of the layers, in the order in which they run.

        Raises:
            AttentionError: a layer that does not exist.
        """
        by_name, store = dict(zip(self.store.names, self.gradients, strict=True)), self.store.only(layers)
        return AttentionGradients(store, [by_name[name] for name in store.names])


def capture_gradients(
    model: Any,
    *inputs: Any,
    target: Target = None,
    layers: LayerSelection = "all",
    reading: Reading | None = None,
    **kwargs: Any,
) -> AttentionGradients:
    """Captures the maps of one forward pass and the gradients of a score with respect to them, by one backward.

    The gradient is the whole derivative: an earlier map also acts through the queries and keys of later ones. Gradients are
    enabled here, whatever the caller disabled; fused attention is computed by its maps for this one forward. Parameters need
    not require gradients, get none in `.grad`, and the model is left as it was.

    Args:
        model: a model that an adapter recognises.
        inputs, kwargs: the arguments of the model.
        layers: the layers to differentiate. See `AttentionStore.select`.
        reading: says which attention is meant. See `Reading`.
        target: which number of each example's output is its score, as Captum selects it: an index of the class, or one per
            example (tensor or list); a tuple of indices, or one per example, for outputs with more axes; None where the
            output has one number per example. Or a function from the model's output to scores (batch,).

    Raises:
        AttentionError: see `capture`; attention from other queries than the keys' tokens; an output without logits, or a
            target that it does not hold; a model through which no gradient flows from the score to the maps.
    """
    with MapGraph(model) as graph:
        reading, kwargs = separated(graph.model, reading, kwargs)
        store = graph.adapter.capture(graph.model, inputs, kwargs, graph.request(layers, reading))
        if store.queries is not None:
            raise AttentionError(
                "gradients are taken of self-attention; this is attention to other tokens.",
                'Choose Reading(kind="encoder") or Reading(kind="decoder"), or take those of a whole encoder–decoder:'
                " capture_encoder_decoder_gradients.",
            )
        score = selected_score(graph.output, target, store.batch)
        return AttentionGradients.named(store, graph.gradients(score, store.names))
