"""Rows of a decoder beside eager maps, one forward for each context. Rows of an encoder–decoder beside eager maps."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp import attribution
from attnchain_interp.attribution.of_attention import attention_attribution
from attnchain_interp.attribution.text.contexts import contexts
from attnchain_interp.attribution.text.rows import _UNFUSED

from ...published import PLAIN
from .. import small_models as small
from .texts import (
    BERT,
    CONCRETE,
    DECODER,
    ENCODER,
    SEQ2SEQ,
    TEXT,
    averaged,
    bart,
    decoder_ids,
    eager,
    every_method,
    ranked,
    rolled,
    rows_of,
    t5,
    uniform,
)


def test_a_decoder_beside_eager_maps() -> None:
    """Each row from a forward of the text before its output token alone."""
    model, target = small.llama(), "a dog walking"
    ids, n = decoder_ids(target)
    last: dict[str, Any] = PLAIN | {"layers": -1}
    methods = [ac.MultiBounce(model, **PLAIN), ac.Rollout(model), ac.TokenRank(model, damping=0.9, causal="damp", **PLAIN),
               ac.RawAttention(model), ac.ColumnSum(model), ac.MultiBounce(model, **last),
               ac.TokenRank(model, **PLAIN)]  # fmt: skip
    results = [method.attribute_text(TEXT, target, DECODER) for method in methods]
    found = [rows_of(result) for result in results]
    for k, p in enumerate(range(n, ids.shape[1])):
        output = eager(model, input_ids=ids[:, :p])
        P, R, A = averaged(output.attentions), rolled(output.attentions), averaged(output.attentions[-1:])
        end = torch.eye(p, dtype=P.dtype)[-1]
        expected = [(P @ P)[-1], R[-1], ranked(P, 0.9, uniform(p)), P[-1], P.mean(0), (A @ A)[-1], ranked(P, 0.5, end)]
        for rows, row in zip(found, expected, strict=True):
            assert torch.allclose(rows[k, :p], row, atol=1e-8)
            assert not rows[k, p:].any()
        assert results[0].output_probs is not None
        assert torch.isclose(results[0].output_probs[k], output.logits[0, -1].softmax(-1)[ids[0, p]])
    first = results[0]
    assert first.input_tokens == ["<s>", "the", "cat", "##s", "sat", "on", "the", "mat", "."]
    assert first.output_tokens == ["a", "dog", "walk", "##ing"]
    assert first.token_attr is not None
    assert torch.allclose(first.seq_attr, first.token_attr.sum(0))
    assert "starts at the position that predicts" in first.policy
    assert "ranked as a whole, causal='damp', damping=0.9" in results[2].policy
    assert results[6].policy.startswith("jumps lead to the position that predicts the output token")
    assert "causal='last', damping=0.5" in results[6].policy
    assert (method := methods[0]).start is None, "the method is left as it was"  # type: ignore[attr-defined]
    assert isinstance(method, ac.MultiBounce)


@pytest.mark.parametrize("size", [1, 3])
def test_gradients_of_a_decoder(size: int) -> None:
    model, target = small.llama(), "a dog walking"
    ids, n = decoder_ids(target)
    result = ac.GradientAttention(model).attribute_text(TEXT, target, DECODER, internal_batch_size=size)
    last = rows_of(ac.LeGrad(model, layers=-1).attribute_text(TEXT, target, DECODER, internal_batch_size=size))
    rows = rows_of(result)
    for k, p in enumerate(range(n, ids.shape[1])):
        own = copy.deepcopy(model)
        own.set_attn_implementation("eager")
        output = own(ids[:, :p], output_attentions=True)
        score = output.logits[0, -1].log_softmax(-1)[ids[0, p]]
        gradients = torch.autograd.grad(score, output.attentions)
        R = torch.eye(p, dtype=torch.float64)
        for A, G in zip(output.attentions, gradients, strict=True):
            R = R + (A * G)[0].clamp(min=0).mean(0) @ R
        assert torch.allclose(rows[k, :p], R[-1], atol=1e-8)
        assert not rows[k, p:].any()
        received = (gradients[-1] * (output.attentions[-1] > 0))[0].clamp(min=0).mean((0, 1))
        assert torch.allclose(last[k, :p], received, atol=1e-8), "of the last layer, LeGrad's score is the model's own"
        assert result.output_probs is not None
        assert torch.isclose(result.output_probs[k].log(), score)


@pytest.mark.parametrize(("size", "fused"), [(None, False), (2, False), (1, True)])
def test_one_backward_of_many_tokens_has_no_kernel_that_takes_one_at_a_time(size: int | None, fused: bool) -> None:
    model = small.llama()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        ac.GradientAttention(model).attribute_text(TEXT, "a dog walking", DECODER, internal_batch_size=size)
    backward = [event.key for event in seen.key_averages() if "attention" in event.key and "backward" in event.key]
    assert bool(backward) is fused, backward


@pytest.mark.parametrize("size", [None, 2])
@pytest.mark.parametrize("beside", [False, True])
def test_the_head_is_differentiated_once_where_all_leads_through_it(
    size: int | None, beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where logits also depend on tokens beside the head (a pointer to the text), as many times as there are tokens."""
    model, shapes = small.llama(), list[Any]()
    if beside:
        hidden = list[Tensor]()
        model.model.norm.register_forward_hook(lambda _, __, output: hidden.append(output))
        model.register_forward_hook(
            lambda _, __, output: output.__setitem__(
                "logits",
                output.logits + hidden[-1][:, :1].sum(2, True).sin() * torch.arange(60),
            )
        )
    ids, n = decoder_ids("a dog walking")
    real = torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd, "grad", lambda score, *rest, **options: shapes.append(score.shape) or real(score, *rest, **options)
    )
    rows = rows_of(ac.GradientAttention(model).attribute_text(TEXT, "a dog walking", DECODER, internal_batch_size=size))
    assert any(len(shape) == 3 and shape[-1] == 48 for shape in shapes) is not beside
    for k, p in enumerate(range(n, ids.shape[1])):
        target: Any = lambda output, p=p: output.logits[:, p - ids.shape[1]].log_softmax(-1)[:, ids[0, p]]  # noqa: E731
        found = ac.capture_gradients(model, ids[:, :-1], target=target)
        cut = contexts(found, torch.tensor([p]))
        assert torch.allclose(rows[k, :p], ac.GradientAttention(start="last").score(cut)[0], atol=1e-8)


