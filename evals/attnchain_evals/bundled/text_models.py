"""The bundled models of text: a Llama decoder and a BERT encoder trained to look up keys, shipped with their weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_model

from attnchain_evals.tasks.key_values import PAD, START, TOKENS, VALUES, VOCABULARY

if TYPE_CHECKING:
    from transformers import BertForSequenceClassification, LlamaForCausalLM

DECODER_WEIGHTS = Path(__file__).with_name("decoder.safetensors")
ENCODER_WEIGHTS = Path(__file__).with_name("encoder.safetensors")
_SIZES: Any = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": TOKENS,
    "pad_token_id": PAD,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}


def build_decoder() -> LlamaForCausalLM:
    """Returns the decoder, freshly initialised: width 64, 3 layers of 4 heads, vocabulary of 64, tied embeddings."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**_SIZES, bos_token_id=START, eos_token_id=None, tie_word_embeddings=True))


def build_encoder() -> BertForSequenceClassification:
    """Returns the encoder, freshly initialised: width 64, 3 layers of 4 heads, a class for each of the 16 values.

    It starts from sine-cosine position embeddings, so training soon finds the next token, and from equal projections of keys
    and queries, so equal tokens attend to each other. Both shorten the time at chance.
    """
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        **_SIZES,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=len(VALUES),  # pyright: ignore[reportCallIssue] - of every configuration
        initializer_range=0.1,
    )
    model = BertForSequenceClassification(config)
    angles = torch.arange(TOKENS)[:, None] * 100.0 ** -torch.linspace(0, 1, 32)
    with torch.no_grad():
        model.bert.embeddings.position_embeddings.weight.copy_(0.1 * torch.cat([angles.sin(), angles.cos()], 1))
        for layer in model.bert.encoder.layer:
            attention: Any = layer.get_submodule("attention.self")
            attention.key.weight.copy_(attention.query.weight)
    return model


def bundled_decoder() -> LlamaForCausalLM:
    """Returns the trained decoder in eval mode. Its logits at the last token rank the answer among the vocabulary.

    See `CARD.md` beside the weights for data, training and accuracy. `python -m studies.training.text_models` trains it.
    """
    model = build_decoder()
    load_model(model, DECODER_WEIGHTS)
    return model.eval()


def bundled_encoder() -> BertForSequenceClassification:
    """Returns the trained encoder in eval mode: token numbers (batch, token) → logits (batch, value).

    See `CARD.md` beside the weights for data, training and accuracy. `python -m studies.training.text_models` trains it.
    """
    model = build_encoder()
    load_model(model, ENCODER_WEIGHTS)
    return model.eval()
