"""Rollout of attention and of contributions: one step through every layer, from the last to the first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from attnchain_interp.attribution.defaults import settings_of
from attnchain_interp.attribution.of_attention.attention_attribution import AttentionAttribution
from attnchain_interp.attribution.worse_than_random import warn_of_decoder
from attnchain_interp.capture import Maps
from attnchain_interp.capture.contribution_sizes import holds_input
from attnchain_interp.chain import Chain
from attnchain_interp.checks import as_number, check_probability
from attnchain_interp.errors import AttentionError
from attnchain_interp.store import (
    AttentionStore,
    Heads,
    LayerSelection,
    Role,
    Start,
    TokenLayout,
    TokenSelection,
    states_of,
)
from attnchain_interp.store.layer_selection import in_order
from attnchain_interp.store.layer_weights import depths
from attnchain_interp.store.layers import check_store
from attnchain_interp.store.starts import start_distribution


@final
class Rollout(AttentionAttribution):
    """The row of a start token in Â_L · · · Â_1, where Â = r I + (1 − r) A is a layer's map with its residual connection.

    At each layer, the last first, a walk stays with probability r and else follows attention. The score of a token is the
    probability that the walk ends there; scores sum to one. The product of the layers is not built: the start row is passed
    down, through one layer at a time. Only "max", "min" and a discard ratio build the map of that layer.

    After fusing and discarding, each row of A is divided by its sum before it is mixed with I, so that r is the probability of
    staying whatever the fusion. (Published code with these options mixes first, and the residual gets the discarded share.) A
    row that loses all its entries stays where it is.

    On facts, with SmolLM2, it ranks tokens worse than a random order does (docs/real-text.md). It warns of that once, in a
    decoder. Neither `residual="depth"` nor a store of contributions is warned of.

    `Rollout(maps="alti")` is the rollout of ALTI. `Rollout(maps="norm-resln")` is GlobEnc of the attention block alone,
    without the second residual and layer norm, those of the feed-forward network.

    Args:
        forward_func: see `AttentionAttribution`.
        start: see `MultiBounce`.
        layers, heads, tokens, maps: see `AttentionAttribution`; every layer and every token by default. Layers are taken in
            the order of the model. Each is a factor of the product, so layers have no weights. `heads` may also be "max" or
            "min": the greatest or the least entry over the heads.
        discard: the share of the lowest entries of each row that is dropped, among the chosen tokens, and never in the column
            of the class token or of the one start token. 0.9 is usual.
        residual: r, from 0 to 1. None: one half, as published, where the maps lack the residual connection (attention,
            "norm"); 0 where they hold it (all other contributions). Or "depth": at layer l of the model's L, counted from 0,
            a walk stays with probability 1 − l / (L − 1), so that late layers move it more than early ones.

    Raises:
        AttentionError: at once, for a discard ratio or a residual out of range.

    Source: Abnar & Zuidema, *Quantifying Attention Flow in Transformers*, ACL 2020; fusion and discard ratio: Gildenblat,
    *Exploring Explainability for Vision Transformers*, 2020, which drops of the whole map and of the first example alone;
    contributions: Ferrando, Gállego & Costa-jussà, *Measuring the Mixing of Contextual Information in the Transformer*, EMNLP
    2022 ("alti"), and Modarressi et al., *GlobEnc: Quantifying Global Token Attribution by Incorporating the Whole Encoder
    Layer in Transformers*, NAACL 2022, with its N_ResLN ("norm-resln").
    """

    has_start: ClassVar[bool] = True
    allows_padding: ClassVar[bool] = True

    def __init__(
        self,
        forward_func: Any = None,
        *,
        start: Start | None = None,
        layers: LayerSelection = "all",
        heads: Heads = "mean",
        tokens: TokenSelection = "all",
        discard: float = 0.0,
        residual: float | Literal["depth"] | None = None,
        maps: Maps = "attention",
    ) -> None:
        if not 0 <= as_number(discard) < 1:
            raise AttentionError(
                f"discard is {discard!r}; it is the share of a row that is dropped, from 0 to below 1.", "Pass discard=0.9."
            )
        if residual is not None and not (isinstance(residual, str) and residual == "depth"):
            check_probability("residual", residual, "the probability of staying", 0.5)
        super().__init__(
            forward_func, layers=layers, heads=heads, tokens=tokens, layer_weights="mean", balanced=False, maps=maps
        )
        self.start, self.discard, self.residual = start, discard, residual

    def score(self, store: AttentionStore) -> Tensor:
        check_store(store)
        layers = settings_of(self, store).layers
        if self.residual != "depth":
            warn_of_decoder(self, store)
        states, names = states_of(store, self.tokens, layers), layers_downward(store, layers)
        chains = (self._fused(store, name, states) for name in names)
        if self.discard:
            chains = self._thinned(chains, store.tokens)
        if isinstance(self.residual, str):
            depth = dict(zip(store.names, depths(store), strict=True))
            return rolled_out(chains, store.tokens, self.start, [1 - depth[name] for name in names])
        residual = residual_of(store) if self.residual is None else self.residual
        return rolled_out(chains, store.tokens, self.start, repeat(residual))

    def _thinned(self, chains: Iterable[Chain], tokens: TokenLayout) -> Iterator[Chain]:
        kept = None
        for chain in chains:
            if kept is None:
                row = start_distribution(chain, tokens, self.start)
                classes = (tokens.roles == Role.CLASS).to(row.device)
                kept = (row == 1) | classes.reshape(len(row), *[1] * (row.ndim - 2), -1)
            yield _discarded(chain, self.discard, kept)

    def _fused(self, store: AttentionStore, layer: str, states: Tensor) -> Chain:
        if self.heads not in ("max", "min"):
            return store.chain(layer, self.heads, tokens=states)
        each = store.chain(layer, "each", tokens=states)
        fused = each.matrix.amax(1) if self.heads == "max" else each.matrix.amin(1)
        return _renormalised(fused, each.states[:, 0])


def residual_of(store: AttentionStore) -> float:
    """Returns the weight of a residual connection: one half where the maps lack it, 0 where contributions hold it."""
    return 0.0 if holds_input(store.metadata.get("maps", "attention")) else 0.5


def layers_downward(store: AttentionStore, layers: LayerSelection) -> list[str]:
    """Returns the names of the chosen layers in the order of the model, the last first."""
    return in_order(store.names, layers)[::-1]


def rolled_out(
    chains: Iterable[Chain], tokens: TokenLayout, start: Start | None, residuals: Iterable[float] = repeat(0.5)
) -> Tensor:
    """Returns the distribution (…, token) of a walk from `start` after one step of each chain, the last layer's first.

    At each chain the walk stays with the probability that `residuals` gives for it.
    """
    steps = zip(chains, residuals, strict=False)
    chain, residual = next(steps)  # a selection of layers is never empty
    row = start_distribution(chain, tokens, start)
    row = torch.lerp(row, chain.step(row), 1 - residual)
    for chain, residual in steps:
        row = torch.lerp(row, chain.step(row), 1 - residual)
    return row


def _renormalised(matrix: Tensor, states: Tensor) -> Chain:
    total = matrix.sum(-1, keepdim=True)
    stay = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return Chain(torch.where(total > 0, matrix / total, stay), states, check=False)


def _discarded(chain: Chain, ratio: float, kept: Tensor) -> Chain:
    """Returns the chain without the lowest entries of each row. The columns in `kept` (…, token) stay."""
    matrix, droppable = chain.matrix, (chain.states & ~kept)[..., None, :]
    count = (chain.states.sum(-1).double() * ratio).long()[..., None, None]
    order = matrix.masked_fill(~droppable, torch.inf).argsort(dim=-1, stable=True)
    first = (torch.arange(len(chain), device=matrix.device) < count).expand_as(order)
    lowest = torch.zeros_like(first).scatter(-1, order, first)
    return _renormalised(matrix.masked_fill(lowest & droppable, 0), chain.states)
