"""The base class of the class-specific methods: from inputs and a target to maps and gradients, to a score per token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from captum.attr import GradientAttribution
from torch import Tensor

from attnchain_interp.attribution.defaults import settings_of
from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.token_attribution import TokenAttribution
from attnchain_interp.checks import check_type
from attnchain_interp.gradients import AttentionGradients, capture_gradients
from attnchain_interp.store import LayerSelection, LayerWeights, Role, Start, TokenSelection
from attnchain_interp.store import layer_weights as weights_of_layers
from attnchain_interp.store.starts import CLASS_OR_UNIFORM, start_distribution


class AttentionGradientAttribution(TokenAttribution, GradientAttribution, ABC):
    """A Captum gradient attribution method whose scores come from attention maps A and the gradients ∇A of a target's score.

    It answers "which tokens speak for this class". Gradients are enabled where they are needed, also inside `torch.no_grad()`.
    A target of a decoder is a score of the text up to the last token that the target reads: the position of (position, token),
    or of a function of the output. The tokens after it are padding to the method, so that walks start at or before it. A
    default start at the class token means the tokens that the target reads in the last layer, where the class token is none
    of them: the patches of a head that takes their mean, or the position of a masked token.
    A subclass defines `relevance`; with a `start` it also sets `has_start = True`.

    Args:
        forward_func: a model that an adapter recognises. It is left as it was. None where only `score` is used.
        layers: which layers ("all", a number, a slice, a name, a list), taken in the order in which they run. None: see
            `attnchain_interp.attribution.DEFAULTS`.
        layer_weights: the weights of the layers' evidence, see `attnchain_interp.store.layer_weights`: "mean", "late" (by
            depth), "lambda2", "inverse-lambda2", a list, or a function of the store. None: as for `layers`.
        balanced: balance the chain (`balance`), or the strength of it, where the method makes one. None: as for `layers`.

    Raises:
        AttentionError: on attribution, for a start, layer or token that does not exist, and the errors of `capture_gradients`.
    """

    explains_target: ClassVar[bool] = True
    layers: LayerSelection | None

    def __init__(
        self,
        forward_func: Any = None,
        *,
        layers: LayerSelection | None = "all",
        layer_weights: LayerWeights | None = "mean",
        balanced: bool | float | None = False,
    ) -> None:
        super().__init__(forward_func)
        self.layers, self.layer_weights, self.balanced = layers, layer_weights, balanced

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
        layers = settings_of(self, found.store).layers
        return self.relevance((found if layers == "all" else found.select(layers)).context())

    def read(self, call: Call) -> AttentionGradients:
        return self.captured(call, "all" if self.layers is None else self.layers)

    def captured(self, call: Call, layers: LayerSelection) -> AttentionGradients:
        """Captures the maps and gradients of some examples: one forward and one backward of the model."""
        positional, named = call.arguments(self.forward_func)
        return capture_gradients(self.forward_func, *positional, target=call.target, layers=layers, **named)

    def scores(self, source: AttentionGradients, first: int = 0) -> Tensor:
        return self.score(source) if self.layers is None else self.relevance(source.context())

    def weights(self, found: AttentionGradients, tokens: TokenSelection = "all") -> Tensor:
        """Returns the weights (batch, layer) of the layers of `found`."""
        return weights_of_layers(found.store, settings_of(self, found.store).layer_weights, tokens=tokens)


def start_row(found: AttentionGradients, start: Start | None) -> Tensor:
    """Returns the `start_distribution` (batch, token) over every token but padding."""
    return start_distribution(found.store.chain(-1, tokens="all"), found.tokens, start_of(found, start))


def start_of(found: AttentionGradients, start: Start | None) -> Start | None:
    """Returns the start. In place of a default start at a class token that the target does not read: the tokens that it reads.

    A head that takes the mean of the patches does not read the class token of the last layer, so the gradient of its row is
    zero there. The tokens that a target reads are those whose rows have a gradient. A walk starts at each of them with equal
    probability (batch, token).
    """
    default = start is None or (isinstance(start, str) and start == CLASS_OR_UNIFORM)
    if not default or not bool((found.tokens.roles == Role.CLASS).any()):
        return start
    read = found.read & found.tokens.mask.to(found.read.device)
    own = found.tokens.class_tokens[:, None].to(read.device)
    known = read.any(1, keepdim=True) & ~read.gather(1, own)
    if not bool(known.any()):
        return start
    read = torch.where(known, read, torch.zeros_like(read).scatter(1, own, True))
    return read / read.sum(1, keepdim=True)
