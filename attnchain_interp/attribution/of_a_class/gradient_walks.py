"""Walks that follow attention where it speaks for the target: their stationary distribution, their steps, their visits."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal, final

import torch
from torch import Tensor

from attnchain_interp.attribution.defaults import settings_of
from attnchain_interp.attribution.method import Begin
from attnchain_interp.attribution.of_a_class.attention_gradient_attribution import (
    AttentionGradientAttribution,
    start_of,
    start_row,
)
from attnchain_interp.attribution.of_attention.walks import JUMPS_TO_LAST
from attnchain_interp.chain import Chain, bounce, expected_visits, stationary
from attnchain_interp.chain.chain import check_damping
from attnchain_interp.chain.transformations import balanced_by
from attnchain_interp.checks import check_whole_number
from attnchain_interp.gradients import AttentionGradients
from attnchain_interp.store import LayerSelection, LayerWeights, Start, TokenSelection, states_of
from attnchain_interp.store import layer_weights as weights_of_layers
from attnchain_interp.store.starts import CLASS_OR_UNIFORM, default_damping, jump_to_last, start_distribution

EVIDENCE_DAMPING: Final = 0.3  # of evidence, where jumps lead to the last token


def evidence(found: AttentionGradients, rectify: Literal["entries", "layers"], weights: Tensor) -> Tensor:
    """Returns Σ_l w_l mean_h A ⊙ ∇A (batch, query, key) for `weights` w (batch, layer).

    `rectify` places the ReLU: "entries" (Σ_l w_l mean_h ReLU(A ⊙ ∇A)) or "layers" (ReLU(Σ_l w_l mean_h A ⊙ ∇A)).
    """
    store = found.store
    total = weights.new_zeros((store.batch, *store[0].attention.shape[-2:]))
    for layer, weight in enumerate(weights.unbind(1)):
        for rows, maps, gradients in found.tiles(layer):
            products = maps * gradients
            if rectify == "entries":
                products = products.relu_()
            total[:, rows, : maps.shape[-1]] += products.mean(1) * weight[:, None, None].to(products)
    return total.relu_()


def gradient_chain(
    found: AttentionGradients,
    tokens: TokenSelection = None,
    *,
    layer_weights: LayerWeights = "mean",
    balanced: bool | float = False,
) -> Chain:
    """Returns the chain over `tokens` whose transitions are W = Σ_l w_l mean_h A ⊙ ReLU(∇A), each row divided by its sum.

    Heads and layers with a greater gradient count more, and the scale of the score cancels. A row without evidence keeps the
    plain attention of its token (the mean over heads and layers), so that the walk continues as the model does.

    Args:
        found: maps and gradients.
        tokens: the states. See `TokenLayout.select`.
        layer_weights: w. See `attnchain_interp.store.layer_weights`.
        balanced: balance the chain, or the strength of it. See `balance`.

    Raises:
        AttentionError: `tokens` selects no token in an example, a state attends to no state, or weights that `layer_weights`
            refuses.
    """
    of_layers = weights_of_layers(found.store, layer_weights, tokens=tokens)
    states = states_of(found.store, tokens).to(found.store[0].device)
    weights = evidence(found, "entries", of_layers) * states[:, None]
    sums = weights.sum(-1, keepdim=True)
    there = sums > torch.finfo(sums.dtype).tiny
    transitions = weights / torch.where(there, sums, 1)
    if not bool((there | ~states[..., None]).all()):
        attention = found.store.chain(tokens=tokens, layer_weights=of_layers)
        transitions = torch.where(there, transitions, attention.matrix)
    chain = Chain(transitions, states, check=False)
    return balanced_by(chain, balanced)


@final
class GradientTokenRank(AttentionGradientAttribution):
    """The stationary distribution of the `gradient_chain` P: W = Σ_l w_l mean_h A ⊙ ReLU(∇A), rows divided by their sums.

    π = π (damping · P + (1 − damping) · 1 vᵀ), as TokenRank. The walk takes a transition the more often the more the
    transition raises the target's score. Rows of W that are zero keep the plain attention of their token. The scores of an
    example sum to one. One forward and one backward. By default late layers count more in a decoder, and its chain is balanced
    by one half (docs/real-text.md); all layers of encoders and images count the same.

    Args:
        forward_func, layers, layer_weights, balanced: see `AttentionGradientAttribution`.
        tokens: the states, see `TokenLayout.select`. None means the patches of an image, else everything but padding.
        damping: the probability of following the chain rather than jumping. None means 0.3 where jumps lead to the last token
            (docs/real-text.md), else 0.99.
        personalization: v (token,) or (batch, token) over all tokens, where jumps land. None means the last token in a
            decoder (docs/text-defaults.md), else uniform over the states.

    Source: this library; the chain of Erel et al. 2025 with the weights of Chefer et al. 2021.
    """

    allows_padding: ClassVar[bool] = True

    def __init__(
        self,
        forward_func: Any = None,
        *,
        layers: LayerSelection | None = None,
        tokens: TokenSelection = None,
        damping: float | None = None,
        personalization: Tensor | None = None,
        layer_weights: LayerWeights | None = None,
        balanced: bool | float | None = None,
    ) -> None:
        if damping is not None:
            check_damping(damping)
        super().__init__(forward_func, layers=layers, layer_weights=layer_weights, balanced=balanced)
        self.tokens, self.damping, self.personalization = tokens, damping, personalization

    def relevance(self, found: AttentionGradients) -> Tensor:
        chosen = settings_of(self, found.store)
        chain = gradient_chain(found, self.tokens, layer_weights=chosen.layer_weights, balanced=chosen.balanced)
        to_last = self.personalization is None and found.store.causal
        return stationary(
            chain, self._damping(to_last), jump_to_last(chain, found.tokens) if to_last else self.personalization
        )

    def walks_from_position(self, begin: Begin | None) -> bool:
        return self.personalization is None

    def text_policy(self, begin: Begin | None) -> str:
        to_last = self.personalization is None
        words = f"{JUMPS_TO_LAST}: its context is ranked as a whole" if to_last else super().text_policy(begin)
        return f"{words}, damping={self._damping(to_last)}"

    def _damping(self, to_last: bool) -> float:
        return (EVIDENCE_DAMPING if to_last else default_damping(False)) if self.damping is None else self.damping


@final
class GradientMultiBounce(AttentionGradientAttribution):
    """The distribution v Pⁿ after `steps` steps from a start v, where P is the `gradient_chain`.

    It is MultiBounce of a walk that takes a transition the more often the more the transition raises the target's score. Rows
    of W that are zero keep the plain attention of their token. The scores of an example sum to one. One forward and one
    backward. The layers and the balance are by default those of `GradientTokenRank`.

    Args:
        forward_func, layers, layer_weights, balanced: see `AttentionGradientAttribution`.
        steps: n, 0 or more.
        start: see `MultiBounce`.
        tokens: the states, see `TokenLayout.select`. None means the patches of an image, else everything but padding.

    Raises:
        AttentionError: on attribution, for negative steps.

    Source: this library; the bounces of Erel et al. 2025 with the weights of Chefer et al. 2021.
    """

    has_start: ClassVar[bool] = True
    allows_padding: ClassVar[bool] = True

    def __init__(
        self,
        forward_func: Any = None,
        *,
        steps: int = 2,
        start: Start | None = None,
        layers: LayerSelection | None = None,
        tokens: TokenSelection = None,
        layer_weights: LayerWeights | None = None,
        balanced: bool | float | None = None,
    ) -> None:
        check_whole_number("steps", steps, "the number of steps of the walk", 0)
        super().__init__(forward_func, layers=layers, layer_weights=layer_weights, balanced=balanced)
        self.steps, self.start, self.tokens = steps, start, tokens

    def relevance(self, found: AttentionGradients) -> Tensor:
        chosen = settings_of(self, found.store)
        chain = gradient_chain(found, self.tokens, layer_weights=chosen.layer_weights, balanced=chosen.balanced)
        return bounce(chain, start_distribution(chain, found.tokens, start_of(found, self.start)), self.steps)


@final
class ExpectedVisits(AttentionGradientAttribution):
    """e (I − Q)⁻¹ from a start token e, where Q = damping · W / (its greatest row sum) and W = ReLU(Σ_l w_l mean_h A ⊙ ∇A).

    W is the evidence: how much attention from one token to another raises the target's score. Heads and layers are summed
    before the ReLU, so that evidence for and against cancels. At the token with the most evidence the walk continues with
    probability `damping`; at another token it ends with the probability by which the evidence falls short. A token scores by
    how much evidence leads to it, directly and over other tokens. The start's own score holds the 1 of the walk's beginning.
    One forward and one backward.

    Args:
        forward_func, layers, layer_weights, balanced: see `AttentionGradientAttribution`. A balanced walk ends as often.
        start: see `MultiBounce`. The default means the class token, and "uniform" where there is none, also in a decoder.
        damping: the probability that the walk continues at the token with the most evidence. At 1 there may be no finite
            answer: in a causal model the first token attends to itself alone.

    Raises:
        AttentionError: at once, for a damping outside [0, 1]; on attribution, for walks that do not end (damping 1).

    Source: this library; the fundamental matrix of Kemeny & Snell, *Finite Markov Chains*, 1960.
    """

    has_start: ClassVar[bool] = True
    allows_padding: ClassVar[bool] = True

    def __init__(
        self,
        forward_func: Any = None,
        *,
        start: Start | None = CLASS_OR_UNIFORM,
        layers: LayerSelection | None = None,
        damping: float = 0.99,
        layer_weights: LayerWeights | None = None,
        balanced: bool | float | None = None,
    ) -> None:
        check_damping(damping)
        super().__init__(forward_func, layers=layers, layer_weights=layer_weights, balanced=balanced)
        self.start, self.damping = start, damping

    def relevance(self, found: AttentionGradients) -> Tensor:
        weights = evidence(found, "layers", self.weights(found))
        greatest = weights.sum(-1).amax(-1)[:, None, None]
        transitions = self.damping * weights / greatest.clamp_min(torch.finfo(weights.dtype).tiny)
        states = found.tokens.mask.to(weights.device)
        chain = Chain(transitions, states, absorbing=True, check=False)
        chain = balanced_by(chain, settings_of(self, found.store).balanced)
        return expected_visits(chain, start_row(found, self.start))
