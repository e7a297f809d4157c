"""Baselines of few steps: column sums, rows of raw attention, weighted PageRank, and the random control."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self, final

import torch
from torch import Tensor

from attnchain_interp.attribution.defaults import settings_of
from attnchain_interp.attribution.method import Begin
from attnchain_interp.attribution.of_attention.attention_attribution import (
    AttentionAttribution,
    ChainAttribution,
)
from attnchain_interp.attribution.of_attention.walks import MultiBounce
from attnchain_interp.capture import Maps
from attnchain_interp.chain import bounce
from attnchain_interp.checks import check_one_of, check_whole_number
from attnchain_interp.errors import AttentionError
from attnchain_interp.store import (
    AttentionStore,
    Heads,
    LayerSelection,
    LayerWeights,
    Start,
    TokenSelection,
    head_weights,
    states_of,
)
from attnchain_interp.store import layer_weights as weights_of_layers
from attnchain_interp.store.layer_selection import in_order
from attnchain_interp.store.layers import check_store
from attnchain_interp.store.starts import token_positions


@final
class ColumnSum(ChainAttribution):
    """The column sums of the map over its states, divided by their number: one bounce from the uniform start.

    The scores of an example sum to one. Attention-based token pruning (H2O) and self-attention guidance (SAG) use this
    baseline.

    Args:
        forward_func, layers, heads, tokens, direction, layer_weights, balanced, maps: see `AttentionAttribution`.
    """

    def score(self, store: AttentionStore) -> Tensor:
        chain = self.chain(store)
        return bounce(chain, chain.uniform, steps=1)


@final
class RawAttention(ChainAttribution):
    """The row of one token (where it attends to) or its column (which tokens attend to it): one hop, without a chain.

    It keeps every token by default, unlike the chain methods, so nothing is renormalised. The row of the class token is
    `store.maps()[..., 0, :]`, averaged over layers and heads.

    Args:
        forward_func, heads, layer_weights, balanced, maps: see `AttentionAttribution`.
        token: "class", "center" (the centre patch) or the position of a token.
        select: "row" or "column".
        layers: see `AttentionAttribution`. Pictures often show the last layer alone (`layers=-1`).
        tokens: see `AttentionAttribution`; every token by default.

    Raises:
        AttentionError: at once, for another `select`.
    """

    def __init__(
        self,
        forward_func: Any = None,
        *,
        token: str | int = "class",
        select: Literal["row", "column"] = "row",
        layers: LayerSelection = "all",
        heads: Heads = "mean",
        tokens: TokenSelection = "all",
        layer_weights: LayerWeights = "mean",
        balanced: bool | float = False,
        maps: Maps = "attention",
    ) -> None:
        check_one_of("select", select, ("row", "column"))
        super().__init__(
            forward_func, layers=layers, heads=heads, tokens=tokens, layer_weights=layer_weights, balanced=balanced, maps=maps
        )
        self.token, self.select = token, select

    def score(self, store: AttentionStore) -> Tensor:
        transitions = self.chain(store).transitions
        positions = token_positions(store.tokens, self.token).tolist()
        picked = transitions.rows if self.select == "row" else transitions.columns
        lines = {position: picked(position, position + 1)[..., 0, :] for position in set(positions)}
        return torch.stack([lines[position][example] for example, position in enumerate(positions)])

    def started_at(self, start: Start, store: AttentionStore) -> AttentionAttribution:
        if self.select == "column":
            raise AttentionError(
                'select="column" scores the tokens that attend to a token, and no token before an output token attends to it.',
                'Instead use select="row".',
            )
        if isinstance(start, Tensor):  # the mean of the rows, each with its share
            names = ("layers", "heads", "tokens", "direction", "layer_weights", "balanced")
            return MultiBounce(steps=1, start=start, **{name: getattr(self, name) for name in names})
        return self.changed(token=start)


@final
class WeightedPageRank(AttentionAttribution):
    """s ← Aᵀ s from uniform importance, in each head by itself; then the root of the mean square over heads.

    A few steps of an undamped walk: between the column sum (one step) and TokenRank (many steps, damped). The root mean
    square lets a token stand out that is important to one head, where a mean would level it. Scores therefore do not sum to
    one. The method was published for one layer at a time. Over several layers, every layer counts the same under the root.
    The paper's filter of heads, by the variance of their scores, is not applied.

    Args:
        forward_func: see `AttentionAttribution`.
        steps: the number of steps in every layer. The paper takes more steps in the first layers than in the last.
        layers, tokens, balanced, maps: see `AttentionAttribution`; every layer and every token by default.
        heads, layer_weights: see `AttentionAttribution`; the weights of the means under the root.

    Raises:
        AttentionError: on attribution, for negative steps.

    Source: Wang, Dedhia & Jha, *Zero-TPrune: Zero-Shot Token Pruning through Leveraging of the Attention Graph in
    Pre-Trained Transformers*, CVPR 2024 (Weighted Page Rank; emphasizing informative regions).
    """

    allows_padding: ClassVar[bool] = True

    def __init__(
        self,
        forward_func: Any = None,
        *,
        steps: int = 30,
        layers: LayerSelection = "all",
        heads: Heads = "mean",
        tokens: TokenSelection = "all",
        layer_weights: LayerWeights = "mean",
        balanced: bool | float = False,
        maps: Maps = "attention",
    ) -> None:
        super().__init__(
            forward_func, layers=layers, heads=heads, tokens=tokens, layer_weights=layer_weights, balanced=balanced, maps=maps
        )
        self.steps = steps

    def score(self, store: AttentionStore) -> Tensor:
        check_store(store)
        chosen = settings_of(self, store)
        states = states_of(store, self.tokens, chosen.layers)
        weights = weights_of_layers(store, chosen.layer_weights, layers=chosen.layers, tokens=states).unbind(1)
        names = in_order(store.names, chosen.layers)
        squares = [self._mean_square(store, name, states, chosen.balanced) for name in names]
        shape = (-1, *[1] * (squares[0].ndim - 1))
        return torch.stack([w.reshape(shape) * square for w, square in zip(weights, squares, strict=True)]).sum(0).sqrt()

    def _mean_square(self, store: AttentionStore, layer: str, states: Tensor, balanced: bool | float) -> Tensor:
        chain = store.chain(layer, "each", tokens=states, balanced=balanced)
        squares = bounce(chain, chain.uniform, self.steps).square()
        if self.heads == "each":
            return squares
        return torch.einsum("bh,bhi->bi", head_weights(store, self.heads, layers=layer, tokens=states)[:, 0], squares)


@final
class RandomRanking(AttentionAttribution):
    """Uniform random scores in [0, 1) for the selected tokens: the control that every method must beat.

    Args:
        forward_func, tokens: see `AttentionAttribution`. The model only tells how many tokens there are.
        seed: the same seed gives the same scores. One generator serves the whole batch.
    """

    def __init__(self, forward_func: Any = None, *, seed: int = 0, tokens: TokenSelection = None) -> None:
        super().__init__(forward_func, layers=-1, tokens=tokens)
        check_whole_number("seed", seed, "the seed of the scores", 0)
        self.seed = seed

    def score(self, store: AttentionStore) -> Tensor:
        return self.score_part(store, 0)

    def score_part(self, store: AttentionStore, first: int) -> Tensor:
        check_store(store)
        generator = torch.Generator().manual_seed(self.seed)
        shape = (first + store.batch, len(store.tokens))
        scores = torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu")[first:]
        return scores * states_of(store, self.tokens)

    def started_at(self, start: Start, store: AttentionStore) -> Self:
        return self

    def walks_from_position(self, begin: Begin | None) -> bool:
        return False

    def text_policy(self, begin: Begin | None) -> str:
        return "random scores of every token of the context"
