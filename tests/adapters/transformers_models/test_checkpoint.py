"""Models and tokenizers out of files that lack something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from attnchain_adapters.transformers_models.checkpoint import check_weights, pretrained, tokenizer_of
from attnchain_interp import AttentionError

from ...word_tokenizer import word_tokenizer

SIZES: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = transformers.ViTConfig(image_size=16, patch_size=8, **SIZES)
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    return tmp_path


def without(folder: Path, lost: str) -> None:
    file = folder / "model.safetensors"
    kept = {name: weight for name, weight in load_file(file).items() if lost not in name}
    save_file(kept, file, metadata={"format": "pt"})


def test_a_missing_pooler_is_the_same_at_each_load(folder: Path) -> None:
    before = torch.get_rng_state()
    first = pretrained(str(folder), transformers.ViTModel)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(17)
    second = pretrained(str(folder), transformers.ViTModel)
    assert not first.training
    assert first.pooler.dense.weight.std() > 0
    for name, weight in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], weight), name


@pytest.mark.parametrize(
    ("lost", "named"),
    [("layer.1.", "layers.1."), ("intermediate.dense", "mlp.fc1.weight"), ("patch_embeddings", "patch_embeddings")],
)
def test_missing_weights_of_layers_that_attend_are_named(folder: Path, lost: str, named: str) -> None:
    without(folder, lost)
    with pytest.raises(AttentionError, match=rf"{folder} lack .*{named}.*\nDownload or save all weights of ViTModel"):
        pretrained(str(folder), transformers.ViTModel)


def test_weights_that_no_map_depends_on_may_be_missing() -> None:
    config = transformers.Wav2Vec2Config(**SIZES, num_conv_pos_embedding_groups=2)
    model = transformers.Wav2Vec2Model(config)
    check_weights("here", model, {"masked_spec_embed"})
    check_weights("here", nn.Linear(2, 2), {"weight"})
    with pytest.raises(AttentionError, match="feature_projection"):
        check_weights("here", model, {"feature_projection.projection.weight"})


def test_a_file_that_is_cut_off_is_named(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(AttentionError, match=rf"{file} cannot be read .*\nDownload or copy the file again"):
        pretrained(str(folder), transformers.ViTModel)


def test_a_small_vocabulary_is_one(tmp_path: Path) -> None:
    """A tokenizer of DNA spells no English."""
    word_tokenizer(["[UNK]", "GAT", "TAC"]).save_pretrained(tmp_path)
    assert tokenizer_of(str(tmp_path), transformers.AutoTokenizer).get_vocab()["GAT"] == 1


@pytest.mark.parametrize(
    "config", [transformers.GPT2Config(), transformers.BertConfig(), transformers.T5Config(), transformers.LlamaConfig()]
)
def test_a_tokenizer_without_files_is_refused(config: transformers.PretrainedConfig, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(AttentionError, match=rf"{tmp_path} lacks files of its tokenizer"):
        tokenizer_of(str(tmp_path), transformers.AutoTokenizer)
