"""The labels of a prompt's tokens, as each pipeline reads them."""

import types

import pytest

import attnchain_interp as ac
from attnchain_adapters.diffusers_models.prompts import prompt_tokens

from ...tiny_pipelines import flux, stable_diffusion, stable_diffusion_3

ONE = ["<s>", "a", "hat", "</s>", "<pad>", "<pad>"]


def test_labels_are_padded_to_the_length_that_the_denoiser_reads() -> None:
    for pipe in (flux(), stable_diffusion()):
        assert prompt_tokens(pipe, "a hat", 6) == ONE


def test_stable_diffusion_3_reads_the_prompt_twice() -> None:
    pipe = stable_diffusion_3()
    first = pipe.tokenizer.model_max_length
    found = prompt_tokens(pipe, "a hat", first + 6)
    assert found[:4] == ONE[:4]
    assert found[first:] == ONE


def test_what_has_no_labels_and_what_is_cut_off() -> None:
    with pytest.raises(ac.AttentionError, match="SimpleNamespace has no tokenizer"):
        prompt_tokens(types.SimpleNamespace(), "a hat", 6)
    with pytest.raises(ac.AttentionError, match="the prompt has 6 tokens and the model reads 4"):
        prompt_tokens(stable_diffusion(), "a hat with dog", 4)
