"""Contribution rollout: rollout of what tokens contribute, in place of attention."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from attnchain_interp.attribution.model_call import model_call
from attnchain_interp.attribution.of_attention.rollout import layers_downward, rolled_out
from attnchain_interp.attribution.token_attribution import Call, Scored, TokenAttribution
from attnchain_interp.capture.attention_block import Measure, check_measure
from attnchain_interp.capture.contributions import capture_contributions
from attnchain_interp.errors import AttentionError
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.starts import Start


@final
class ContributionRollout(TokenAttribution):
    """The row of a start token in C_L · · · C_1, C the maps of `capture_contributions`.

    Nothing is mixed with the identity: residual connections are inside the contributions. It is class-agnostic: `target` has
    no effect. Any other method reads the same maps from a callable: `TokenRank(lambda x: capture_contributions(model, x))`.

    Args:
        forward_func: a model that an adapter recognises. Left as it was. None where only `score` is used.
        start: as in `Rollout`.
        layers: as in `Rollout`.
        measure: "alti"; "norm-resln", GlobEnc of the attention block alone (its second residual and layer norm, those of the
            feed-forward network, are left out); or "norm-res".

    Raises:
        AttentionError: at once, for a measure that is unknown or leaves the residual connection out; on attribution, for a
            start that does not exist, and as `capture_contributions`.

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
                'measure="norm" leaves the residual connection out; use "norm-res", or mix it in:'
                ' Rollout().score(capture_contributions(model, …, measure="norm")).'
            )
        super().__init__(forward_func)
        self.start, self.layers = start, layers
        self.measure: Measure = measure

    @torch.no_grad()
    def score(self, store: AttentionStore) -> Tensor:
        """One score per token (batch, token), summing to one, of what `capture_contributions` gave for the same measure.

        Raises:
            AttentionError: a store of attention, or of another measure; a layer or start that is not there.
        """
        found = store.metadata.get("measure")
        if found != self.measure:
            came = "attention" if found is None else f"contributions by {found!r}"
            raise AttentionError(
                f"the store holds {came}, and this method reads contributions by {self.measure!r}; get them with"
                f" capture_contributions(model, …, measure={self.measure!r})."
            )
        return self._rolled(store, self.layers)

    def scored(self, call: Call, with_residual: bool) -> Scored:
        positional, named = model_call(self.forward_func, call.inputs, call.extra)
        store = capture_contributions(self.forward_func, *positional, measure=self.measure, layers=self.layers, **named)
        with torch.no_grad():
            return Scored(self._rolled(store, "all"), store.tokens)

    def _rolled(self, store: AttentionStore, layers: LayerSelection) -> Tensor:
        chains = (store.chain(name, tokens="all") for name in layers_downward(store, layers))
        return rolled_out(chains, store.tokens, self.start, residual=0)
