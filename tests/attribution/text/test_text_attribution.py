"""Encoders, and what `TextAttribution` shares with Captum's `LLMAttribution`."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
import transformers
from captum.attr import Attribution, LLMAttribution, LLMGradientAttribution
from captum.attr._core.llm_attr import LLMAttributionResult
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import attribution

from ...published import PLAIN
from .. import small_models as small
from .texts import BERT, DECODER, ENCODER, SPECIAL, TEXT, VOCABULARY, averaged, eager, every_method


def test_an_encoder_beside_eager_maps() -> None:
    model = small.bert()
    model.config.id2label = {0: "good", 1: "bad", 2: "odd", 3: "even"}
    ids = torch.tensor([ENCODER.encode(TEXT)])
    P = averaged(eager(model, input_ids=ids).attentions)
    result = ac.MultiBounce(model, **PLAIN).attribute_text(TEXT, 1, ENCODER)
    assert result.token_attr is not None
    assert torch.allclose(result.token_attr[0], (P @ P)[0], atol=1e-8)
    assert torch.equal(result.seq_attr, result.token_attr[0])
    assert result.input_tokens == ["[CLS]", "the", "cat", "##s", "sat", "on", "the", "mat", ".", "[SEP]"]
    assert result.output_tokens == ["Multi Bounce"], "attention alone knows no class"
    assert torch.equal(ac.MultiBounce(model, **PLAIN).attribute_text(TEXT, tokenizer=ENCODER).seq_attr, result.seq_attr)
    maps, gradients = small.of_transformers(model, [1], input_ids=ids)
    R = torch.eye(10, dtype=torch.float64)
    for A, G in zip(maps, gradients, strict=True):
        R = R + (A * G)[0].clamp(min=0).mean(0) @ R
    specific = ac.GradientAttention(model).attribute_text(TEXT, 1, ENCODER)
    assert torch.allclose(specific.seq_attr, R[0], atol=1e-8)
    assert (specific.output_tokens, specific.output_probs, specific.output_attr) == (["bad"], None, None)
    for target in ([1], torch.tensor(1), torch.tensor([1])):
        assert ac.GradientAttention(model).attribute_text(TEXT, target, ENCODER).output_tokens == ["bad"]


@pytest.mark.parametrize("build", [ac.LogitTokenRank, ac.GradientTokenRank, attribution.LeaveOneOut])
def test_the_output_of_a_classifier_is_the_class_that_a_method_explains(build: Any) -> None:
    size: dict[str, Any] = {"vocab_size": 40, "n_embd": 48, "n_head": 4, "n_layer": 2, "pad_token_id": 0}
    model = transformers.GPT2ForSequenceClassification(transformers.GPT2Config(**size)).eval()
    model.config.id2label = {0: "good", 1: "bad"}
    assert build(model).attribute_text([5, 6, 7], 1, DECODER).output_tokens == ["bad"]


@every_method
def test_every_method_scores_an_encoder(name: str) -> None:
    model = small.bert()
    method = getattr(attribution, name)(model)
    if name == "LogitTokenRank":
        with pytest.raises(ac.AttentionError, match="normalised after the addition"):
            method.attribute_text(TEXT, 2, ENCODER)
        return
    result = method.attribute_text(TEXT, 2, ENCODER)
    assert isinstance(result, LLMAttributionResult)
    assert result.seq_attr.shape == (10,)
    assert bool(result.seq_attr.any())


def test_a_masked_language_model() -> None:
    torch.manual_seed(0)
    model: Any = small.sharpened(transformers.BertForMaskedLM(transformers.BertConfig(**BERT)))
    result = ac.GradientAttention(model, start=4).attribute_text(
        "the cats [MASK] on the mat.", (4, VOCABULARY["sat"]), ENCODER
    )
    assert result.output_tokens == ["sat"]
    assert result.input_tokens[4] == "[MASK]"
    assert result.seq_attr[4] >= 1, "the start keeps the 1 of its residual path"


def test_a_source_that_is_no_model() -> None:
    def source(ids: Tensor) -> ac.AttentionStore:
        return ac.AttentionStore.from_maps([torch.eye(ids.shape[1]).expand(1, 1, -1, -1)])

    assert torch.allclose(ac.ColumnSum(source).attribute_text(TEXT, tokenizer=ENCODER).seq_attr, torch.full((10,), 0.1))


def test_the_model_is_left_as_it_was() -> None:
    model = small.llama()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for method in (ac.MultiBounce(model), ac.GradientAttention(model)):
        with torch.no_grad():
            method.attribute_text(TEXT, "a dog", DECODER)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model._forward_hooks
    assert all(parameter.grad is None for parameter in model.parameters())


def test_bad_methods() -> None:
    model = small.llama()
    for method in (model, ac.TokenRank, None):
        with pytest.raises(ac.AttentionError, match=r"(?s)attr_method is .* TextAttribution\(TokenRank\(model\), tokenizer\)"):
            ac.TextAttribution(method, DECODER)  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="(?s)forward_func is 'gpt2'; it must be a model.*from_pretrained"):
        ac.TokenRank("gpt2").attribute_text(TEXT, "a dog", DECODER)
    with pytest.raises(ac.AttentionError, match='heads="each"'):
        ac.TokenRank(model, heads="each").attribute_text(TEXT, "a dog", DECODER)
    with pytest.raises(ac.AttentionError, match='use select="row"'):
        ac.RawAttention(model, select="column").attribute_text(TEXT, "a dog", DECODER)
    with pytest.raises(ac.AttentionError, match="cannot be summed over output tokens"):
        ac.MetastableStates(model).attribute_text(TEXT, "a dog", DECODER)


def test_the_class_has_the_shape_of_captums() -> None:
    """Its arguments have Captum's names, in Captum's order; `attribute_text` is a call of it."""
    for theirs, ours in ((LLMAttribution.__init__, ac.TextAttribution.__init__),
                         (LLMGradientAttribution.attribute, ac.TextAttribution.attribute)):  # fmt: skip
        names = [list(inspect.signature(function).parameters) for function in (theirs, ours)]
        assert names[0][:3] == names[1][:3]
    model = small.llama()
    method = ac.MultiBounce(model)
    wrapped = ac.TextAttribution(method, DECODER)
    assert isinstance(wrapped, Attribution)
    assert (wrapped.attr_method, wrapped.model, wrapped.tokenizer) == (method, model, DECODER)
    assert wrapped.device == torch.device("cpu")
    one, other = wrapped.attribute(TEXT, "a dog"), method.attribute_text(TEXT, "a dog", DECODER)
    assert torch.equal(one.token_attr, other.token_attr)  # type: ignore[arg-type]
    assert one.input_tokens == other.input_tokens
    assert repr(wrapped) == f"TextAttribution(MultiBounce(LlamaForCausalLM), {type(DECODER).__name__})"


def test_generation_takes_the_arguments_of_generate() -> None:
    wrapped = ac.TextAttribution(ac.MultiBounce(small.llama()), DECODER)
    greedy = wrapped.attribute(TEXT, gen_args={"max_new_tokens": 4})
    assert len(greedy.output_tokens) == 4
    refused = wrapped.attribute(TEXT, gen_args={"max_new_tokens": 4, "suppress_tokens": [0, *range(7, 60)]})
    assert len(refused.output_tokens) == 4
    assert refused.output_tokens != greedy.output_tokens
    assert set(refused.output_tokens) <= set(SPECIAL)


def test_methods_that_cannot_be_wrapped() -> None:
    with pytest.raises(ac.AttentionError, match=r"(?s)made without a model.*\nGive the model as forward_func"):
        ac.TextAttribution(ac.MultiBounce(), DECODER)
    with pytest.raises(ac.AttentionError, match='heads="each" gives a row for every head'):
        ac.TextAttribution(ac.MultiBounce(small.llama(), heads="each"), DECODER)


@pytest.mark.parametrize("made", [attribution.TokenRank, attribution.GradientTokenRank, attribution.LeaveOneOut])
def test_a_decoder_beside_a_tower_of_images(made: Any) -> None:
    """A text without images has the scores of the language model alone."""
    model = small.llava()
    alone = transformers.LlamaForCausalLM(model.config.text_config).double().eval()
    alone.model, alone.lm_head = model.model.language_model, model.lm_head
    given: dict[str, Any] = {"text": [3, 4, 5, 6, 7], "target": [8, 9], "tokenizer": DECODER}
    found, expected = (made(source).attribute_text(**given) for source in (model, alone))
    assert torch.allclose(found.token_attr, expected.token_attr)
    assert torch.allclose(found.output_probs, expected.output_probs)
    given |= {"target": None, "max_new_tokens": 2}
    written = made(model).attribute_text(**given)
    assert written.output_tokens == made(alone).attribute_text(**given).output_tokens
