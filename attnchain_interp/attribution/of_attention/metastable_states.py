"""The states that a walk rarely leaves, as numbers of tokens."""

from __future__ import annotations

from typing import Any, ClassVar, final

from torch import Tensor

from attnchain_interp.attribution.of_attention.attention_attribution import AttentionAttribution
from attnchain_interp.capture import Maps
from attnchain_interp.chain import metastable_states
from attnchain_interp.store import AttentionStore, Direction, Heads, LayerSelection, LayerWeights, TokenSelection


@final
class MetastableStates(AttentionAttribution):
    """The number of the metastable state that each token belongs to most: a segmentation, not an importance.

    1 is the state with the greatest stationary weight, 2 the next, and so on. 0 is for tokens outside the chain. The numbers
    are names: they may be compared and drawn, but not averaged. A state that is the greatest of no token does not appear. By
    default the last three layers of an image are averaged and balanced (docs/real-vision.md).

    Args:
        forward_func, layers, heads, tokens, direction, layer_weights, balanced, maps: see `AttentionAttribution`.
        k: the number of states. None finds the largest gap of each chain's spectrum.
        damping: the probability of following the chain, for the stationary distribution that weighs the tokens.

    Source: Reuter, Weber, Fackeldey, Röblitz, Garcia 2018 (GPCCA), here of attention.
    """

    is_additive: ClassVar[bool] = False

    def __init__(
        self,
        forward_func: Any = None,
        *,
        k: int | None = None,
        layers: LayerSelection | None = None,
        heads: Heads = "mean",
        tokens: TokenSelection = None,
        direction: Direction = "incoming",
        damping: float = 0.99,
        layer_weights: LayerWeights | None = None,
        balanced: bool | float | None = None,
        maps: Maps | None = None,
    ) -> None:
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
        self.k, self.damping = k, damping

    def memberships(self, store: AttentionStore) -> Tensor:
        """Returns the share of each token in each state: (batch, token, k), or (batch, head, token, k) for `heads="each"`.

        Raises:
            AttentionError: the errors of `metastable_states`, and a layer, head or token that the store lacks.
        """
        return metastable_states(self.chain(store), self.k, damping=self.damping)

    def score(self, store: AttentionStore) -> Tensor:
        share, state = self.memberships(store).max(-1)
        return ((state + 1) * (share > 0)).to(share.dtype)
