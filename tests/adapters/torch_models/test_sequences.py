"""The sequence that is meant: by kind, by tower, by the names of layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_adapters.torch_models.sequences import check_family, check_kind, classes_of, kind_of, meant
from attnchain_adapters.torch_models.survey import Use, survey
from attnchain_interp.capture import CaptureRequest, StoreCollector

MULTI = {"embed_dim": 8, "num_heads": 2, "batch_first": True}


class Layer(nn.Module):
    """A user's decoder layer: not derived from torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.cross_attn = nn.MultiheadAttention(**MULTI), nn.MultiheadAttention(**MULTI)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        x = x + self.self_attn(x, x, x)[0]
        return x + self.cross_attn(x, memory, memory)[0]


class Forecaster(nn.Module):
    """An encoder and a decoder, whose lengths may coincide."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), 2)
        self.decoder = nn.ModuleList([Layer(), Layer()])

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory = self.encoder(source)
        for layer in self.decoder:
            target = layer(target, memory)
        return target


class Tower(nn.Module):
    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.blocks, self.causal = nn.ModuleList(nn.MultiheadAttention(**MULTI) for _ in range(2)), causal

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones(x.shape[1], x.shape[1]).triu(1).bool() if self.causal else None
        for attention in self.blocks:
            x = x + attention(x, x, x, attn_mask=mask)[0]
        return x[:, 0]


class Clip(nn.Module):
    """An image and a text, each in a tower of its own."""

    def __init__(self, causal: bool = True) -> None:
        super().__init__()
        self.conv, self.visual = nn.Conv2d(3, 8, 8, 8), Tower(False)
        self.words, self.text = nn.Embedding(50, 8), Tower(causal)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        return self.visual(self.conv(image).flatten(2).mT) @ self.text(self.words(text)).mT


def request(layers: Any = "all") -> CaptureRequest[Any]:
    return CaptureRequest(StoreCollector(), layers)


def names(model: nn.Module, *inputs: Any, layers: Any = "all", **reading: Any) -> list[str]:
    return ac.capture(model.eval(), *inputs, layers=layers, reading=ac.Reading(**reading)).names


def test_an_encoder_and_a_decoder_of_ones_own_with_equal_lengths() -> None:
    torch.manual_seed(0)
    model, source, target = Forecaster(), torch.randn(2, 6, 8), torch.randn(2, 6, 8)
    with pytest.raises(ac.AttentionError, match='(?s)several sequences.*kind="cross" or kind="decoder" or kind="encoder"'):
        names(model, source, target)
    assert names(model, source, target, kind="encoder") == ["encoder.layers.0.self_attn", "encoder.layers.1.self_attn"]
    assert names(model, source, target, kind="decoder") == ["decoder.0.self_attn", "decoder.1.self_attn"]
    assert names(model, source, target, kind="cross") == ["decoder.0.cross_attn", "decoder.1.cross_attn"]
    unread = ac.capture(model, source, target, reading=ac.Reading(kind="cross")).unread
    assert set(unread) == {f"{part}.{k}.self_attn" for part in ("encoder.layers", "decoder") for k in range(2)}


@pytest.mark.parametrize("tokens", [16, 10])
@pytest.mark.parametrize("causal", [True, False])
def test_two_towers_are_asked_for(tokens: int, causal: bool) -> None:
    model, image, text = Clip(causal), torch.rand(2, 3, 32, 32), torch.randint(0, 50, (2, tokens))
    found = r"visual\.blocks.*16 tokens.*text\.blocks.*tokens.*tower=\"visual\.blocks\""
    with pytest.raises(ac.AttentionError, match=f"(?s)several sequences.*{found}"):
        names(model, image, text)
    seen = {"tower": "visual", "tokens": ac.TokenLayout.image(grid=(4, 4))}
    assert names(model, image, text, **seen) == ["visual.blocks.0", "visual.blocks.1"]
    assert names(model, image, text, tower="text", tokens=ac.TokenLayout.text()) == ["text.blocks.0", "text.blocks.1"]
    with pytest.raises(ac.AttentionError, match="no module of Clip in 'vis' attends"):
        names(model, image, text, tower="vis")


def test_layers_are_chosen_by_name_among_all() -> None:
    model, x = Forecaster().eval(), torch.randn(2, 6, 8)
    store = ac.capture(model, x, x, layers=["decoder.0.self_attn"])
    assert store.names == ["decoder.0.self_attn"]
    with pytest.raises(ac.AttentionError, match="no layer 'decoder.7'"):
        names(model, x, x, layers="decoder.7")


def test_a_pooling_head_is_named_and_left_unread() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.body = nn.MultiheadAttention(**MULTI), Forecaster().encoder
            self.probe = nn.Parameter(torch.randn(1, 1, 8))

        def forward(self, x: Tensor) -> Tensor:
            x = self.body(x)
            return self.pool(self.probe.expand(len(x), -1, -1), x, x)[0]

    model, x = Pooled().eval(), torch.randn(2, 6, 8)
    store = ac.capture(model, x)
    assert (len(store), store.unread) == (2, ("pool",))
    cross = ac.capture(model, x, reading=ac.Reading(kind="cross"))
    assert (cross.names, cross.maps().shape) == (["pool"], (2, 1, 2, 1, 6))


def test_kinds_are_read_off_names_and_the_module_around() -> None:
    model = nn.Transformer(8, 2, 1, 1, 8)
    kinds = {name: kind_of(model, name) for name, part in model.named_modules() if isinstance(part, nn.MultiheadAttention)}
    assert kinds == {
        "encoder.layers.0.self_attn": "encoder",
        "decoder.layers.0.self_attn": "decoder",
        "decoder.layers.0.multihead_attn": "cross",
    }
    assert kind_of(nn.ModuleDict({"own": nn.MultiheadAttention(8, 2)}), "own") is None


def test_causal_maps_are_a_decoders() -> None:
    model, x = Tower(True).eval(), torch.randn(2, 5, 8)
    found = meant(model, survey(model, lambda: model(x)), request(), 1)
    assert (found.kind, found.wanted, found.beside) == ("decoder", ["blocks.0", "blocks.1"], [])
    assert found.layers == {"blocks.0": ["blocks.0"], "blocks.1": ["blocks.1"]}


def test_what_cannot_be_read_is_refused_by_name() -> None:
    readable, kernel = Use("first", "Own", 0, shape=(1, 2, 3, 3)), Use("second", "Own", 0, reason="it calls flash")
    with pytest.raises(ac.AttentionError, match=r"(?s)second \(Own\) attends, but.*it calls flash.*layers=\['first'\]"):
        meant(nn.Identity(), [readable, kernel], request(), 1)
    assert meant(nn.ModuleDict({"first": nn.Identity()}), [readable, kernel], request("first"), 1).wanted == ["first"]
    own = Use("first", "Own", 0, reason="it multiplies values by one key of its map at a time")
    with pytest.raises(ac.AttentionError, match=r"layers=\['third'\]\. Move the other product of first .* Then first can"):
        meant(nn.Identity(), [readable, own, Use("third", "Own", 0, shape=(1, 2, 3, 3))], request(), 1)
    with pytest.raises(ac.AttentionError, match=r"(?s)at a time\.\nMove the other product of first .* Then first can"):
        meant(nn.Identity(), [readable, own], request(), 1)
    with pytest.raises(ac.AttentionError, match="attends 2 times in one call"):
        meant(nn.Identity(), [readable, readable], request(), 1)


def test_a_kind_is_one_of_three() -> None:
    assert (check_kind(None), check_kind("cross")) == (None, "cross")
    with pytest.raises(ac.AttentionError, match="kind='pool' is unknown"):
        check_kind("pool")


def test_classes_have_full_names() -> None:
    assert classes_of(nn.ReLU())[:2] == ["torch.nn.modules.activation.ReLU", "torch.nn.modules.module.Module"]
    check_family(nn.ReLU())
