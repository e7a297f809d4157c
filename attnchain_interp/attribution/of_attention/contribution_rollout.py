"""Contribution rollout: rollout of the contributions of tokens, in place of attention."""

from __future__ import annotations

from typing import Any, Self, final

import torch
from torch import Tensor

from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.of_attention.rollout import layers_downward, rolled_out
from attnchain_interp.attribution.token_attribution import TokenAttribution
from attnchain_interp.capture.attention_block import Measure, check_measure
from attnchain_interp.capture.contributions import capture_contributions
from attnchain_interp.errors import AttentionError
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.starts import Start


@final
class ContributionRollout(TokenAttribution):
    """The row of a start token in C_L · · · C_1, where C are the maps of `capture_contributions`.

    The maps are not mixed with the identity: residual connections are inside the contributions. `target` has no effect. Any
    other method reads the same maps from a callable: `TokenRank(lambda x: capture_contributions(model, x))`.

    Args:
        forward_func: a model that an adapter recognises. It is left as it was. None where only `score` is used.
        start: see `MultiBounce`.
        layers: see `AttentionAttribution`. Layers are taken in the order of the model.
        measure: "alti"; "norm-resln", GlobEnc of the attention block alone (without the second residual and layer norm, those
            of the feed-forward network); or "norm-res".

    Raises:
        AttentionError: at once, for a measure that is unknown or leaves the residual connection out; on attribution, for a
            start that does not exist, and the errors of `capture_contributions`.

    Source: Ferrando, Gállego & Costa-jussà, *Measuring the Mixing of Contextual Information in the Transformer*, EMNLP 2022
    ("alti"); Modarressi et al., *GlobEnc: Quantifying Global Token Attribution by Incorporating the Whole Encoder Layer in
    Transformers*, NAACL 2022, with its N_ResLN ("norm-resln").
    """

    def __init__(
        self,
        forward_func: Any = None,
        start: Start | None = None,
        layers: LayerSelection = "all",
        measure: Measure = "alti",
    ) -> None:
        check_measure(measure)
        if measure == "norm":
            raise AttentionError(
                'measure="norm" leaves the residual connection out.',
                'Use "norm-res", or mix the residual in: Rollout().score(capture_contributions(model, …, measure="norm")).',
            )
        super().__init__(forward_func)
        self.start, self.layers = start, layers
        self.measure: Measure = measure

    @torch.no_grad()
    def score(self, store: AttentionStore) -> Tensor:
        """Returns one score per token (batch, token), summing to one, from a store of `capture_contributions`.

        Raises:
            AttentionError: a store of attention, or of another measure; a layer or start that does not exist.
        """
        found = store.metadata.get("measure")
        if found != self.measure:
            came = "attention" if found is None else f"contributions by {found!r}"
            raise AttentionError(
                f"the store holds {came}, and this method reads contributions by {self.measure!r}.",
                f"Use capture_contributions(model, …, measure={self.measure!r}).",
            )
        return self._rolled(store, self.layers)

    def read(self, call: Call) -> AttentionStore:
        positional, named = call.arguments(self.forward_func)
        return capture_contributions(self.forward_func, *positional, measure=self.measure, layers=self.layers, **named)

    def scores(self, source: AttentionStore, first: int = 0) -> Tensor:
        return self._rolled(source, "all")

    def started_at(self, start: int | Tensor, store: AttentionStore) -> Self:
        return self.changed(start=start)

    def _rolled(self, store: AttentionStore, layers: LayerSelection) -> Tensor:
        chains = (store.chain(name, tokens="all") for name in layers_downward(store, layers))
        return rolled_out(chains, store.tokens, self.start, residual=0)
