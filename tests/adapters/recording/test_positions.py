"""Positions that count the padding before a text."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import attnchain_interp as ac

IDS = torch.tensor([[5, 8, 13, 21, 34, 3, 9], [0, 0, 0, 5, 8, 13, 21]])
MASK = torch.tensor([[1] * 7, [0] * 3 + [1] * 4])
ROTARY: Any = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 40}
GPT2: Any = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 40, "bos_token_id": 1, "eos_token_id": 1}


def gpt2() -> Any:
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2, initializer_range=0.4)).eval()


def bert() -> Any:
    torch.manual_seed(0)
    return transformers.BertModel(transformers.BertConfig(**ROTARY, initializer_range=0.4)).eval()


def llama() -> Any:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**ROTARY, initializer_range=0.4)).eval()


def opt() -> Any:
    sizes: Any = {"hidden_size": 32, "ffn_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 40}
    torch.manual_seed(0)
    return transformers.OPTForCausalLM(transformers.OPTConfig(**sizes, word_embed_proj_dim=32, init_std=0.4)).eval()


def padded_and_alone(model: Any, **positions: Any) -> tuple[Tensor, Tensor]:
    """The maps of the second text, in the batch and alone."""
    batch = ac.capture(model, IDS, attention_mask=MASK, **positions)
    return batch.maps()[1, :, :, 3:, 3:], ac.capture(model, IDS[1:, 3:]).maps()[0]


@pytest.mark.parametrize("build", [gpt2, bert])
def test_positions_that_count_padding_are_named(build: Any) -> None:
    said = "counts padding in the positions of tokens. Example 1 has 3 tokens of padding before its text"
    with pytest.warns(UserWarning, match=said) as seen:
        batched, alone = padded_and_alone(build())
    assert len(seen) == 1
    assert not torch.allclose(batched, alone, atol=1e-2), "the warning says a truth"
    with pytest.warns(UserWarning, match=said):
        ac.TokenRank(build()).attribute(IDS, model_kwargs={"attention_mask": MASK})


@pytest.mark.parametrize("build", [gpt2, bert])
def test_the_remedies_of_the_message_hold(build: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batched, alone = padded_and_alone(build(), position_ids=(MASK.cumsum(1) - 1).clamp(min=0))
        assert torch.allclose(batched, alone, atol=1e-5)
        right = ac.capture(build(), IDS.flip(1), attention_mask=MASK.flip(1)).maps()[1, :, :, :4, :4]
        assert torch.allclose(right, ac.capture(build(), IDS.flip(1)[1:, :4]).maps()[0], atol=1e-5)


def test_an_encoder_with_a_decoder() -> None:
    sizes: Any = {"d_model": 32, "vocab_size": 40, "encoder_layers": 2, "decoder_layers": 2, "max_position_embeddings": 16}
    model = transformers.BartForConditionalGeneration(transformers.BartConfig(**sizes)).eval()
    decoded = torch.tensor([[5, 8], [5, 8]])
    with pytest.warns(UserWarning, match="Example 1 has 3 tokens of padding.* Pad on the right"):
        ac.GradientAttention(model).attribute(IDS, (1, 7), additional_forward_args=(MASK, decoded))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ac.GradientAttention(model).attribute(IDS.flip(1), (1, 7), additional_forward_args=(MASK.flip(1), decoded))


@pytest.mark.parametrize("build", [llama, opt])
def test_other_positions_are_no_matter(build: Any) -> None:
    """Rotations leave differences, and OPT counts the tokens of the mask."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batched, alone = padded_and_alone(build())
    assert torch.allclose(batched, alone, atol=1e-5)


def test_token_numbers_in_order_are_no_positions() -> None:
    ids, mask = torch.arange(1, 8).repeat(2, 1), MASK
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ac.capture(llama(), ids, attention_mask=mask)
        ac.capture(gpt2(), ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0))
