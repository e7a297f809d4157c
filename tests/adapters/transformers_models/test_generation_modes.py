"""Generations that are not one text for each example are refused by name, with a line that works."""

from __future__ import annotations

from typing import Any

import pytest
import transformers

import attnchain_interp as ac

from .test_generation import LANGUAGES, SOUND, causal, whisper


def test_beams_are_refused_by_name_with_a_line_that_works() -> None:
    model, given = causal("llama")
    options: dict[str, Any] = {**given, "max_new_tokens": 4, "num_beams": 2, "do_sample": False}
    with pytest.raises(ac.AttentionError, match=r"num_beams=2: a search with beams") as refused:
        ac.capture(model.generate, **options)
    assert follows(refused, model, options) == (2, 12)
    with pytest.raises(ac.AttentionError, match="num_beams=3"):
        ac.capture(model.generate, **given, generation_config=transformers.GenerationConfig(num_beams=3))
    model, options = whisper(**LANGUAGES), {"input_features": SOUND, "max_new_tokens": 4, "num_beams": 2, "language": "en"}
    with pytest.raises(ac.AttentionError, match="num_beams=2") as refused:
        ac.capture(model.generate, **options, reading=ac.Reading(kind="cross"))
    assert follows(refused, model, options) == (2, 8)
    assert ac.capture(model.generate, **options, reading=ac.Reading(kind="encoder")).batch == 2


def follows(refused: Any, model: Any, options: dict[str, Any]) -> tuple[int, int]:
    """Runs the line of the fix; returns the number of examples and of queries."""
    line = str(refused.value).split("finished text: ")[1].split(". Or")[0].rstrip(".")
    line = line.replace("generate(…", "generate(**options").replace("input_features=…", "input_features=SOUND")
    first, second = line.split("; ")
    names: dict[str, Any] = {"model": model, "options": options, "ac": ac, "SOUND": SOUND}
    exec(first, names)  # noqa: S102 - the line of the fix
    store = eval(second, names)  # noqa: S307
    return store.batch, len(store.queries or store.tokens)


@pytest.mark.parametrize("more", [{}, {"use_cache": False}, {"num_return_sequences": 2, "do_sample": True}])
def test_guidance_is_refused_by_name_with_a_line_that_works(more: dict[str, Any]) -> None:
    model, given = causal("llama")
    options: dict[str, Any] = {"do_sample": False, **given, "max_new_tokens": 4, "guidance_scale": 1.5, **more}
    with pytest.raises(ac.AttentionError, match=r"(?s)guidance_scale=1.5: guidance reads.*Or use guidance_scale=1") as refused:
        ac.capture(model.generate, **options)
    assert follows(refused, model, options) == (4 if "do_sample" in more else 2, 12)
    options["guidance_scale"] = 1
    assert len(ac.capture(model.generate, **options).tokens) == 11


@pytest.mark.parametrize("name", ["prompt_lookup_num_tokens", "assistant_model"])
def test_drafted_tokens_are_refused_by_name(name: str) -> None:
    model, given = causal("llama")
    ids = given["input_ids"][:1]
    options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, name: model if name == "assistant_model" else 3}
    with pytest.raises(ac.AttentionError, match=rf"(?s){name}=… drafts tokens .*Or generate without {name}"):
        ac.capture(model.generate, ids, **options)
