"""Tokenizers, small models and replicas that the tests of texts share."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from attnchain_interp import TextAttributionResult, attribution

from .. import small_models as small

BERT: dict[str, Any] = {**small.BERT, "num_hidden_layers": 2}

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>"]

WORDS = ["the", "cat", "sat", "on", "mat", "walk", "##ing", "##s", "a", "dog", ".", "and", "un", "##happy"]

VOCABULARY = {token: number for number, token in enumerate([*SPECIAL, *WORDS])}

TEXT = "the cats sat on the mat."


def tokenizer(before: str = "", after: str = "", decodes: bool = True) -> Any:
    """Splits into words and these into pieces, with special tokens before and after."""
    inner: Any = Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    inner.normalizer, inner.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    if decodes:
        inner.decoder = decoders.WordPiece(cleanup=False)
    parts = [part for part in (before, "$A", after) if part]
    special = [(part, VOCABULARY[part]) for part in (before, after) if part]
    inner.post_processor = processors.TemplateProcessing(single=" ".join(parts), special_tokens=special)
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "eos_token": "</s>"}
    if before == "[CLS]":
        names |= {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    if before == "<s>":
        names["bos_token"] = "<s>"
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **names)


def unsplit_tokenizer() -> Any:
    """As that of Llama 2: spaces are characters of the tokens, and the whole text is one word to it."""
    pieces = ["<unk>", "▁the", "▁cat", "s", "▁s", "at", "▁", "t", "h", "e", "c", "a"]
    merges = [("▁", "the"), ("▁", "cat"), ("▁", "s"), ("a", "t"), ("t", "h"), ("th", "e"), ("c", "at")]
    pieces += ["the", "cat", "th"]
    inner: Any = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, merges, unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


def bytes_tokenizer() -> Any:
    """As that of GPT-2 without merges: every byte is a token, a space is Ġ, and a chat has tokens of its own."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner: Any = Tokenizer(models.BPE({character: number for number, character in enumerate(alphabet)}, []))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=inner)
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return made


ENCODER, DECODER, SEQ2SEQ = tokenizer("[CLS]", "[SEP]"), tokenizer("<s>"), tokenizer(after="</s>")


def bart() -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {f"{side}_layers": 2 for side in ("encoder", "decoder")}
    sizes |= {f"{side}_attention_heads": 3 for side in ("encoder", "decoder")}
    special: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 5, "eos_token_id": 6, "decoder_start_token_id": 6}
    options: dict[str, Any] = {"vocab_size": 60, "d_model": 48, "max_position_embeddings": 32, "init_std": 0.5}
    config = transformers.BartConfig(**options, **sizes, **special)
    return small.sharpened(transformers.BartForConditionalGeneration(config))


def t5() -> Any:
    torch.manual_seed(0)
    sizes = {"d_model": 48, "d_kv": 16, "d_ff": 32, "num_layers": 2, "num_heads": 3}
    options: dict[str, Any] = {"vocab_size": 60, "decoder_start_token_id": 0, **sizes}
    config = transformers.T5Config(**options)
    model = transformers.T5ForConditionalGeneration(config)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data = 0.3 * torch.randn(parameter.shape)
    return model.double().eval()


def eager(model: Any, **inputs: Tensor) -> Any:
    model = copy.deepcopy(model)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        return model(**inputs, output_attentions=True)


def averaged(maps: Any) -> Tensor:
    return torch.stack([each[0] for each in maps]).mean((0, 1))


def rolled(maps: Any) -> Tensor:
    R = torch.eye(maps[0].shape[-1], dtype=torch.float64)
    for each in maps:
        A = each[0].mean(0)
        R = (A + torch.eye(len(A), dtype=A.dtype)) / 2 @ R
    return R


def ranked(P: Tensor, damping: float, v: Tensor) -> Tensor:
    return torch.linalg.solve(torch.eye(len(P), dtype=P.dtype) - damping * P.mT, (1 - damping) * v)


def uniform(n: int) -> Tensor:
    return torch.full((n,), 1 / n, dtype=torch.float64)


def decoder_ids(target: str) -> tuple[Tensor, int]:
    prompt = DECODER.encode(TEXT)
    return torch.tensor([prompt + DECODER.encode(target, add_special_tokens=False)]), len(prompt)


def rows_of(result: TextAttributionResult) -> Tensor:
    """(output token, token): prompt and earlier output together."""
    assert result.token_attr is not None
    assert result.output_attr is not None
    return torch.cat([result.token_attr, result.output_attr], 1)


METHODS = [name for name in attribution.__all__ if hasattr(getattr(attribution, name), "attribute_text")]

CONCRETE = [name for name in METHODS if not inspect.isabstract(getattr(attribution, name))]

every_method = pytest.mark.parametrize("name", CONCRETE)
