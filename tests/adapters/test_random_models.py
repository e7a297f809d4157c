"""Three hundred random models: what multiplied values is in the store, or named."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import Phase, assume, find, given, settings
from hypothesis import strategies as st
from torch import nn

import attnchain_interp as ac
from attnchain_adapters.recording.attention_recorder import AttentionRecorder
from attnchain_adapters.torch_models import sequences

from ..fuzzing import fuzzed
from .random_attention import EDITS, PROBABILITIES, PRODUCTS, SEEN, VALUES, Form, Seen
from .random_models import Recipe, built, readings, recipes, shown

LINE = re.compile(r"reading=ac\.Reading\((tokens=|kind=|tower=|…\) with )|It has kind=|of batch \d")


def named(model: nn.Module, seen: list[Seen]) -> dict[str, Seen]:
    """The maps by the names of the layers that they must have; None where a module attends twice in one call."""
    paths = {module: name for name, module in model.named_modules()}
    times = Counter(paths[each.module] for each in seen)
    count: Counter[str] = Counter()
    found = {}
    for each in seen:
        path = paths[each.module]
        found[path if times[path] == 1 else f"{path}[{count[path]}]"] = each
        count[path] += 1
    return found


def fault(model: nn.Module, store: ac.AttentionStore, seen: dict[str, Seen]) -> str:
    """What is wrong about a store of all layers; empty where it is right."""
    if not set(store.names) <= set(seen):
        return f"layers that are none: {store.names} of {list(seen)}"
    there = [seen[name].sequence for name in store.names]
    if len(set(there)) > 1:
        return f"sequences are mixed: {dict(zip(store.names, there, strict=True))}"
    expected = [name for name, each in seen.items() if each.sequence == there[0]]
    if [name for name in expected if name in store.names] != store.names:
        return f"layers are missing or out of order: {store.names}, not {expected}"
    for layer in store:
        maps = seen[layer.name].maps
        heads = maps.expand(-1, layer.heads, -1, -1) if maps.shape[1] == 1 else maps
        if layer.maps.shape != heads.shape or not torch.allclose(layer.maps.float(), heads, atol=1e-5):
            return f"the map of {layer.name} is another"
    unnamed = [name for name in seen if name not in store.names and not {name, name.split("[")[0]} & set(store.unread)]
    if unnamed:
        return f"neither read nor named: {unnamed}; unread: {store.unread}"
    left = [name for name in expected if name not in store.names]
    return f"layers of the sequence are left out: {left}" if left else ""


def verdict(model: nn.Module, inputs: Any, reading: ac.Reading) -> tuple[str, str]:
    """How a capture ended, and what is wrong about it."""
    try:
        store = ac.capture(model, *inputs, reading=reading)
    except ac.AttentionError as error:
        with torch.no_grad():
            model(*inputs)
        paths = [name.split("[")[0] for name in named(model, SEEN)]
        text = str(error)
        return "refused", "" if LINE.search(text) or any(path in text for path in paths) else f"names nothing: {text}"
    return "read", fault(model, store, named(model, SEEN))


cases = recipes.flatmap(lambda recipe: st.tuples(st.just(recipe), readings(recipe)))
branched = recipes.map(lambda recipe: replace(recipe, shape="branches")).flatmap(
    lambda recipe: st.tuples(st.just(recipe), readings(recipe))
)


def test_the_store_is_what_multiplied_values_or_the_error_names_the_module() -> None:
    ends: Counter[str] = Counter()

    @fuzzed(300, cases)
    def one(case: tuple[Recipe, ac.Reading]) -> None:
        recipe, reading = case
        model, inputs = built(recipe)
        end, wrong = verdict(model, inputs, reading)
        assert not wrong, wrong
        ends[end] += 1

    one()
    assert ends["read"] > 100, "a generator whose models are all refused proves nothing"
    assert ends["refused"] > 24, ends


@pytest.mark.parametrize("of_softmax", [False, True])
@pytest.mark.parametrize("product", PRODUCTS)
def test_probabilities_of_every_form_are_read_or_named_in_each_product(product: str, of_softmax: bool) -> None:
    plain, *others = VALUES
    for number, probabilities in enumerate(PROBABILITIES):
        both = number + [*PRODUCTS].index(product)
        if both % 2 != of_softmax:
            continue  # one of the two tests has this pair of probabilities and product
        values = others[both // 2 % len(others)] if of_softmax else plain
        form = Form("hand", "fused", probabilities, [*EDITS][number % len(EDITS)], product, values=values)
        if not shown(form):
            continue
        forms = Form("fused"), form
        recipe = Recipe("stack", forms, (), "ids", (4, 4), 2, False, ("none", "none"), False, ("trunk", "head"), 0)
        model, inputs = built(recipe)
        _, wrong = verdict(model, inputs, ac.Reading())
        assert not wrong, (form, wrong)


def plain_metadata(recorder: AttentionRecorder, *_: Any) -> dict[str, str]:
    return {"route": ", ".join(sorted(set(recorder.routes.values())))}


@pytest.mark.parametrize(
    ("owner", "name", "blind", "symptom", "among"),
    [
        (AttentionRecorder, "metadata", plain_metadata, "neither read nor named", cases),
        (sequences, "check_in_a_row", lambda *_: None, "sequences are mixed", branched),
    ],
    ids=["ownership", "one sequence"],
)
def test_without_a_check_the_generator_finds_a_counterexample(
    owner: Any, name: str, blind: Any, symptom: str, among: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, blind)

    def is_wrong(case: tuple[Recipe, ac.Reading]) -> bool:
        model, inputs = built(case[0])
        return symptom in verdict(model, inputs, case[1])[1]

    find(among, is_wrong, settings=settings(max_examples=1000, phases=[Phase.generate], database=None))


@settings(max_examples=60)
@given(cases)
def test_a_proof_holds_where_every_map_matters(case: tuple[Recipe, ac.Reading]) -> None:
    recipe, reading = case
    assume(not any(form.state for form in recipe.blocks + recipe.others))  # each forward has other maps
    model, inputs = built(recipe)
    try:
        proof = ac.prove(model, *inputs, reading=reading)
    except ac.AttentionError:
        return  # the test above says what it must say
    seen = named(model, SEEN)
    decoys = {layer.name for layer in proof.layers if layer.moved <= 2 * proof.deviation}
    assert decoys == {name for name in proof.store.names if not seen[name].live}, proof.layers
    assert proof.deviation < 1e-4
    assert proof.holds == (not decoys)


@pytest.mark.filterwarnings("ignore:.*Rows of attention stand in")
@settings(max_examples=25)
@given(cases)
def test_gradients_and_contributions_are_of_the_same_maps(case: tuple[Recipe, ac.Reading]) -> None:
    recipe, reading = case
    forms = recipe.blocks + recipe.others
    assume("out" not in [form.product for form in forms])  # torch differentiates no out=
    assume(not any(form.state for form in forms))  # each forward has other maps
    model, inputs = built(recipe)
    try:
        store = ac.capture(model, *inputs, reading=reading)
    except ac.AttentionError:
        return
    gradients = or_refusal(store, lambda: ac.capture_gradients(model, *inputs, target=0, reading=reading).store)
    contributions = or_refusal(store, lambda: ac.capture(model, *inputs, reading=reading, maps="alti"))
    for layer, own in zip(gradients or [], store, strict=gradients is not None):
        assert torch.allclose(layer.maps, own.maps, atol=1e-5), layer.name
    assert contributions is None or contributions.names == store.names


def or_refusal(store: ac.AttentionStore, run: Callable[[], ac.AttentionStore]) -> ac.AttentionStore | None:
    """The result, or None for a refusal, which must name a layer, or say that it attends to another sequence."""
    try:
        return run()
    except ac.AttentionError as error:
        text = str(error)
    assert any(name in text for name in [*store.names, "attention to other tokens"]), text
    return None
