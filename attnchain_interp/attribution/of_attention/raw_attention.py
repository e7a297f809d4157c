"""Raw attention: a row or a column of the map, as most attention pictures show it."""

from __future__ import annotations

from typing import Any, Literal, final

from torch import Tensor

from attnchain_interp.attribution.of_attention.attention_attribution import AttentionAttribution
from attnchain_interp.errors import AttentionError
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.head_weights import Heads
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.starts import token_position
from attnchain_interp.store.tokens import TokenSelection


@final
class RawAttention(AttentionAttribution):
    """The row of one token (where it attends to) or its column (which tokens attend to it), one hop, as the model has it.

    Unlike the chain methods it keeps every token by default, so nothing is renormalised: the row of the class token is
    `store.maps()[..., 0, :]`, averaged over layers and heads.

    Args:
        forward_func: as in `AttentionAttribution`.
        token: "class", "center" (the centre patch) or a token by number.
        select: "row" or "column".
        layers, heads, tokens: as in `AttentionAttribution`; every token by default. Pictures often show the last layer
            alone (`layers=-1`).

    Raises:
        AttentionError: on attribution, for a token that does not exist, and as `capture`; at once, for another `select`.
    """

    def __init__(
        self,
        forward_func: Any = None,
        token: str | int = "class",
        select: Literal["row", "column"] = "row",
        layers: LayerSelection = "all",
        heads: Heads = "mean",
        tokens: TokenSelection = "all",
    ) -> None:
        if select not in ("row", "column"):
            raise AttentionError(f'select={select!r} is unknown; use "row" or "column".')
        super().__init__(forward_func, layers, heads, tokens)
        self.token, self.select = token, select

    def score(self, store: AttentionStore) -> Tensor:
        transitions = self.chain(store).transitions
        position = token_position(store.tokens, self.token)
        picked = transitions.rows if self.select == "row" else transitions.columns
        return picked(position, position + 1)[..., 0, :]
