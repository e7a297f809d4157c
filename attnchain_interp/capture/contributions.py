"""Maps of contributions: attention weighted by the size of the values that it moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from attnchain_interp.capture.adapter import CaptureRequest
from attnchain_interp.capture.attention_block import AttentionBlock, Measure, check_measure
from attnchain_interp.capture.collector import Expected, MakeNorms, told
from attnchain_interp.capture.reading import Reading, separated
from attnchain_interp.capture.recognition import required_adapter
from attnchain_interp.capture.shards import check_holds_weights
from attnchain_interp.capture.source import module_of, uncompiled
from attnchain_interp.capture.store_collector import StoreCollector
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import Factors, full_precision
from attnchain_interp.store import AttentionStore, LayerSelection


@final
class ContributionCollector:
    """Keeps one map of contributions (batch, 1, query, key) per layer. A recorder gives it whole attention blocks.

    Args:
        measure: the size of a contribution. See `capture_contributions`.

    Raises:
        AttentionError: an unknown measure.
    """

    def __init__(self, measure: Measure) -> None:
        check_measure(measure)
        self._measure: Measure = measure
        self._maps = StoreCollector("maps")
        self._expected: Expected | None = None

    def __repr__(self) -> str:
        return f"ContributionCollector({self._measure!r})"

    def expect(self, expected: Expected) -> None:
        """Refuses attention to other tokens. See `Collector.expect`."""
        if expected.queries is not None:
            raise AttentionError(
                "contributions belong to self-attention, whose output is added to its own tokens; this is attention to other"
                " tokens (cross-attention, a pooling head).",
                "Capture its maps: capture(model, …).",
            )
        self._expected = expected
        self._maps.expect(expected)

    def take(self, name: str, attention: Tensor | Factors, sink: bool = False, value_norms: MakeNorms | None = None) -> None:
        """Refuses attention without its values. See `Collector.take`."""
        raise AttentionError(
            f"layer {name!r} showed its attention alone, and contributions are computed from its values too: text is being"
            " generated, or the adapter does not follow values.",
            "Capture one forward of the finished text.",
        )

    @full_precision()
    def take_block(self, name: str, block: AttentionBlock) -> None:
        """Takes the attention block of one layer, and keeps its contributions.

        Raises:
            AttentionError: as `Expected.check_layer` and `AttentionBlock.contributions`.
        """
        expected = told(self._expected)
        expected.check_layer(name, block.attention, ())
        self._maps.take(name, block.contributions(self._measure, expected.tokens.mask))

    def result(self, names: Sequence[str], metadata: Mapping[str, str]) -> AttentionStore:
        """Returns the store of the contributions. See `Collector.result`."""
        return self._maps.result(names, {**metadata, "measure": self._measure})


def capture_contributions(
    model: Any,
    *inputs: Any,
    measure: Measure = "alti",
    layers: LayerSelection = "all",
    reading: Reading | None = None,
    **kwargs: Any,
) -> AttentionStore:
    """Captures the share of each token in an attention block's output at each token, as a store of maps.

    The output of a block at token i is Σ_j T_i(x_j) plus biases (see `AttentionBlock`): attention times values, through the
    output projection, with the block's input at j = i and the layer norm where one follows the addition (BERT; there is none
    in ViT, GPT-2, Llama). The share of j is measured, and rows sum to one. The maps (batch, 1, query, key) have one head for
    all heads. They are a chain, and every method reads them. The metadata name the measure.

    Each call proves itself: the parts must add up to the model's own output, layer by layer. The feed-forward network is left
    out.

    Args:
        model: a model that an adapter recognises. The model is left as it was.
        inputs, kwargs: the arguments of the model.
        layers: the layers to keep. See `AttentionStore.select`.
        reading: says which attention is meant. See `Reading`.
        measure: the size of a contribution. With the vectors T_i(x_j),
            "norm": ‖Σ_h A_ij^h u_j^h‖₂ of attention alone, without the block's input;
            "norm-res": ‖·‖₂ with the input;
            "norm-resln": ‖T_i(x_j)‖₂ with the input and the layer norm after the addition, where there is one;
            "alti": max(0, ‖y_i‖₁ − ‖y_i − T_i(x_j)‖₁), by how much the output y_i, biases included, is nearer to T_i(x_j) than
            to zero.

    Raises:
        AttentionError: as `capture`; an unknown measure; attention to other tokens, generated text; a block that is not a sum
            over tokens, or whose parts are not found (parallel blocks, gates, a normalisation before the addition).

    Cost: one forward, and for each layer one output projection per head; "alti" adds tokens² × heads × width products. One
    layer's heads × tokens × width numbers are held at a time.

    Source: Kobayashi et al., *Attention is Not Only a Weight*, EMNLP 2020 ("norm"), and *Incorporating Residual and
    Normalization Layers into Analysis of Masked Language Models*, EMNLP 2021 (the other norms); Ferrando, Gállego &
    Costa-jussà, *Measuring the Mixing of Contextual Information in the Transformer*, EMNLP 2022 ("alti").
    """
    collector, model = ContributionCollector(measure), uncompiled(model)
    check_holds_weights(module_of(model))
    adapter = required_adapter(
        model, "contributions need", "Maps of your own making are a store by AttentionStore.from_maps(your_maps)."
    )
    reading, kwargs = separated(model, reading, kwargs)
    with torch.no_grad():
        return adapter.capture(model, inputs, kwargs, CaptureRequest(collector, layers, reading))
