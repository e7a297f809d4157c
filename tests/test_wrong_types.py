"""Arguments of wholly wrong types, where a user would pass them: our words answer, never torch's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import attnchain_interp as ac
from attnchain_interp import attribution, diffusion, gradients, pictures
from attnchain_interp.store import known_sinks, layer_weights, states_of

from .attribution.small_models import images, llama, vit
from .attribution.text.texts import DECODER, TEXT

WRONG: dict[str, Any] = {
    "an array": np.eye(3),
    "a list": [[0.5, "a"]],
    "a string": "nope",
    "None": None,
    "an object": object(),
    "reductions": ac.capture(vit(1), images(), keep=[ac.Entropies()]),
    "gradients": ac.capture_gradients(vit(1), images(), target=0),
}
P = torch.tensor([[0.2, 0.4, 0.4], [0.5, 0.3, 0.2], [0.1, 0.5, 0.4]])
LAYOUT = ac.TokenLayout.image(2, (1, 2), prefix=[ac.Role.CLASS])
MAPS = P.expand(2, 2, 3, 3)
STORE = ac.AttentionStore.from_maps([MAPS, MAPS], LAYOUT)
WORDS = ac.TokenLayout(torch.tensor([[3, 3, 2]]), (1, 1), [["a", "dog", ""]])
JOINT = ac.AttentionStore.from_maps([P.expand(1, 1, 3, 3)], WORDS)
PATCHES = ac.AttentionStore.from_maps([torch.full((1, 1, 4, 4), 0.25)], ac.TokenLayout.image(1, (2, 2)))
PHOTOGRAPHS = torch.ones(2, 3, 4, 8)
RESULT = ac.TextAttributionResult(input_tokens=["a"], output_tokens=["b"], token_attr=torch.ones(1, 1), policy="own")
STATES = torch.tensor([False, True, True])
Call = tuple[Callable[..., Any], dict[str, Any]]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A string is a path to what writes files."""
    monkeypatch.chdir(tmp_path)


FUNCTIONS: dict[str, Call] = {
    "absorb": (ac.absorb, {"P": P, "tokens": ~STATES}),
    "balance": (ac.balance, {"P": P}),
    "bounce": (ac.bounce, {"P": P, "start": 1}),
    "damp": (ac.damp, {"P": P, "damping": 0.9}),
    "expected_visits": (ac.expected_visits, {"P": ac.absorb(P, ~STATES), "start": 1}),
    "head_weights": (ac.head_weights, {"store": STORE}),
    "metastable_states": (ac.metastable_states, {"P": P, "k": 2}),
    "mixing": (ac.mixing, {"P": P}),
    "restrict": (ac.restrict, {"P": P, "states": STATES}),
    "reverse": (ac.reverse, {"P": P}),
    "second_eigenvalue": (ac.second_eigenvalue, {"P": P}),
    "sinks": (ac.sinks, {"store": STORE}),
    "known_sinks": (known_sinks, {"store": STORE}),
    "states_of": (states_of, {"store": STORE}),
    "layer_weights": (layer_weights, {"store": STORE}),
    "cross_attention": (attribution.cross_attention, {"store": STORE}),
    "stationary": (ac.stationary, {"P": P}),
    "animate_bounces": (pictures.animate_bounces, {"store": STORE, "path": "/none/film.gif"}),
    "displayable": (pictures.displayable, {"image": PHOTOGRAPHS[0]}),
    "read_part": (pictures.read_part, {"preprocess": lambda image: PHOTOGRAPHS[:1], "width": 8, "height": 4}),
    "show_attribution": (pictures.show_attribution, {"attributions": torch.ones(2, 1, 2), "images": PHOTOGRAPHS}),
    "show_bounces": (pictures.show_bounces, {"store": STORE}),
    "show_chain": (pictures.show_chain, {"P": P}),
    "show_grid": (pictures.show_grid, {"maps": torch.ones(2, 1, 1, 2), "images": PHOTOGRAPHS}),
    "show_heads": (ac.show_heads, {"store": STORE}),
    "show_layers": (pictures.show_layers, {"store": STORE}),
    "show_states": (pictures.show_states, {"memberships": torch.ones(2, 1, 1, 2), "images": PHOTOGRAPHS}),
    "show_text": (pictures.show_text, {"result": RESULT}),
    "write_figure": (pictures.write_figure, {"figure": pictures.blank_axes(1, 1)[0], "path": "/none/figure.png"}),
    "Explorer.write": (ac.explore(STORE).write, {"path": "/none/page.html"}),
    "TextAttributionResult.write_html": (RESULT.write_html, {"path": "/none/page.html"}),
    "explore": (ac.explore, {"store": STORE}),
    "Chain": (ac.Chain, {"transitions": P, "states": torch.ones(3, dtype=torch.bool)}),
    "Factors": (ac.Factors, {"query": torch.ones(1, 2, 3, 4), "key": torch.ones(1, 2, 3, 4)}),
    "LayerAttention": (ac.LayerAttention, {"name": "layer", "attention": MAPS}),
    "TokenLayout": (ac.TokenLayout, {"roles": torch.tensor([[0, 2, 2]], dtype=torch.uint8), "grid": (1, 2)}),
    "TokenLayout.image": (ac.TokenLayout.image, {"grid": (1, 2)}),
    "TokenLayout.text": (ac.TokenLayout.text, {}),
    "TokenLayout.select": (LAYOUT.select, {"tokens": "patch"}),
    "TokenLayout.to_grid": (LAYOUT.to_grid, {"scores": torch.ones(2, 3)}),
    "AttentionStore": (ac.AttentionStore, {"layers": list(STORE), "tokens": LAYOUT}),
    "AttentionStore.from_maps": (ac.AttentionStore.from_maps, {"maps": [MAPS]}),
    "AttentionStore.select": (STORE.select, {"layers": 0}),
    "AttentionStore.only": (STORE.only, {"layers": 0}),
    "AttentionStore.maps": (STORE.maps, {}),
    "AttentionStore.chain": (STORE.chain, {}),
    "AttentionStore.to_bertviz": (STORE.to_bertviz, {}),
    "AttentionStore.read": (ac.AttentionStore.read, {"path": "/none"}),
    "aggregated_attention": (diffusion.aggregated_attention, {"stores": [PATCHES]}),
    "diff_seg": (diffusion.diff_seg, {"P": P, "anchors": [0, 1]}),
    "ranked_anchors": (diffusion.ranked_anchors, {"scores": P, "count": 2}),
    "tokens_of_word": (diffusion.tokens_of_word, {"tokens": WORDS, "word": "dog"}),
    "uniform_anchors": (diffusion.uniform_anchors, {"grid": (4, 4), "side": 2}),
    "word_map": (diffusion.word_map, {"store": JOINT, "word": "dog"}),
}
OF_MODELS = {"capture": ac.capture, "prove": ac.prove}
OF_MODELS |= {"capture_gradients": ac.capture_gradients, "capture_layer_gradients": gradients.capture_layer_gradients}


