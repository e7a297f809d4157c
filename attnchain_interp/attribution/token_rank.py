"""TokenRank: the stationary distribution as a token's global importance."""

from __future__ import annotations

from typing import Any, Literal, final

from torch import Tensor

from attnchain_interp.attribution.attention_attribution import AttentionAttribution
from attnchain_interp.chain import Chain
from attnchain_interp.errors import AttentionError
from attnchain_interp.functionals.absorption import expected_visits
from attnchain_interp.functionals.stationary_distribution import stationary
from attnchain_interp.layers import LayerSelection
from attnchain_interp.store import AttentionStore, Direction
from attnchain_interp.tokens import TokenSelection
from attnchain_interp.weighting import Heads

CausalPolicy = Literal["damp", "drop-first", "reverse", "absorb"]


@final
class TokenRank(AttentionAttribution):
    """The stationary distribution of the attention chain: the share of time that an endless walk spends on each token.

    π = π (damping · P + (1 − damping) · 1 vᵀ). Scores of an example sum to one.

    In a causal decoder no attention leaves the first token, so an undamped walk ends there and would score it alone. What
    is done about it is said by `causal`:

    - "damp": nothing but the damping. The first token keeps most of the mass; the others are ranked by what passes them.
    - "drop-first": the first state is left out and rows are renormalised. (The second then absorbs; the damping matters.)
    - "reverse": the reversed chain, from a token to those that attend to it; the last token absorbs.
    - "absorb": walks begin everywhere and end when they reach the first state or a sink in the softmax; the score is each
      token's share of the `expected_visits` until then, itself undamped. The first state scores 0.

    Args:
        forward_func, layers, heads, tokens, direction: as in `AttentionAttribution`.
        damping: probability of following attention rather than jumping.
        personalization: v (token,) or (batch, token) over all tokens, where jumps land (under "absorb", where walks begin);
            uniform over the states when None.
        causal: as above; "damp" for models that are not causal.

    Raises:
        AttentionError: on attribution, as `stationary`, `expected_visits` and `capture`; at once, for another policy, or
            "reverse" or "absorb" with direction="outgoing".

    The policies were compared on a trained decoder whose evidence is known: docs/text-defaults.md.

    Source: Erel et al., *Attention (as Discrete-Time Markov) Chains*, NeurIPS 2025.
    """

    def __init__(
        self,
        forward_func: Any = None,
        layers: LayerSelection = "all",
        heads: Heads = "mean",
        tokens: TokenSelection = None,
        direction: Direction = "incoming",
        damping: float = 0.99,
        personalization: Tensor | None = None,
        causal: CausalPolicy = "damp",
    ) -> None:
        if causal not in ("damp", "drop-first", "reverse", "absorb"):
            raise AttentionError(f'causal={causal!r} is unknown; use "damp", "drop-first", "reverse" or "absorb".')
        if causal in ("reverse", "absorb") and direction == "outgoing":
            raise AttentionError(f'causal={causal!r} has its own direction; leave direction="incoming".')
        super().__init__(forward_func, layers, heads, tokens, direction)
        self.damping, self.personalization, self.causal = damping, personalization, causal

    def chain(self, store: AttentionStore) -> Chain:
        if self.causal == "damp":
            return super().chain(store)
        if self.causal == "reverse":
            return store.chain(self.layers, self.heads, self.tokens, "outgoing")
        states = store.tokens.select(self.tokens)
        later = states & (states.cumsum(1) > 1)
        return store.chain(self.layers, self.heads, later, self.direction, "absorb" if self.causal == "absorb" else "drop")

    def has_convergence_delta(self) -> bool:
        """Whether `attribute(…, return_convergence_delta=True)` has ‖πP − π‖₁ to give: under every policy but "absorb"."""
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
        chain = self.chain(store)
        return stationary(chain, self.damping, self._personalization(chain), return_residual=True)

    def _personalization(self, chain: Chain) -> Tensor | None:
        v = self.personalization
        return v[:, None] if v is not None and v.ndim == 2 and chain.states.ndim == 3 else v  # one for all heads
