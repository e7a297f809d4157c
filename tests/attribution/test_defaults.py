"""The table of defaults is read where an argument is None, by the kind of model, and nowhere else."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore
from attnchain_interp.attribution import DEFAULTS, Defaults, Settings, defaults
from attnchain_interp.attribution.defaults import settings_of

from ..published import MEAN, PLAIN
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


def test_the_kind_is_not_asked_where_no_setting_depends_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof that maps are causal takes time."""
    monkeypatch.setattr(AttentionStore, "kind", property(lambda _: pytest.fail("the kind is not asked for")))
    store = AttentionStore.from_maps([torch.eye(2).expand(1, 1, 2, 2)])
    assert settings_of(ac.ColumnSum(), store) == settings_of(ac.TokenRank(**PLAIN), store) == Settings()


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
    monkeypatch.setattr(defaults, "DEFAULTS", {"TokenRank": Defaults(maps="norm")})
    model, ids = small.llama(), small.ids()
    by_default = ac.TokenRank(model).attribute(ids, output="tokens")
    assert torch.equal(by_default, ac.TokenRank(model, maps="norm").attribute(ids, output="tokens"))
    assert not torch.allclose(by_default, ac.TokenRank(model, maps="attention").attribute(ids, output="tokens"), atol=1e-2)


LATE, LAST_TWO = Settings(layer_weights="late"), Settings(slice(-2, None), balanced=True)
WALK: dict[str, Any] = {"decoder": LATE, "encoder": Settings(), "image": LAST_TWO}
EVIDENCE: dict[str, Any] = {"decoder": LATE._replace(balanced=0.5), "encoder": Settings(), "image": Settings()}
RANK: dict[str, Any] = {**WALK, "decoder": EVIDENCE["decoder"]}
MODELS: dict[str, tuple[Any, Any, Any]] = {
    "decoder": (small.llama, small.ids, (6, 1)),
    "encoder": (lambda: small.bert(layers=3), small.ids, 1),
    "image": (lambda: small.vit(3), small.images, 1),
}


def test_the_table_is_the_one_that_real_models_chose() -> None:
    """docs/real-text.md, docs/real-vision.md. Methods without an entry have the published settings."""
    walk, rank, evidence = Defaults(**WALK, maps=None), Defaults(**RANK, maps=None), Defaults(**EVIDENCE)
    states = Defaults(image=Settings(slice(-3, None), balanced=True))
    assert {
        "TokenRank": rank,
        "MultiBounce": walk,
        "LogitTokenRank": walk,
        "MetastableStates": states,
        "GradientTokenRank": evidence,
        "GradientMultiBounce": evidence,
        "ExpectedVisits": Defaults(),
    } == DEFAULTS
    mean = Settings(**MEAN)
    assert Defaults() == Defaults(mean, mean, mean, "attention")


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", ["TokenRank", "MultiBounce", "GradientTokenRank", "GradientMultiBounce"])
def test_defaults_written_out(name: str, kind: str) -> None:
    """A text's walks read contributions; late layers count in a decoder; an image has its last two layers, balanced."""
    build, (model, inputs, target) = getattr(ac, name), MODELS[kind]
    walk = not name.startswith("Gradient")
    table = RANK if name == "TokenRank" else WALK if walk else EVIDENCE
    written: dict[str, Any] = table[kind]._asdict()
    written |= {"maps": "attention" if kind == "image" else "alti"} if walk else {}
    written |= {"damping": 0.3} if (name, kind) == ("GradientTokenRank", "decoder") else {}
    ours, read = model(), inputs()
    found = build(ours).attribute(read, target, output="tokens")
    assert torch.equal(found, build(ours, **written).attribute(read, target, output="tokens"))
    plain = build(ours, **(PLAIN if walk else MEAN)).attribute(read, target, output="tokens")
    assert torch.allclose(found, plain, atol=1e-3) == (not walk and kind != "decoder")


@pytest.mark.parametrize(
    ("kind", "named"), [("decoder", "text of a decoder"), ("encoder", "text of an encoder"), ("image", "image")]
)
@pytest.mark.parametrize("method", [ac.TokenRank, ac.MultiBounce])
def test_docstrings_say_the_defaults(method: Any, kind: str, named: str) -> None:
    text = inspect.getdoc(method) or ""
    (line,) = re.findall(rf"^- {named}: (.*)[;.]$", text, re.MULTILINE)
    said = eval(f"dict({line.replace(', and ', ', ')})")  # noqa: S307
    table = RANK if method is ac.TokenRank else WALK
    expected = table[kind]._asdict() | {"maps": "attention" if kind == "image" else "alti"}
    if method is ac.TokenRank:
        causal, damping = method().policy(kind == "decoder")
        expected |= {"damping": damping} | ({"causal": causal} if kind == "decoder" else {})
    assert said == expected
    (published,) = re.findall(r"As published: (.*)\.$", text, re.MULTILINE)
    assert eval(f"dict({published})") == PLAIN  # noqa: S307


def test_metastable_states_of_an_image_are_those_of_its_last_three_layers() -> None:
    store = ac.capture(small.vit(4), small.images())
    chosen = ac.MetastableStates(k=2, layers=[1, 2, 3], layer_weights="mean", balanced=True)
    assert torch.equal(ac.MetastableStates(k=2).memberships(store), chosen.memberships(store))
    assert not torch.allclose(chosen.memberships(store), ac.MetastableStates(k=2, **PLAIN).memberships(store), atol=1e-2)


def test_evidence_in_a_decoder_is_damped_where_its_jumps_lead_to_the_last_token() -> None:
    """0.3 there (docs/real-text.md), and 0.99 with a personalization or in any other model, as `TokenRank` has it."""
    found = ac.capture_gradients(small.llama(), small.ids(), target=(6, 1))
    ranks = ac.GradientTokenRank().score(found)
    assert torch.equal(ranks, ac.GradientTokenRank(damping=0.3).score(found))
    assert not torch.allclose(ranks, ac.GradientTokenRank(damping=0.5).score(found), atol=1e-3)
    v = torch.full((7,), 1 / 7, dtype=torch.float64)
    given = ac.GradientTokenRank(personalization=v).score(found)
    assert torch.equal(given, ac.GradientTokenRank(personalization=v, damping=0.99).score(found))