def test_a_balanced_chain_of_weighted_contributions() -> None:
    """Each row from a capture of the text before its output token alone."""
    model, target = small.llama(), "a dog"
    ids, n = decoder_ids(target)
    options: dict[str, Any] = {"layers": [1, 2], "layer_weights": "late", "balanced": True}
    rows = rows_of(ac.TokenRank(model, maps="alti", **options).attribute_text(TEXT, target, DECODER))
    for k, p in enumerate(range(n, ids.shape[1])):
        expected = ac.TokenRank(**options).score(ac.capture(model, ids[:, :p], maps="alti"))[0]
        assert torch.allclose(rows[k, :p], expected)


def test_contributions_of_a_decoder() -> None:
    model, target = small.llama(), "a dog walking"
    ids, n = decoder_ids(target)
    rows = rows_of(ac.Rollout(model, layers=slice(1, None), maps="alti").attribute_text(TEXT, target, DECODER))
    for k, p in enumerate(range(n, ids.shape[1])):
        store = ac.capture(model, ids[:, :p], layers=slice(1, None), maps="alti")
        row = torch.eye(p, dtype=torch.float64)[-1]
        for layer in reversed(list(store)):
            row = row @ layer.maps[0, 0].double()
        assert torch.allclose(rows[k, :p], row, atol=1e-6)
        assert not rows[k, p:].any()


@every_method
def test_later_tokens_change_nothing_before(name: str) -> None:
    model = small.llama()
    if name == "MetastableStates":
        with pytest.raises(ac.AttentionError, match="cannot be summed"):
            ac.MetastableStates(model).attribute_text(TEXT, "a dog", DECODER)
        return
    method = getattr(attribution, name)(model, **small.FEW.get(name, {}))
    one, other = (method.attribute_text(TEXT, target, DECODER) for target in ("a dog walking", "a dog ."))
    assert torch.allclose(rows_of(one)[:2, :-2], rows_of(other)[:2, :-1], atol=1e-10)
    assert one.policy
    assert one.token_attr.shape == (4, 9)
    assert bool(one.token_attr.any(1).all())


