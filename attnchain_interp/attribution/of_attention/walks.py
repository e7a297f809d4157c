"""Walks that follow attention: their steps, and the share of time on each token."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal, Self, final, get_args

from torch import Tensor

from attnchain_interp.attribution.defaults import settings_of
from attnchain_interp.attribution.method import POLICIES, Begin
from attnchain_interp.attribution.of_attention.attention_attribution import ChainAttribution
from attnchain_interp.capture import LayerMean, Maps
from attnchain_interp.chain import Chain, bounce, expected_visits, stationary
from attnchain_interp.chain.chain import check_damping
from attnchain_interp.checks import check_one_of, check_whole_number
from attnchain_interp.errors import AttentionError
from attnchain_interp.store import (
    AttentionStore,
    Direction,
    Heads,
    LayerSelection,
    LayerWeights,
    Start,
    TokenSelection,
    states_of,
)
from attnchain_interp.store.starts import default_damping, jump_to_last, start_distribution

CausalPolicy = Literal["last", "damp", "drop-first", "reverse", "absorb"]
JUMPS_TO_LAST: Final = "jumps lead to the position that predicts the output token"


@final
class MultiBounce(ChainAttribution):
    """The distribution v Pⁿ of a walk after `steps` steps from a start v. The scores of an example sum to one.

    One step from the class token is its row of attention over the states, renormalised. A start that is not a state enters
    the chain by its own row, and the walk does not return to it.

    The defaults (docs/real-text.md, docs/real-vision.md):

    - text of a decoder: layers="all", layer_weights="late", balanced=False, maps="alti";
    - text of an encoder: layers="all", layer_weights="mean", balanced=False, maps="alti";
    - image: layers=slice(-2, None), layer_weights="mean", balanced=True, maps="attention".

    As published: layers="all", layer_weights="mean", balanced=False, maps="attention".

    Args:
        forward_func, layers, heads, tokens, direction, layer_weights, balanced, maps: see `AttentionAttribution`.
        steps: n, 0 or more.
        start: "class", "last" (the last token that is not padding, which predicts the next token in a decoder), "center" (the
            centre patch), "uniform", "class-or-uniform", the position of a token, or distributions (token,) or (batch, token)
            over all tokens. None means the class token where there is one; else "last" in a decoder, and "uniform" in any
            other model.

    Raises:
        AttentionError: on attribution, for negative steps.

    Source: Erel et al., *Attention (as Discrete-Time Markov) Chains*, NeurIPS 2025.
    """

    has_start: ClassVar[bool] = True

    def __init__(
        self,
        forward_func: Any = None,
        *,
        steps: int = 2,
        start: Start | None = None,
        layers: LayerSelection | None = None,
        heads: Heads = "mean",
        tokens: TokenSelection = None,
        direction: Direction = "incoming",
        layer_weights: LayerWeights | None = None,
        balanced: bool | float | None = None,
        maps: Maps | None = None,
    ) -> None:
        check_whole_number("steps", steps, "the number of steps of the walk", 0)
        super().__init__(
            forward_func,
            layers=layers,
            heads=heads,
            tokens=tokens,
            direction=direction,
            layer_weights=layer_weights,
            balanced=balanced,
            maps=maps,
        )
        self.steps, self.start = steps, start

    def score(self, store: AttentionStore) -> Tensor:
        chain = self.chain(store)
        return bounce(chain, start_distribution(chain, store.tokens, self.start), self.steps)


@final
class TokenRank(ChainAttribution):
    """The stationary distribution of the attention chain: the share of time that an endless walk spends on each token.

    π = π (damping · P + (1 − damping) · 1 vᵀ). Scores sum to one. The defaults:

    - text of a decoder: layers="all", layer_weights="late", balanced=0.5, maps="alti", and causal="last", damping=0.5;
    - text of an encoder: layers="all", layer_weights="mean", balanced=False, maps="alti", and damping=0.99;
    - image: layers=slice(-2, None), layer_weights="mean", balanced=True, maps="attention", and damping=0.99.

    As published: layers="all", layer_weights="mean", balanced=False, maps="attention".

    In a causal decoder no attention leaves the first token, so an undamped walk ends there and would score that token alone.
    `causal` says how this is avoided:

    - "last": jumps lead to the last token, which predicts the next one; where it is not a state (text after the patches of an
      image), to the states that it attends to. A token counts by how much of the last token's reading comes from it. With
      damping 0.5 it is the most faithful of the policies on the bundled decoder (docs/text-defaults.md). It is the default in
      a decoder.
    - "damp": the damping alone. The first token keeps most of the mass. The other tokens are ranked by the mass that passes
      them.
    - "drop-first": the first state is left out, and rows are renormalised. The second state then absorbs: damping matters.
    - "reverse": the reversed chain, from a token to the tokens that attend to it. The last token absorbs.
    - "absorb": walks begin everywhere and end when they reach the first state or a sink in the softmax. The score is each
      token's share of the `expected_visits` until then, without damping. The first state scores 0.

    Args:
        forward_func, layers, heads, tokens, direction, layer_weights, balanced, maps: see `AttentionAttribution`.
        damping: the probability of following attention rather than jumping. None means 0.5 under "last", else 0.99.
        personalization: v (token,) or (batch, token) over all tokens, where jumps land, or where walks begin under "absorb".
            None means uniform over the states.
        causal: see above. None means "last" where maps are causal and neither a personalization nor the outgoing direction is
            given, else "damp".

    Raises:
        AttentionError: on attribution, the errors of `stationary`, `expected_visits` and `capture`; at once, for another
            policy, for "last" with a personalization, or "last", "reverse" or "absorb" with direction="outgoing".

    Source: Erel et al., *Attention (as Discrete-Time Markov) Chains*, NeurIPS 2025.
    """

    def __init__(
        self,
        forward_func: Any = None,
        *,
        layers: LayerSelection | None = None,
        heads: Heads = "mean",
        tokens: TokenSelection = None,
        direction: Direction = "incoming",
        damping: float | None = None,
        personalization: Tensor | None = None,
        causal: CausalPolicy | None = None,
        layer_weights: LayerWeights | None = None,
        balanced: bool | float | None = None,
        maps: Maps | None = None,
    ) -> None:
        if damping is not None:
            check_damping(damping)
        if causal is not None:
            check_one_of("causal", causal, get_args(CausalPolicy))
        if causal == "last" and personalization is not None:
            raise AttentionError('causal="last" says where jumps lead, and so does personalization.', "Leave one out.")
        if causal in ("last", "reverse", "absorb") and direction == "outgoing":
            raise AttentionError(f"causal={causal!r} has its own direction.", 'Leave direction="incoming".')
        super().__init__(
            forward_func,
            layers=layers,
            heads=heads,
            tokens=tokens,
            direction=direction,
            layer_weights=layer_weights,
            balanced=balanced,
            maps=maps,
        )
        self.damping, self.personalization = damping, personalization
        self.causal: CausalPolicy | None = causal

    def policy(self, decoder: bool) -> tuple[CausalPolicy, float]:
        """Returns the causal policy and the damping, where maps are causal (`decoder`) or not."""
        free = self.personalization is None and self.direction == "incoming"
        policy: CausalPolicy = self.causal or ("last" if decoder and free else "damp")
        return policy, default_damping(policy == "last") if self.damping is None else self.damping

    def chain(self, store: AttentionStore) -> Chain:
        if self.causal in (None, "damp", "last"):
            return super().chain(store)
        if self.causal == "reverse":
            return self._chain(store, self.tokens, "outgoing")
        states = states_of(store, self.tokens, settings_of(self, store).layers)
        later = states & (states.cumsum(1) > 1)
        return self._chain(store, later, self.direction, "absorb" if self.causal == "absorb" else "drop")

    @property
    def _kept(self) -> Literal["auto"] | LayerMean:
        return "auto" if self.causal in ("drop-first", "absorb") else super()._kept  # tokens are left out of each layer

    def has_convergence_delta(self) -> bool:
        """Returns whether `return_convergence_delta=True` gives ‖πP' − π‖₁: under every policy but "absorb"."""
        return self.causal != "absorb"

    def score(self, store: AttentionStore) -> Tensor:
        if self.has_convergence_delta():
            return self.score_with_residual(store)[0]
        chain = self.chain(store)
        visits = expected_visits(chain, self._personalization(chain))
        return visits / visits.sum(-1, keepdim=True)

    def score_with_residual(self, store: AttentionStore) -> tuple[Tensor, Tensor]:
        if not self.has_convergence_delta():
            return super().score_with_residual(store)
        chain, (policy, damping) = self.chain(store), self.policy(self.causal is None and store.causal)
        jumps = jump_to_last(chain, store.tokens) if policy == "last" else self._personalization(chain)
        return stationary(chain, damping, jumps, return_residual=True)

    def started_at(self, start: Start, store: AttentionStore) -> Self | None:
        """Returns a copy whose jumps land in the distribution `start`; None for a position, where the policy applies."""
        if not isinstance(start, Tensor):
            return None
        inside = start * self._of_read().chain(store).states[0].to(start.device)
        if not float(inside.sum()) > 0:
            raise AttentionError("an output token attends to none of the chosen tokens.", "Choose other tokens by tokens=….")
        return self.changed(personalization=inside / inside.sum())

    def walks_from_position(self, begin: Begin | None) -> bool:
        return begin is None and self.policy(decoder=True)[0] == "last"

    def text_policy(self, begin: Begin | None) -> str:
        if begin is not None:
            return POLICIES[begin].replace("starts", "starts and restarts")
        policy, damping = self.policy(decoder=True)
        rank = f"causal={policy!r}" + (f", damping={damping}" if policy != "absorb" else "")
        where = JUMPS_TO_LAST if policy == "last" else "no start"
        return f"{where}: the context of each output token is ranked as a whole, {rank}"

    def _personalization(self, chain: Chain) -> Tensor | None:
        v = self.personalization
        return v[:, None] if isinstance(v, Tensor) and v.ndim == 2 and chain.states.ndim == 3 else v  # one for all heads
