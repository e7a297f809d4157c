"""Small models that nnsight has wrapped, by the classes of its release."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nnsight
import pytest
import timm
import torch
import transformers
from torch import nn

from ..word_tokenizer import word_tokenizer

LONG, SHORT = "the tower in a city of light", "rain falls on glass"
WORDS = ["[PAD]", "[UNK]", "[EOS]", *LONG.split(), *SHORT.split()]
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
SMALL = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 32}
SIZES: dict[str, Any] = {**SMALL, "vocab_size": len(WORDS), "pad_token_id": 0, "initializer_range": 0.3}


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    return word_tokenizer(WORDS, pad_token="[PAD]", eos_token="[EOS]", padding_side="left")


def decoder(implementation: str = "eager") -> Any:
    return causal(transformers.LlamaForCausalLM, transformers.LlamaConfig(**SIZES, num_key_value_heads=2), implementation)


def gpt2() -> Any:
    """Whose positions are learned, so that padding on the left must not move them."""
    return causal(transformers.GPT2LMHeadModel, transformers.GPT2Config(**SIZES, n_embd=48, n_layer=3, n_head=4))


def causal(kind: Any, config: Any, implementation: str = "eager") -> Any:
    torch.manual_seed(0)
    model: Any = kind(config).eval()
    model.set_attn_implementation(implementation)
    return language_model(model)


def language_model(source: Any) -> Any:
    """By the class of nnsight's release."""
    if nnsight.__version__ < "0.8":
        return nnsight.LanguageModel(source, tokenizer=tokenizer())
    return nnsight.TransformersModel(source, task="text-generation", tokenizer=tokenizer())


def wrapped(model: nn.Module) -> Any:
    """By nnsight. Random weights attend almost uniformly, so that any two maps agree: queries and keys are made to count."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and any(part in name for part in ("qkv", "in_proj", "q_proj", "k_proj", "query", "key")):
            parameter.data = 0.4 * torch.randn(parameter.shape, generator=generator)
        elif "relative_position_bias_table" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return nnsight.NNsight(model.eval())


def encoder(implementation: str = "eager") -> Any:
    torch.manual_seed(0)
    model: Any = transformers.ViTModel(transformers.ViTConfig(**SMALL, image_size=64, patch_size=16))  # type: ignore[reportCallIssue]
    model.set_attn_implementation(implementation)
    return wrapped(model)


def timm_model(fused: bool = True, name: str = "vit_tiny_patch16_224") -> Any:
    torch.manual_seed(0)
    model: Any = timm.create_model(name, depth=3, embed_dim=48, num_heads=3, img_size=64)
    for block in model.blocks:
        block.attn.fused_attn = fused
    return wrapped(model)


def refused(match: str, model: Any, function: Callable[[Any], Any], *inputs: Any, kind: type[Exception] = ValueError) -> None:
    """Checks that a function of a trace of these inputs raises an error."""
    with pytest.raises(kind, match=match), model.trace(*inputs):
        function(model)