def test_factors_serve_as_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the maps are too large to be kept."""
    model, stores = small.llama(), []

    def factored(*inputs: Any, **options: Any) -> ac.AttentionStore:
        stores.append(ac.capture(*inputs, **{**options, "keep": "factors"}))
        return stores[-1]

    methods = [ac.MultiBounce(model, maps="attention"), ac.Rollout(model), ac.TokenRank(model, maps="attention"),
               ac.TokenRank(model, causal="absorb", maps="attention")]  # fmt: skip
    maps = [rows_of(method.attribute_text(TEXT, "a dog walking", DECODER)) for method in methods]
    monkeypatch.setattr(attention_attribution, "capture", factored)
    for method, expected in zip(methods, maps, strict=True):
        assert torch.allclose(rows_of(method.attribute_text(TEXT, "a dog walking", DECODER)), expected, atol=1e-8)
    assert all(isinstance(layer.attention, ac.Factors) for layer in contexts(stores[0], torch.tensor([9])))


def test_the_context_of_gradients_in_factors() -> None:
    given: Any = {"target": (6, 3)}
    maps, factors = (ac.capture_gradients(small.llama(), small.ids(1), keep=keep, **given) for keep in ("maps", "factors"))
    for one, other in zip(contexts(maps, torch.tensor([4])), contexts(factors, torch.tensor([4])), strict=True):
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(one, other, strict=True))
        assert one[0].shape[-2:] == (4, 4)


def test_chosen_tokens_are_those_of_the_whole_text() -> None:
    model, (ids, n) = small.llama(), decoder_ids("a dog")
    result = ac.MultiBounce(model, steps=1, tokens=[1, 4, -2], **PLAIN).attribute_text(TEXT, "a dog", DECODER)
    for k, p in enumerate(range(n, ids.shape[1])):
        inside = [place for place in (1, 4, 8) if place < p]
        row = torch.zeros(p, dtype=torch.float64)
        each = torch.stack([one[0, :, p - 1, inside] for one in eager(model, input_ids=ids).attentions]).flatten(0, 1)
        row[inside] = (each / each.sum(-1, keepdim=True)).mean(0)
        assert torch.allclose(rows_of(result)[k, :p], row, atol=1e-8)
    for build in (ac.GradientMultiBounce, ac.GradientTokenRank):
        rows = rows_of(build(model, tokens=[0, 4, -2]).attribute_text(TEXT, "a dog", DECODER, internal_batch_size=2))
        assert (rows > 0).any(0).nonzero()[:, 0].tolist() == [0, 4, 8]


def test_a_language_model_that_sees_later_tokens_is_refused() -> None:
    model = transformers.BertLMHeadModel(transformers.BertConfig(**BERT)).eval()
    for method in (ac.MultiBounce(model), ac.GradientAttention(model)):
        with pytest.raises(ac.AttentionError, match="attends to later tokens"):
            method.attribute_text(TEXT, "a dog", ENCODER)


@pytest.mark.parametrize("build", [bart, t5])
def test_an_encoder_decoder_beside_eager_maps(build: Any) -> None:
    model, target = build(), "a dog walking"
    start = model.config.decoder_start_token_id
    prompt = torch.tensor([SEQ2SEQ.encode(TEXT)])
    output_ids = DECODER.encode(target, add_special_tokens=False)
    output = eager(model, input_ids=prompt, decoder_input_ids=torch.tensor([[start, *output_ids[:-1]]]))
    starts, P, R = averaged(output.cross_attentions), averaged(output.encoder_attentions), rolled(output.encoder_attentions)
    methods = [ac.MultiBounce(model, **PLAIN), ac.MultiBounce(model, steps=0), ac.Rollout(model), ac.RawAttention(model)]
    expected = [starts @ P @ P, starts, starts @ R, starts @ P]
    for method, rows in zip(methods, expected, strict=True):
        result = method.attribute_text(TEXT, target, SEQ2SEQ)
        assert result.token_attr is not None
        assert torch.allclose(result.token_attr, rows, atol=1e-7)
        assert result.output_attr is None
        assert "the walk over the encoder starts where cross-attention goes" in result.policy
    ranks = ac.TokenRank(model, damping=0.8, **PLAIN).attribute_text(TEXT, target, SEQ2SEQ)
    assert ranks.token_attr is not None
    for found, row in zip(ranks.token_attr, starts, strict=True):
        assert torch.allclose(found, ranked(P, 0.8, row), atol=1e-7)
    assert "restarts" in ranks.policy
    assert ranks.input_tokens == ["the", "cat", "##s", "sat", "on", "the", "mat", ".", "</s>"]
    assert ranks.output_tokens == ["a", "dog", "walk", "##ing"]
    assert ranks.output_probs is not None
    assert torch.allclose(ranks.output_probs, output.logits[0].softmax(-1)[range(4), output_ids])


def test_an_encoder_decoder_that_generates() -> None:
    model = bart()
    sequence = model.generate(torch.tensor([SEQ2SEQ.encode(TEXT)]), max_new_tokens=5, do_sample=False, num_beams=1)[0].tolist()
    result = ac.MultiBounce(model).attribute_text(TEXT, tokenizer=SEQ2SEQ, max_new_tokens=5)
    given = ac.MultiBounce(model).attribute_text(TEXT, sequence[1:], SEQ2SEQ)
    assert result.token_attr is not None
    assert given.token_attr is not None
    assert torch.equal(result.token_attr, given.token_attr)
    model.generation_config.forced_bos_token_id = sequence[1]
    after = ac.MultiBounce(model).attribute_text(TEXT, sequence[2:], SEQ2SEQ)
    assert after.token_attr is not None
    assert torch.allclose(after.token_attr, given.token_attr[1:], atol=1e-10)
    model.generation_config.forced_bos_token_id = None
    model.generation_config.decoder_start_token_id = [model.config.decoder_start_token_id]  # one for each example
    model.config.decoder_start_token_id = None
    listed = ac.MultiBounce(model).attribute_text(TEXT, sequence[1:], SEQ2SEQ)
    assert listed.token_attr is not None
    assert torch.equal(listed.token_attr, given.token_attr)


def test_what_an_encoder_decoder_has_no_meaning_for() -> None:
    model = bart()
    for name in ("ColumnSum", "WeightedPageRank"):
        with pytest.raises(ac.AttentionError, match=f"{name} has no start, so it scores the encoder's tokens alike"):
            getattr(attribution, name)(model).attribute_text(TEXT, "a dog", SEQ2SEQ)
    with pytest.raises(ac.AttentionError, match=r"GradientAttention\(model\)\.attribute\(ids, \(position, token\)"):
        ac.GradientTokenRank(model).attribute_text(TEXT, "a dog", SEQ2SEQ)
    for name in (name for name in CONCRETE if getattr(attribution, name).explains_target):
        with pytest.raises(ac.AttentionError, match=f"{name} explains a score"):
            getattr(attribution, name)(model).attribute_text(TEXT, "a dog", SEQ2SEQ)
    assert ac.RandomRanking(model).attribute_text(TEXT, "a dog", SEQ2SEQ).policy.startswith("random")
    with pytest.raises(ac.AttentionError, match="has no language-model head"):
        ac.MultiBounce(transformers.BartModel(model.config).eval()).attribute_text(TEXT, "a dog", SEQ2SEQ)
    model.generation_config.decoder_start_token_id = model.config.decoder_start_token_id = None
    model.generation_config.bos_token_id = model.config.bos_token_id = None
    with pytest.raises(ac.AttentionError, match="does not say what its decoder starts with"):
        ac.MultiBounce(model).attribute_text(TEXT, "a dog", SEQ2SEQ)


class Prompted(nn.Module):
    """A model with two soft tokens before the text, as PEFT makes it; a decoder, an encoder–decoder or an encoder."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.prompt = model, nn.Parameter(torch.randn(1, 2, 48))
        self.config = model.config

    def can_generate(self) -> bool:
        return self.model.can_generate()

    def forward(self, input_ids: Tensor, **named: Any) -> Any:
        embedded = self.model.get_input_embeddings()(input_ids)
        prompt = self.prompt.expand(len(embedded), -1, -1).to(embedded)
        return self.model(inputs_embeds=torch.cat([prompt, embedded], 1), **named)


@pytest.mark.parametrize(("build", "words"), [(small.llama, DECODER), (t5, SEQ2SEQ), (small.bert, ENCODER)])
def test_tokens_that_a_model_adds_are_not_taken_for_those_of_the_text(build: Any, words: Any) -> None:
    model: Any = Prompted(build()).eval()
    target = None if words is ENCODER else "the dog"
    with pytest.raises(ac.AttentionError, match=r"Prompted reads \d+ tokens of \d+ in its input: it adds tokens of its own"):
        ac.MultiBounce(model).attribute_text(TEXT, target, tokenizer=words)


def test_the_kernels_of_attention_are_put_back_by_the_last_thread() -> None:
    def switches() -> list[bool]:
        return [torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()]

    before = switches()
    assert any(before)
    _UNFUSED.__enter__()  # one thread
    _UNFUSED.__enter__()  # another, which is still inside when the first one leaves
    _UNFUSED.__exit__()
    assert not any(switches())
    _UNFUSED.__exit__()
    assert switches() == before
