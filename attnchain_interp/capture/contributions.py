"""`capture_contributions`: maps of attention weighted by the size of the values that it moves."""

from __future__ import annotations

from typing import Any

import torch

from attnchain_interp.capture.adapter import CaptureRequest
from attnchain_interp.capture.contribution_collector import ContributionCollector
from attnchain_interp.capture.contribution_sizes import Measure
from attnchain_interp.capture.reading import Reading, separated
from attnchain_interp.capture.recognition import required_adapter
from attnchain_interp.capture.shards import check_holds_weights
from attnchain_interp.capture.source import module_of, uncompiled
from attnchain_interp.capture.store_collector import StoreCollector
from attnchain_interp.store import AttentionStore, LayerSelection


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
    out, also where it stands beside the attention (GPT-J, Phi). A normalisation or a gate before the addition counts as it
    is in this forward, as attention does.

    `capture(model, …, maps=…)` is the same for "norm", "projection" and "alti", and knows reducers.

    Args:
        model: a model that an adapter recognises. The model is left as it was.
        inputs, kwargs: the arguments of the model.
        layers: the layers to keep. See `AttentionStore.select`.
        reading: says which attention is meant. See `Reading`.
        measure: the size of a contribution. With the vectors T_i(x_j),
            "norm": ‖Σ_h A_ij^h u_j^h‖₂ of attention alone, without the block's input;
            "norm-res": ‖·‖₂ with the input;
            "norm-resln": ‖T_i(x_j)‖₂ with the input and the layer norm after the addition, where there is one;
            "projection": max(0, ⟨T_i(x_j), y_i⟩), along the output y_i, biases included;
            "alti": max(0, ‖y_i‖₁ − ‖y_i − T_i(x_j)‖₁), by how much the output y_i is nearer to T_i(x_j) than to zero.

    Raises:
        AttentionError: as `capture`; an unknown measure; attention to other tokens, generated text; a block that is not a sum
            over tokens, or whose parts are not found.

    Cost: "projection" and "norm" add about half a forward, "alti" tokens² × heads × width products. A gate of each channel
    (Qwen3-Next) makes "norm" and "alti" cost tokens² × width² products. One layer's map is held at a time.

    Source: Kobayashi et al., *Attention is Not Only a Weight*, EMNLP 2020 ("norm"), and *Incorporating Residual and
    Normalization Layers into Analysis of Masked Language Models*, EMNLP 2021 (the other norms); Ferrando, Gállego &
    Costa-jussà, *Measuring the Mixing of Contextual Information in the Transformer*, EMNLP 2022 ("alti"); Cunningham & Muça
    Cirone, *Contribution Weights: A Geometrical Analysis of
    Self-Attention Transformers*, 2026, arXiv 2606.07604 ("projection").
    """
    collector, model = ContributionCollector(measure, StoreCollector("maps")), uncompiled(model)
    check_holds_weights(module_of(model))
    adapter = required_adapter(
        model, "contributions need", "Maps of your own making are a store by AttentionStore.from_maps(your_maps)."
    )
    reading, kwargs = separated(model, reading, kwargs)
    with torch.no_grad():
        return adapter.capture(model, inputs, kwargs, CaptureRequest(collector, layers, reading))
