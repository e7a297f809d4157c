"""The base class of the class-specific methods: from inputs and a target to maps and gradients, to a score per token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from captum.attr import GradientAttribution
from torch import Tensor

from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.token_attribution import TokenAttribution
from attnchain_interp.checks import check_type
from attnchain_interp.gradients import AttentionGradients, capture_gradients
from attnchain_interp.store import LayerSelection, Start
from attnchain_interp.store.starts import start_distribution


class AttentionGradientAttribution(TokenAttribution, GradientAttribution, ABC):
    """A Captum gradient attribution method whose scores come from attention maps A and the gradients ∇A of a target's score.

    It answers "which tokens speak for this class". Gradients are enabled where they are needed, also inside `torch.no_grad()`.
    A subclass defines `relevance`; with a `start` it also sets `has_start = True`.

    Args:
        forward_func: a model that an adapter recognises. It is left as it was. None where only `score` is used.
        layers: which layers ("all", a number, a slice, a name, a list), taken in the order in which they run.

    Raises:
        AttentionError: on attribution, for a start, layer or token that does not exist, and the errors of `capture_gradients`.
    """

    reads_gradients: ClassVar[bool] = True
    layers: LayerSelection

    def __init__(self, forward_func: Any = None, layers: LayerSelection = "all") -> None:
        super().__init__(forward_func)
        self.layers = layers

    @abstractmethod
    def relevance(self, found: AttentionGradients) -> Tensor:
        """Returns the scores (batch, token), from exactly the layers of `found`."""

    @torch.no_grad()
    def score(self, found: AttentionGradients) -> Tensor:
        """Returns one score per token (batch, token), without a model. One `capture_gradients` serves several methods.

        Raises:
            AttentionError: a layer or token that the method needs does not exist.
        """
        check_type("found", found, AttentionGradients, "Pass capture_gradients(model, …, target=…).")
        return self.relevance(found.select(self.layers))

    def read(self, call: Call) -> AttentionGradients:
        return self.captured(call, self.layers)

    def captured(self, call: Call, layers: LayerSelection) -> AttentionGradients:
        """Captures the maps and gradients of some examples: one forward and one backward of the model."""
        positional, named = call.arguments(self.forward_func)
        return capture_gradients(self.forward_func, *positional, target=call.target, layers=layers, **named)

    def scores(self, source: AttentionGradients, first: int = 0) -> Tensor:
        return self.relevance(source)


def start_row(found: AttentionGradients, start: Start | None) -> Tensor:
    """Returns the `start_distribution` (batch, token) over every token but padding."""
    return start_distribution(found.store.chain(-1, tokens="all"), found.tokens, start)
