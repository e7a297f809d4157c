"""TokenRank: the stationary distribution as a token's global importance."""

from __future__ import annotations

from typing import Any, Literal, final, get_args

from torch import Tensor

from attnchain_interp.attribution.of_attention.attention_attribution import AttentionAttribution
from attnchain_interp.chain.absorption import expected_visits
from attnchain_interp.chain.chain import Chain
from attnchain_interp.chain.functionals import stationary
from attnchain_interp.errors import AttentionError
from attnchain_interp.store.attention_store import AttentionStore, Direction
from attnchain_interp.store.head_weights import Heads
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.starts import last_state
from attnchain_interp.store.tokens import TokenSelection

CausalPolicy = Literal["last", "damp", "drop-first", "reverse", "absorb"]


@final
class TokenRank(AttentionAttribution):
    """The stationary distribution of the attention chain: the share of time that an endless walk spends on each token.

    π = π (damping · P + (1 − damping) · 1 vᵀ). Scores of an example sum to one.

    In a causal decoder no attention leaves the first token, so an undamped walk ends there and would score it alone. What
    is done about it is said by `causal`:

    - "last": jumps lead to the last state, which predicts the next token, so that a token counts by how much of what is read
      there comes from it. The most faithful of the policies on a trained decoder whose evidence is known, with damping 0.5
      (docs/text-defaults.md), and what None means in a decoder.
    - "damp": nothing but the damping. The first token keeps most of the mass; the others are ranked by what passes them.
    - "drop-first": the first state is left out and rows are renormalised. (The second then absorbs; the damping matters.)
    - "reverse": the reversed chain, from a token to those that attend to it; the last token absorbs.
    - "absorb": walks begin everywhere and end when they reach the first state or a sink in the softmax; the score is each
      token's share of the `expected_visits` until then, itself undamped. The first state scores 0.

    Args:
        forward_func, layers, heads, tokens, direction: as in `AttentionAttribution`.
        damping: probability of following attention rather than jumping; when None 0.5 under "last", else 0.99.
        personalization: v (token,) or (batch, token) over all tokens, where jumps land (under "absorb", where walks begin);
            uniform over the states when None.
        causal: as above. None means "last" where maps are causal and neither a personalization nor the outgoing direction is
            asked for, else "damp".

    Raises:
        AttentionError: on attribution, as `stationary`, `expected_visits` and `capture`; at once, for another policy, for
            "last" with a personalization, or "last", "reverse" or "absorb" with direction="outgoing".

    Source: Erel et al., *Attention (as Discrete-Time Markov) Chains*, NeurIPS 2025.
    """

    def __init__(
        self,
        forward_func: Any = None,
        layers: LayerSelection = "all",
        heads: Heads = "mean",
        tokens: TokenSelection = None,
        direction: Direction = "incoming",
        damping: float | None = None,
        personalization: Tensor | None = None,
        causal: CausalPolicy | None = None,
    ) -> None:
        if causal not in (None, *get_args(CausalPolicy)):
            raise AttentionError(f"causal={causal!r} is unknown; use one of {', '.join(map(repr, get_args(CausalPolicy)))}.")
        if causal == "last" and personalization is not None:
            raise AttentionError('causal="last" says where jumps lead, and so does personalization; leave one of them out.')
        if causal in ("last", "reverse", "absorb") and direction == "outgoing":
            raise AttentionError(f'causal={causal!r} has its own direction; leave direction="incoming".')
        super().__init__(forward_func, layers, heads, tokens, direction)
        self.damping, self.personalization = damping, personalization
        self.causal: CausalPolicy | None = causal  # type: ignore[assignment] - checked above

    def policy(self, decoder: bool) -> tuple[CausalPolicy, float]:
        """What is done about the first token, and the damping, where maps are causal (`decoder`) or not."""
        free = self.personalization is None and self.direction == "incoming"
        default: CausalPolicy = "last" if decoder and free else "damp"
        policy = default if self.causal is None else self.causal
        return policy, (0.5 if policy == "last" else 0.99) if self.damping is None else self.damping

    def chain(self, store: AttentionStore) -> Chain:
        if self.causal in (None, "damp", "last"):
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
        chain, (policy, damping) = self.chain(store), self.policy(self.causal is None and store.causal)
        jumps = last_state(chain) if policy == "last" else self._personalization(chain)
        return stationary(chain, damping, jumps, return_residual=True)

    def _personalization(self, chain: Chain) -> Tensor | None:
        v = self.personalization
        return v[:, None] if v is not None and v.ndim == 2 and chain.states.ndim == 3 else v  # one for all heads
