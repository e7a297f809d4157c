"""The table of defaults is read where an argument is None, by the kind of model, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore
from attnchain_interp.attribution import DEFAULTS, Defaults, Settings, defaults
from attnchain_interp.attribution.defaults import settings_of

from . import small_models as small

SET = Defaults(Settings(-1, "late"), Settings([0], "lambda2"), Settings(slice(-2, None), "late", True))


@pytest.fixture
def stores(store: AttentionStore, logits: Tensor) -> dict[str, AttentionStore]:
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    decoder = AttentionStore.from_maps(list(logits.masked_fill(~mask, -torch.inf).softmax(-1)))
    return {"image": store, "decoder": decoder, "encoder": AttentionStore.from_maps(list(logits.softmax(-1)))}


def test_the_kinds_of_models(stores: dict[str, AttentionStore]) -> None:
    assert [store.kind for store in stores.values()] == list(stores)
    assert ac.capture(small.vit(), small.images()).kind == "image"
    assert ac.capture(small.llama(), small.ids()).kind == "decoder"
    assert ac.capture(small.bert(), small.ids()).kind == "encoder"


@pytest.mark.parametrize("kind", ["image", "decoder", "encoder"])
def test_what_is_not_given_is_read_from_the_table(
    monkeypatch: pytest.MonkeyPatch, stores: dict[str, AttentionStore], kind: str
) -> None:
    monkeypatch.setattr(defaults, "DEFAULTS", {"MultiBounce": SET})
    chosen: Settings = getattr(SET, kind)
    store = stores[kind]
    assert torch.equal(ac.MultiBounce().chain(store).matrix, store.chain(**chosen._asdict()).matrix)
    assert settings_of(ac.MultiBounce(layers=1, balanced=False), store) == (1, chosen.layer_weights, False)
    assert settings_of(ac.MultiBounce(layer_weights="mean"), store).layer_weights == "mean"
    assert settings_of(ac.TokenRank(), store) == Settings(), "a method that is not in the table"


def test_a_default_selection_counts_the_layers_of_the_whole_model(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Settings(slice(1, None), "late", True)
    monkeypatch.setattr(defaults, "DEFAULTS", dict.fromkeys(DEFAULTS, Defaults(chosen, chosen, chosen)))
    for model, inputs in ((small.vit(3), small.images()), (small.llama(), small.ids())):
        for name in ("TokenRank", "MultiBounce", "GradientTokenRank", "GradientMultiBounce", "ExpectedVisits"):
            kind = getattr(ac, name)
            target = 1 if inputs.ndim == 4 else (6, 1)
            default = kind(model).attribute(inputs, target, output="tokens")
            said = kind(model, **chosen._asdict()).attribute(inputs, target, output="tokens")
            assert torch.allclose(default, said, atol=1e-9), name
            plain = kind(model, layers="all", layer_weights="mean", balanced=False)
            assert not torch.allclose(default, plain.attribute(inputs, target, output="tokens"), atol=1e-4), name


def test_the_maps_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "DEFAULTS", {"TokenRank": Defaults(maps="alti")})
    model, ids = small.llama(), small.ids()
    by_default = ac.TokenRank(model).attribute(ids, output="tokens")
    assert torch.equal(by_default, ac.TokenRank(model, maps="alti").attribute(ids, output="tokens"))
    assert not torch.allclose(by_default, ac.TokenRank(model, maps="attention").attribute(ids, output="tokens"), atol=1e-2)


def test_today_every_method_averages_all_layers_of_attention() -> None:
    assert all(each == Defaults() for each in DEFAULTS.values())
