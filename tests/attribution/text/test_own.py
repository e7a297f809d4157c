"""What the token at which walks start gives itself, in models that output a class."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp.attribution.text.own import own_of_class, own_of_output

from .. import small_models as small
from .texts import DECODER, ENCODER, TEXT, VOCABULARY

SIZES: Any = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 3}


def classifier(decoder: bool) -> Any:
    torch.manual_seed(0)
    if decoder:
        config: Any = transformers.LlamaConfig(vocab_size=len(VOCABULARY), pad_token_id=0, **SIZES)
        return transformers.LlamaForSequenceClassification(config).eval()
    return transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=len(VOCABULARY), **SIZES)).eval()


def own(build: Any, decoder: bool) -> tuple[Tensor, Tensor | None, ac.TextAttributionResult]:
    result = build(classifier(decoder)).attribute_text(TEXT, 2, DECODER if decoder else ENCODER)
    assert result.token_attr is not None
    return result.token_attr, result.own, result


@pytest.mark.parametrize(
    "build", [ac.TokenRank, ac.MultiBounce, ac.Rollout, ac.GradientTokenRank, ac.GradientMultiBounce, ac.GMAR]
)
def test_walks_of_a_classifier_on_a_decoder_start_at_the_last_token(build: Any) -> None:
    scores, left, result = own(build, True)
    assert left is not None
    assert left[0, -1] == scores[0, -1] > 0
    assert left.count_nonzero() == 1
    assert result.token_attr is scores, "the scores themselves stay"
    assert result.elsewhere().seq_attr[-1] == 0
    assert "gives itself (" in result._repr_html_()


@pytest.mark.parametrize(
    "build", [ac.MultiBounce, ac.Rollout, ac.GradientAttention, ac.GradientRollout, ac.GradientMultiBounce]
)
def test_walks_of_an_encoder_start_at_the_class_token(build: Any) -> None:
    scores, left, result = own(build, False)
    assert left is not None
    assert left[0, 0] == scores[0, 0] > 0
    assert left.count_nonzero() == 1
    assert "[CLS]" not in [name for name, share in result.top(20) if share]


@pytest.mark.parametrize(
    ("build", "decoder"),
    [
        (ac.TokenRank, False),
        (ac.GradientTokenRank, False),
        (ac.ColumnSum, True),
        (ac.AttnLRP, True),
        (ac.GradientAttention, True),
    ],
)
def test_other_scores_stay_whole(build: Any, decoder: bool) -> None:
    """Walks jump everywhere, start everywhere, or there are none."""
    assert own(build, decoder)[1] is None


def test_a_start_of_a_user_counts() -> None:
    model = classifier(False)
    result = ac.MultiBounce(model, start=3).attribute_text(TEXT, tokenizer=ENCODER)
    assert result.own is not None
    assert result.own.nonzero().tolist() == [[0, 3]]
    assert ac.MultiBounce(model, start="uniform").attribute_text(TEXT, tokenizer=ENCODER).own is None
    scores = torch.rand(1, 4)
    store = ac.AttentionStore.from_maps([torch.ones(1, 1, 4, 4).tril() / torch.arange(1, 5)[:, None]])
    assert torch.equal(own_of_class(ac.TokenRank(), store, scores), scores * torch.tensor([0, 0, 0, 1]))  # type: ignore[arg-type]
    assert own_of_class(ac.TokenRank(causal="damp"), store, scores) is None


def test_walks_of_a_masked_token_start_there() -> None:
    """The target reads the masked token, and not the class token."""
    config = transformers.BertConfig(vocab_size=len(VOCABULARY), **SIZES)
    result = ac.GradientAttention(transformers.BertForMaskedLM(config).eval()).attribute_text(TEXT, (3, 5), ENCODER)
    assert result.own is not None
    assert result.own.nonzero().tolist() == [[0, 3]]
    assert result.own[0, 3] == result.token_attr[0, 3]  # type: ignore[index]


def test_of_an_output_it_is_the_position_before_the_token() -> None:
    scores = torch.tensor([[1.0, 2, 0], [3, 4, 5]])
    assert own_of_output(scores, 2).tolist() == [[0, 2], [0, 0]]
    assert ac.MultiBounce(small.llama()).attribute_text(TEXT, "a", DECODER).own is not None
