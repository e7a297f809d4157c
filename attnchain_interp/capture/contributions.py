"""From a model and its inputs to maps of contributions: attention weighted by what the values amount to."""

from __future__ import annotations

from typing import Any

import torch

from attnchain_interp.capture.attention_block import Measure
from attnchain_interp.capture.capture import adapter_of, uncompiled
from attnchain_interp.capture.collectors import Keeping
from attnchain_interp.errors import AttentionError
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.layers import LayerSelection


@torch.no_grad()
def capture_contributions(
    model: Any, *inputs: Any, measure: Measure = "alti", layers: LayerSelection = "all", **kwargs: Any
) -> AttentionStore:
    """What each token contributes to an attention block's output at each token, layer by layer, as a store of maps.

    The output of a block at token i is Σ_j T_i(x_j) plus biases (see `AttentionBlock`): attention times values, through the
    output projection, with the block's input at j = i and the layer norm where one follows the addition (BERT; there is none
    in ViT, GPT-2, Llama). The share of j is measured, and rows sum to one; so the maps (batch, 1, query, key), with one head
    for all heads, are a chain like any other, and every method reads them. The metadata has the measure.

    Each call proves itself: the parts must add up to the model's own output, layer by layer. The feed-forward network and what
    follows it are left out.

    Args:
        model: a model that an adapter recognises. Left as it was.
        inputs, layers, kwargs: as in `capture`.
        measure: how large a contribution is. With the vectors T_i(x_j),
            "norm": ‖Σ_h A_ij^h u_j^h‖₂ of attention alone, without the block's input;
            "norm-res": ‖·‖₂ with the input;
            "norm-resln": ‖T_i(x_j)‖₂ with the input and the layer norm after the addition, where there is one;
            "alti": max(0, ‖y_i‖₁ − ‖y_i − T_i(x_j)‖₁), by how much the output y_i, biases included, is nearer to T_i(x_j) than
            to zero.

    Raises:
        AttentionError: as `capture`; an unknown measure; attention to other tokens, generated text; a block that is no sum
            over tokens, or whose parts are not found (parallel blocks, gates, a normalisation before the addition).

    Cost: one forward, and for each layer one output projection per head; "alti" adds tokens² × heads × width products. Of one
    layer at a time, heads × tokens × width numbers are held.

    Source: Kobayashi et al., *Attention is Not Only a Weight*, EMNLP 2020 ("norm"), and *Incorporating Residual and
    Normalization Layers into Analysis of Masked Language Models*, EMNLP 2021 (the other norms); Ferrando, Gállego &
    Costa-jussà, *Measuring the Mixing of Contextual Information in the Transformer*, EMNLP 2022 ("alti").
    """
    keeping, model = Keeping("maps", measure=measure), uncompiled(model)
    adapter = adapter_of(model)
    if adapter is None:
        raise AttentionError(
            f"contributions need a model that an adapter recognises; got {type(model).__name__}. Maps of your own making are a"
            " store by AttentionStore.from_maps(your_maps)."
        )
    store = adapter.capture(model, inputs, layers, keeping, **kwargs)
    assert isinstance(store, AttentionStore), "maps are kept"  # noqa: S101
    return store
