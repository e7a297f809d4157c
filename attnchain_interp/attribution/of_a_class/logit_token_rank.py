"""TokenRank of one answer, without a backward through the blocks: jumps lead to the tokens that attention writes it from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, final, get_args

import torch
from captum.attr import GradientAttribution
from torch import Tensor

from attnchain_interp.attribution.defaults import maps_of, settings_of
from attnchain_interp.attribution.method import Begin
from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.token_attribution import TokenAttribution
from attnchain_interp.capture import Maps, capture, capture_direct_effects
from attnchain_interp.chain import Chain, stationary
from attnchain_interp.chain.chain import check_damping
from attnchain_interp.checks import check_one_of, check_type
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients import logit_direction, logits_kept
from attnchain_interp.reprs import with_fields
from attnchain_interp.store import AttentionStore, LayerSelection, LayerWeights, TokenLayout, TokenSelection
from attnchain_interp.store import layer_weights as weights_of_layers

ANSWER_DAMPING: Final = 0.5  # where jumps lead to the tokens that an answer is written from


@final
@dataclass(frozen=True, eq=False)
class AnswerEffects:
    """The maps of a forward, and by how much each token speaks for an answer directly.

    Attributes:
        store: the maps.
        effects: (batch, layer, token), see `attnchain_interp.capture.direct_effects`.
        readers: (batch, token), the share of each token in the reading of the answer: the length of the score's direction
            there, divided by the sum. A target (position, token) of a decoder is read at that position alone.
    """

    store: AttentionStore
    effects: Tensor
    readers: Tensor

    def __repr__(self) -> str:
        return with_fields(self)

    @property
    def tokens(self) -> TokenLayout:
        """The layout of the tokens."""
        return self.store.tokens


@final
class LogitTokenRank(TokenAttribution, GradientAttribution):
    """The stationary distribution of the chain P whose jumps v lead to the tokens that an answer's logit is written from.

    π = π (damping · P + (1 − damping) · 1 vᵀ) with v_j ∝ √(P_ij D_j), where i is the position that reads the answer.
    D_j = Σ_l w_l Σ_h max(0, A_ij^h ⟨W^h v_j^h, d⟩) is what the heads write into i from token j along the direction d in which
    the answer's logit grows (direct logit attribution). From these tokens the walk goes on to those that they were made of.
    The scores of an example sum to one. P, its layers and their weights w are by default those of MultiBounce; on validation
    photographs they outlined objects better than all layers, or maps that are not balanced. The damping was chosen on texts;
    on photographs 0.85 was not told apart from it. No block is differentiated. The cost is three forwards, and the
    maps of all layers are held.

    Where several positions read the score (a mean over patches), D is summed over them, and the rows P_i are averaged,
    weighted by the length of d. Where no token speaks for the answer, v is P alone. Models whose blocks are normalised after
    the addition (BERT) have no direct effects.

    Args:
        forward_func: a model that an adapter recognises. It is left as it was. None where only `score` is used.
        layers, layer_weights, balanced, maps: see `AttentionAttribution`.
        tokens: the states, see `TokenLayout.select`. None means the patches of an image, else everything but padding.
        damping: the probability of following the chain rather than jumping.

    Raises:
        AttentionError: on attribution, the errors of `capture`, `logit_direction` and `capture_direct_effects`.

    Source: this library; the walk of Erel et al. 2025, with direct effects as in Elhage et al. 2021.
    """

    explains_target: ClassVar[bool] = True
    reads_contexts: ClassVar[bool] = True
    layers: LayerSelection | None

    def __init__(
        self,
        forward_func: Any = None,
        *,
        layers: LayerSelection | None = None,
        tokens: TokenSelection = None,
        damping: float = ANSWER_DAMPING,
        layer_weights: LayerWeights | None = None,
        balanced: bool | float | None = None,
        maps: Maps | None = None,
    ) -> None:
        check_damping(damping)
        if maps is not None:
            check_one_of("maps", maps, get_args(Maps))
        super().__init__(forward_func)
        self.layers, self.tokens, self.damping = layers, tokens, damping
        self.layer_weights, self.balanced = layer_weights, balanced
        self.maps: Maps | None = maps

    def read(self, call: Call) -> AnswerEffects:
        """Returns the maps and the effects of some examples, in three forwards."""
        model, (positional, named) = self.forward_func, call.arguments(self.forward_func)
        layers, kept = "all" if self.layers is None else self.layers, {**logits_kept(model, 1, named), **named}
        store = capture(model, *positional, layers=layers, maps=maps_of(self), **kept)
        if self.layers is None:
            store = store.only(settings_of(self, store).layers)
        d = logit_direction(model, *positional, layers=store.names, batch=store.batch, target=call.target, **named)
        effects = capture_direct_effects(model, *positional, direction=d, layers=store.names, **kept)
        lengths = d.norm(dim=-1)
        if not bool(lengths.any(-1).all()):
            raise AttentionError(
                "the target's score does not change with the tokens of the last block.",
                "Choose a target that depends on them.",
            )
        return AnswerEffects(store, effects, lengths / lengths.sum(-1, keepdim=True))

    def scores(self, source: AnswerEffects, first: int = 0) -> Tensor:
        return self.score(source)

    @torch.no_grad()
    def score(self, found: AnswerEffects) -> Tensor:
        """Returns one score per token (batch, token), without a model, from the layers of `found`.

        Raises:
            AttentionError: a token that the method needs does not exist.
        """
        check_type("found", found, AnswerEffects, "Pass LogitTokenRank(model).read(…).")
        chosen = settings_of(self, found.store)
        weights = weights_of_layers(found.store, chosen.layer_weights, tokens=self.tokens)
        chain = found.store.chain(tokens=self.tokens, balanced=chosen.balanced, layer_weights=weights)
        return stationary(chain, self.damping, written(chain, found, weights))

    def walks_from_position(self, begin: Begin | None) -> bool:
        return True  # jumps follow the row of that position, which keeps most for itself

    def text_policy(self, begin: Begin | None) -> str:
        return f"jumps lead to the tokens that the output token's logit is written from, damping={self.damping}"


def written(chain: Chain, found: AnswerEffects, weights: Tensor) -> Tensor:
    """Returns v (batch, token): √(P_ij D_j) over the states of a chain P, divided by its sum; P where D is zero.

    Args:
        chain: P (batch, token, token).
        found: effects and readers.
        weights: w (batch, layer).
    """
    states = chain.states.to(found.effects.device)
    read = chain.step(found.readers.to(chain.dtype)).to(found.effects) * states
    last = (found.readers.flip(-1).cumsum(-1).flip(-1) > 0).to(states.device)  # true up to the last reader
    if found.store.causal and not bool((states & last).any(-1).all()):
        raise AttentionError("the tokens that read the answer attend to none of the chosen tokens.", "Choose other tokens=….")
    spoken = (weights.to(found.effects)[..., None] * found.effects).sum(1)
    both = (read * spoken).sqrt()
    v = torch.where(both.sum(-1, keepdim=True) > 0, both, read)
    return v / v.sum(-1, keepdim=True)
