"""Rows of an encoder–decoder beside eager maps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

import attnchain_interp as ac
from attnchain_interp import AttentionGradientAttribution, attribution

from .texts import CONCRETE, DECODER, SEQ2SEQ, TEXT, averaged, bart, eager, ranked, rolled, t5


@pytest.mark.parametrize("build", [bart, t5])
def test_an_encoder_decoder_beside_eager_maps(build: Any) -> None:
    model, target = build(), "a dog walking"
    start = model.config.decoder_start_token_id
    prompt = torch.tensor([SEQ2SEQ.encode(TEXT)])
    output_ids = DECODER.encode(target, add_special_tokens=False)
    output = eager(model, input_ids=prompt, decoder_input_ids=torch.tensor([[start, *output_ids[:-1]]]))
    starts, P, R = averaged(output.cross_attentions), averaged(output.encoder_attentions), rolled(output.encoder_attentions)
    methods = [ac.MultiBounce(model), ac.MultiBounce(model, steps=0), ac.Rollout(model), ac.RawAttention(model)]
    expected = [starts @ P @ P, starts, starts @ R, starts @ P]
    for method, rows in zip(methods, expected, strict=True):
        result = method.attribute_text(TEXT, target, SEQ2SEQ)
        assert result.token_attr is not None
        assert torch.allclose(result.token_attr, rows, atol=1e-7)
        assert result.output_attr is None
        assert "the walk over the encoder starts where cross-attention goes" in result.policy
    ranks = ac.TokenRank(model, damping=0.8).attribute_text(TEXT, target, SEQ2SEQ)
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


def test_what_an_encoder_decoder_has_no_meaning_for() -> None:
    model = bart()
    for name in ("ColumnSum", "WeightedPageRank"):
        with pytest.raises(ac.AttentionError, match=f"{name} has no start, so it scores the encoder's tokens alike"):
            getattr(attribution, name)(model).attribute_text(TEXT, "a dog", SEQ2SEQ)
    for name in (name for name in CONCRETE if issubclass(getattr(attribution, name), AttentionGradientAttribution)):
        with pytest.raises(ac.AttentionError, match=f"{name} reads gradients"):
            getattr(attribution, name)(model).attribute_text(TEXT, "a dog", SEQ2SEQ)
    assert ac.RandomRanking(model).attribute_text(TEXT, "a dog", SEQ2SEQ).policy.startswith("random")
    with pytest.raises(ac.AttentionError, match="has no language-model head"):
        ac.MultiBounce(transformers.BartModel(model.config).eval()).attribute_text(TEXT, "a dog", SEQ2SEQ)
    model.generation_config.decoder_start_token_id = model.config.decoder_start_token_id = None
    model.generation_config.bos_token_id = model.config.bos_token_id = None
    with pytest.raises(ac.AttentionError, match="does not say what its decoder starts with"):
        ac.MultiBounce(model).attribute_text(TEXT, "a dog", SEQ2SEQ)
