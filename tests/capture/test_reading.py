"""Options of a capture stand apart from the model's own arguments."""

import re
import warnings
from functools import partial
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.capture.reading import separated, without_empty_caches


class Named(nn.Module):
    """A model whose own arguments have the names of options, and of arguments of `capture`."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.seen: dict[str, Any] = {}

    def forward(self, x: Tensor, kind: str = "", tokens: Any = None, layers: int = 0) -> Tensor:
        self.seen = {"kind": kind, "tokens": tokens, "layers": layers}
        return self.attention(x, x, x)[0]


def test_the_models_own_arguments_go_to_the_model() -> None:
    model, x = Named().eval(), torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(0))
    layout = ac.TokenLayout.image(1, (2, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reading = ac.Reading(kind="encoder", tokens=layout, arguments={"layers": 3})
        store = ac.capture(model, x, reading=reading, kind="own", tokens="theirs")
    assert model.seen == {"kind": "own", "tokens": "theirs", "layers": 3}
    assert store.tokens.grid == (2, 2)


def test_a_field_without_a_meaning_is_refused() -> None:
    model, x = nn.TransformerEncoderLayer(8, 2, batch_first=True).eval(), torch.randn(1, 3, 8)
    with pytest.raises(ac.AttentionError, match=r"Reading.labels=…. has no meaning for a PyTorch model.*kind, tower, tokens"):
        ac.capture(model, x, reading=ac.Reading(labels=["a"]))
    with pytest.raises(ac.AttentionError, match="has no meaning for a callable"):
        ac.capture(lambda: None, reading=ac.Reading(kind="encoder"))


def test_fields_that_are_set() -> None:
    assert ac.Reading().given == []
    assert repr(ac.Reading(kind="cross", grid=(2, 3))) == "Reading(kind='cross', grid=(2, 3))"
    reading, kwargs = separated(None, None, {"x": 1})
    assert (reading.given, kwargs) == ([], {"x": 1})


def test_a_callable_gets_the_arguments_of_a_reading() -> None:
    def source(maps: Tensor, layers: int = 3) -> ac.AttentionStore:
        return ac.AttentionStore.from_maps([maps] * layers)

    assert len(ac.capture(source, torch.eye(2)[None, None], reading=ac.Reading(arguments={"layers": 2}))) == 2


class AnyWords(nn.MultiheadAttention):
    """A model that takes any keyword, so that a stray option would be passed over."""

    def forward(self, x: Tensor, **_: Any) -> Tensor:  # type: ignore[override]
        return super().forward(x, x, x)[0]


@pytest.mark.parametrize("capture", [ac.capture, ac.prove, partial(ac.capture, maps="alti")])
def test_an_option_among_the_arguments_is_refused(capture: Any) -> None:
    x, layout = torch.randn(1, 3, 8), ac.TokenLayout.text()
    for model in (AnyWords(8, 2, batch_first=True).eval(), nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()):
        with pytest.raises(ac.AttentionError, match=r"no argument kind, which.*\nWrite reading=ac.Reading.kind='encoder'.\."):
            capture(model, x, kind="encoder")
        with pytest.raises(ac.AttentionError, match=r"kind or tokens.*\nWrite reading=ac.Reading.kind='encoder', tokens=…"):
            capture(model, x, kind="encoder", tokens=layout, reading=ac.Reading(kind="encoder"))
        with pytest.raises(ac.AttentionError, match=r"readings is a Reading, .*\nWrite reading= for readings=\."):
            capture(model, x, readings=ac.Reading(kind="encoder"))


@pytest.mark.parametrize("capture", [ac.capture, ac.prove, partial(ac.capture, maps="alti")])
def test_a_setting_of_a_method_among_the_arguments_is_refused(capture: Any) -> None:
    model, x = AnyWords(8, 2, batch_first=True).eval(), torch.randn(1, 3, 8)
    for name, fix in (("heads", "TokenRank(model, heads=…)"), ("measure", "Write maps="), ("layer", "Write layers=")):
        with pytest.raises(ac.AttentionError, match=rf"has an argument {name}\.\n.*{re.escape(fix)}"):
            capture(model, x, **{name: "alti"})


class OfTexts(nn.TransformerEncoderLayer):
    """A model with a tokenizer among its own arguments."""

    def forward(self, x: Tensor, tokenizer: Any = None) -> Tensor:  # type: ignore[override]
        return super().forward(x)


def test_a_tokenizer_is_taken_unless_the_model_has_an_argument_of_that_name() -> None:
    mine, other = object(), object()
    plain = nn.TransformerEncoderLayer(8, 2, batch_first=True)
    reading, kwargs = separated(plain, None, {"tokenizer": mine, "x": 1})
    assert (reading.tokenizer, kwargs) == (mine, {"x": 1})
    reading, kwargs = separated(OfTexts(8, 2), None, {"tokenizer": mine})
    assert (reading.tokenizer, kwargs) == (None, {"tokenizer": mine})
    assert separated(plain, ac.Reading(tokenizer=mine), {"tokenizer": mine})[0].tokenizer is mine
    with pytest.raises(ac.AttentionError, match="tokenizer=… is given beside another one"):
        separated(plain, ac.Reading(tokenizer=mine), {"tokenizer": other})


def test_other_types_are_refused() -> None:
    model, x = nn.TransformerEncoderLayer(8, 2, batch_first=True).eval(), torch.randn(1, 3, 8)
    for source in (model, lambda x: x):
        with pytest.raises(ac.AttentionError, match="reading is a str"):
            ac.capture(source, x, reading="encoder")  # type: ignore[reportArgumentType]


def test_empty_caches_are_told_from_filled_ones_and_from_other_arguments() -> None:
    config = transformers.LlamaConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1)
    for empty in (transformers.DynamicCache(config=config), transformers.StaticCache(config=config, max_cache_len=8)):
        assert without_empty_caches({"cache": empty, "labels": None}) == {"labels": None}
        empty.update(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4), 0)
        assert list(without_empty_caches({"cache": empty})) == ["cache"]
