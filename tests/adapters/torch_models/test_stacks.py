"""Kinds of attention modules, by their names and by the modules around them."""

import pytest
from torch import nn

import attnchain_interp as ac
from attnchain_adapters.torch_models.stacks import check_kind, classes_of, kind_of, modules_meant


def test_kinds_are_read_off_the_module_around() -> None:
    model = nn.Transformer(8, 2, 1, 1, 8)
    kinds = {name: kind_of(model, name) for name, part in model.named_modules() if isinstance(part, nn.MultiheadAttention)}
    assert kinds == {
        "encoder.layers.0.self_attn": "encoder",
        "decoder.layers.0.self_attn": "decoder",
        "decoder.layers.0.multihead_attn": "cross",
    }
    assert kind_of(nn.ModuleDict({"own": nn.MultiheadAttention(8, 2)}), "own") is None


def test_modules_of_a_kind() -> None:
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 8), 1)
    assert modules_meant(decoder, None) == ["layers.0.self_attn"], "cross-attention is not meant"
    assert modules_meant(decoder, "cross") == ["layers.0.multihead_attn"]
    with pytest.raises(ac.AttentionError, match='(?s)no attention of kind="encoder".*kind="cross" or kind="decoder"'):
        modules_meant(decoder, "encoder")


def test_a_kind_is_one_of_three() -> None:
    assert (check_kind(None), check_kind("cross")) == (None, "cross")
    with pytest.raises(ac.AttentionError, match="kind='pool' is unknown"):
        check_kind("pool")


def test_classes_have_full_names() -> None:
    assert classes_of(nn.ReLU())[:2] == ["torch.nn.modules.activation.ReLU", "torch.nn.modules.module.Module"]
