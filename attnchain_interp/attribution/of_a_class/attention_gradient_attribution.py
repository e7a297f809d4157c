"""What class-specific methods share: from inputs and a target to maps and gradients, from these to a score per token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from captum.attr import GradientAttribution
from torch import Tensor

from attnchain_interp.attribution.model_call import model_call
from attnchain_interp.attribution.token_attribution import Call, Scored, TokenAttribution
from attnchain_interp.gradients.map_gradients import AttentionGradients, capture_gradients
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.starts import Start, start_distribution


class AttentionGradientAttribution(TokenAttribution, GradientAttribution, ABC):
    """A Captum gradient attribution method whose scores come from attention maps A and the gradients ∇A of a target's score.

    It answers "which tokens speak for this class". Gradients are enabled where they are needed, whatever the caller disabled.

    Args:
        forward_func: a model that an adapter recognises. Left as it was. None where only `score` is used.
        layers: which layers ("all", a number, a slice, a name, a list), taken in the order in which they run.
    """

    layers: LayerSelection

    def __init__(self, forward_func: Any = None, layers: LayerSelection = "all") -> None:
        super().__init__(forward_func)
        self.layers = layers

    @abstractmethod
    def relevance(self, found: AttentionGradients) -> Tensor:
        """(batch, token): the scores, from exactly the layers of `found`."""

    @torch.no_grad()
    def score(self, found: AttentionGradients) -> Tensor:
        """One score per token (batch, token), without a model: what `capture_gradients` found serves several methods.

        Raises:
            AttentionError: a layer or token that the method needs is not there.
        """
        return self.relevance(found.select(self.layers))

    def gradients(self, call: Call) -> AttentionGradients:
        """What the scores are computed from: one forward and one backward of the model."""
        return self.captured(call, self.layers)

    def captured(self, call: Call, layers: LayerSelection) -> AttentionGradients:
        """`capture_gradients` of some examples."""
        positional, named = model_call(self.forward_func, call.inputs, call.extra)
        return capture_gradients(self.forward_func, *positional, target=call.target, layers=layers, **named)

    def scored(self, call: Call, with_residual: bool) -> Scored:
        found = self.gradients(call)
        with torch.no_grad():
            return Scored(self.relevance(found), found.tokens)


def start_row(found: AttentionGradients, start: Start | None) -> Tensor:
    """`start_distribution` (batch, token) over every token but padding."""
    return start_distribution(found.store.chain(-1, tokens="all"), found.tokens, start)
