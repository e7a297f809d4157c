"""The gradients of a target's score with respect to the maps of an encoder, a decoder and its cross-attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, final

from torch import Tensor

from attnchain_interp.capture import CaptureRequest, EncoderDecoderAdapter, Reading, StackKind, adapter_of, uncompiled
from attnchain_interp.capture.threads import in_turn
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.differentiable_maps import MapGraph
from attnchain_interp.gradients.map_gradients import AttentionGradients
from attnchain_interp.gradients.target import Target, plain_target, position_read, selected_score
from attnchain_interp.reprs import counted
from attnchain_interp.store.attention_store import AttentionStore

_KINDS: Final[tuple[StackKind, ...]] = ("encoder", "decoder", "cross")


@final
@dataclass(frozen=True, eq=False)
class EncoderDecoderGradients:
    """The maps of an encoder–decoder, and how the score of a target changes with each of their entries.

    Iteration gives (kind, maps, gradients) of every layer, from the first that runs to the last.

    Attributes:
        encoder, decoder: the gradients of self-attention.
        cross: of the decoder's attention to the encoder: queries are its tokens, keys the encoder's.
        names: of all layers, in the order in which they run.
    """

    encoder: AttentionGradients
    decoder: AttentionGradients
    cross: AttentionGradients
    names: list[str]

    def __repr__(self) -> str:
        shown = ", ".join(f"{kind} of {counted(len(part), 'layer')}" for kind, part in self._parts())
        return f"EncoderDecoderGradients(batch {self.encoder.store.batch}, {shown})"

    @property
    def position(self) -> Tensor | None:
        """The decoder's position (batch,) whose output the target is, where it says so: the first of its indices."""
        return self.decoder.position

    def __iter__(self) -> Iterator[tuple[StackKind, Tensor, Tensor]]:
        for name in self.names:
            kind, part = next(each for each in self._parts() if name in each[1].store.names)
            yield kind, *part[part.store.names.index(name)]

    def _parts(self) -> Iterator[tuple[StackKind, AttentionGradients]]:
        return zip(_KINDS, (self.encoder, self.decoder, self.cross), strict=True)


def is_encoder_decoder(model: Any) -> bool:
    """Returns whether `capture_encoder_decoder_gradients` can read a model."""
    model = uncompiled(model)
    adapter = adapter_of(model)
    return isinstance(adapter, EncoderDecoderAdapter) and adapter.is_encoder_decoder(model)


@in_turn
def capture_encoder_decoder_gradients(
    model: Any, *inputs: Any, target: Target = None, reading: Reading | None = None, **kwargs: Any
) -> EncoderDecoderGradients:
    """Captures the maps of encoder, decoder and cross-attention, and the gradients of a score, by one backward.

    Args:
        model: a model that an adapter recognises and that has all three.
        inputs, kwargs: the arguments of the model.
        target: See `capture_gradients`; (position, token) for a token that the decoder predicts.
        reading: labels of the tokens. Its `kind` is not used.

    Raises:
        AttentionError: see `capture_gradients`; a model that is not an encoder–decoder.
    """
    target = plain_target(target)
    with MapGraph(model) as graph:
        adapter = graph.adapter
        if not isinstance(adapter, EncoderDecoderAdapter) or not adapter.is_encoder_decoder(graph.model):
            raise AttentionError(
                f"{type(graph.model).__name__} is not an encoder–decoder that is known here: it has no decoder of its own that"
                " attends to an encoder of its own.",
                "For one sequence use capture_gradients(model, …).",
            )
        inputs, reading, kwargs = graph.arguments(inputs, reading, kwargs)
        requests: dict[StackKind, CaptureRequest[AttentionStore]]
        requests = {kind: graph.request("all", reading) for kind in _KINDS}
        stores = adapter.capture_encoder_decoder(graph.model, inputs, kwargs, requests)
        score = selected_score(graph.output, target, stores["encoder"].tokens.batch)
        gradients = graph.gradients(score, list(graph.maps))

        encoder, decoder, cross = (AttentionGradients.named(stores[kind], gradients) for kind in _KINDS)
        decoder = replace(decoder, position=position_read(graph.output, target, decoder.tokens))
        return EncoderDecoderGradients(encoder, decoder, cross, list(graph.maps))