def parameters(call: Callable[..., Any]) -> Iterator[str]:
    """The arguments, without flags and without what goes to the model as it is, whose errors are the model's."""
    for name, parameter in inspect.signature(call).parameters.items():
        named = parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        if (
            named
            and name not in ("additional_forward_args", "add_special_tokens")
            and (name == "balanced" or not isinstance(parameter.default, bool))
        ):
            yield name


def leaks(call: Callable[..., Any], good: Mapping[str, Any], names: Iterator[str] | list[str]) -> list[str]:
    """What is not answered in our words: another error than an `AttentionError`. A call that works is no fault."""
    found = []
    for name in names:
        for kind, value in WRONG.items():
            try:
                call(**{**good, name: value})
            except ac.AttentionError as error:
                if len(str(error).splitlines()) < 1:
                    found.append(f"{name} is {kind}: an empty message")
            except Exception as error:  # noqa: BLE001
                found.append(f"{name} is {kind}: {type(error).__name__}: {error}")
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_and_classes(name: str) -> None:
    call, good = FUNCTIONS[name]
    found = leaks(call, good, parameters(call))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", OF_MODELS)
def test_what_reads_a_model(name: str) -> None:
    model, call = vit(1), OF_MODELS[name]
    asked = {"target": 0} if "target" in parameters(call) else {}
    names = [each for each in parameters(call) if each not in ("source", "model")]
    found = leaks(partial(call, model, images()), asked, names)
    for kind, value in WRONG.items():
        found += [f"the model is {kind}: {each}" for each in leaks(partial(call, value, images()), asked, ["reading"])]
    assert not found, "\n".join(found)


METHODS: dict[str, Any] = {
    name: method
    for name in attribution.__all__
    if isinstance(method := getattr(attribution, name), type)
    and issubclass(method, attribution.TokenAttribution)
    and not inspect.isabstract(method)
}


@pytest.mark.parametrize("name", METHODS)
def test_methods(name: str) -> None:
    model, method = vit(1), METHODS[name]
    of_a_class = not issubclass(method, attribution.AttentionAttribution)

    def constructed(**named: Any) -> Any:
        return method(**{"forward_func": model, **named}).attribute(images(), target=0 if of_a_class else None)

    found = leaks(constructed, {}, parameters(method))
    attribute = method(model).attribute
    found += leaks(attribute, {"inputs": images(), "target": 0}, parameters(attribute))
    if hasattr(method, "score"):
        found += leaks(method(model).score, {}, list(parameters(method.score))[1:])
    assert not found, "\n".join(found)


def test_texts() -> None:
    attribute = ac.TokenRank(llama()).attribute_text
    good = {"text": TEXT, "target": "a dog", "tokenizer": DECODER}
    found = leaks(attribute, good, parameters(attribute))
    assert not found, "\n".join(found)
