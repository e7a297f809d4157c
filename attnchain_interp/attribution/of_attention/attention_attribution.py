"""What the methods share that read attention alone: from inputs to a store, from a store to a score per token."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from attnchain_interp.attribution.model_call import model_call
from attnchain_interp.attribution.token_attribution import Call, Scored, TokenAttribution, no_residual
from attnchain_interp.capture.capture import capture
from attnchain_interp.chain.chain import Chain
from attnchain_interp.store.attention_store import AttentionStore, Direction
from attnchain_interp.store.head_weights import Heads
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.tokens import TokenSelection


class AttentionAttribution(TokenAttribution, ABC):
    """A Captum attribution method whose scores come from attention alone.

    It answers "which tokens does the model attend to", not "which tokens speak for this class": `target` is accepted
    for Captum's sake and does not change the result.

    Args:
        forward_func: a model that an adapter recognises, or a callable inputs → `AttentionStore`. Left as it was.
            None where only `score` is used.
        layers: which layers ("all", a number, a slice, a name, a list); the maps of several are averaged.
        heads: how the heads of a layer are weighted, as in `head_weights`; or "each", to score every head by itself
            (with `output="tokens"` or `"grid"`).
        tokens: the states of the chain, as in `TokenLayout.select`; None means the patches of an image, else everything
            but padding. The other tokens score 0.
        direction: "incoming" (mass gathers where attention goes) or "outgoing" (the reversed chain).
    """

    layers: LayerSelection
    heads: Heads
    tokens: TokenSelection
    direction: Direction

    def __init__(
        self,
        forward_func: Any = None,
        layers: LayerSelection = "all",
        heads: Heads = "mean",
        tokens: TokenSelection = None,
        direction: Direction = "incoming",
    ) -> None:
        super().__init__(forward_func)
        self.layers, self.heads, self.tokens, self.direction = layers, heads, tokens, direction

    @abstractmethod
    def score(self, store: AttentionStore) -> Tensor:
        """One score per token, without a model: (batch, token), or (batch, head, token) for `heads="each"`.

        Raises:
            AttentionError: the store lacks a layer, head or token that the method needs.
        """

    def score_with_residual(self, store: AttentionStore) -> tuple[Tensor, Tensor]:
        """`score`, and how far it is from solving its equation: (batch,), or (batch, head) for `heads="each"`.

        Raises:
            AttentionError: the method solves no equation (`has_convergence_delta()` is false); or as `score`.
        """
        raise no_residual(self)

    def score_part(self, store: AttentionStore, first: int) -> Tensor:
        """`score` of some examples of a batch, the first of which is number `first`; only a random score depends on it."""
        return self.score(store)

    def scored(self, call: Call, with_residual: bool) -> Scored:
        positional, named = model_call(self.forward_func, call.inputs, call.extra)
        store = capture(self.forward_func, *positional, layers=self.layers, **named)
        reading = copy.copy(self)
        reading.layers = "all"  # the store holds the chosen layers alone, so their numbers in the model mean nothing there
        with torch.no_grad():
            if with_residual:
                scores, residual = reading.score_with_residual(store)
                return Scored(scores, store.tokens, residual)
            return Scored(reading.score_part(store, call.first), store.tokens)

    def chain(self, store: AttentionStore) -> Chain:
        """The chain that this method reads: (batch, token, token)."""
        return store.chain(self.layers, self.heads, self.tokens, self.direction)
