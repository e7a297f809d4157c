"""The labels of a prompt's tokens, as each pipeline reads them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

import attnchain_interp as ac
from attnchain_adapters.diffusers_models.families import FAMILIES
from attnchain_adapters.diffusers_models.prompts import labels_of, prompt_tokens
from attnchain_interp import diffusion

from ...tiny_pipelines import LENGTH, flux, pixart, stable_diffusion, stable_diffusion_3, stable_diffusion_xl

ONE = ["<s>", "a", "hat", "</s>", "<pad>", "<pad>"]
CORGI = ["<s>", "a", "cor", "##gi", "</s>"]
FLUX, SD3, UNET, PIXART = (
    FAMILIES[name]
    for name in ("FluxTransformer2DModel", "SD3Transformer2DModel", "UNet2DConditionModel", "PixArtTransformer2DModel")
)


def states(count: int) -> torch.Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(count))


def test_labels_are_padded_to_the_length_that_the_denoiser_reads() -> None:
    for pipe, family in ((flux(), FLUX), (stable_diffusion(), UNET)):
        assert prompt_tokens(pipe, family, "a hat", states(6)) == ONE


def test_stable_diffusion_3_reads_the_prompt_twice() -> None:
    pipe = stable_diffusion_3()
    found = prompt_tokens(pipe, SD3, "a hat", states(LENGTH + 6))
    assert found[:4] == ONE[:4]
    assert found[LENGTH:] == ONE


def test_zeros_in_place_of_a_text_encoder_have_no_labels() -> None:
    pipe, given = stable_diffusion_3(), states(LENGTH + 6)
    given[LENGTH:] = 0
    expected = prompt_tokens(pipe, SD3, "a hat", given[:LENGTH]) + [""] * 6
    assert prompt_tokens(pipe, SD3, "a hat", given) == expected
    pipe.tokenizer_3 = None
    assert prompt_tokens(pipe, SD3, "a hat", given) == expected
    with pytest.raises(ac.AttentionError, match=f"the prompt has 13 tokens and the model reads {LENGTH}"):
        prompt_tokens(pipe, SD3, "a hat " * 5 + "hat", given)


def test_what_one_encoder_cuts_off_the_other_may_read() -> None:
    found = prompt_tokens(stable_diffusion_3(), SD3, "a hat " * 5 + "dog", states(LENGTH + 13))
    assert (found[:LENGTH].count("dog"), found[LENGTH:].count("dog")) == (0, 1)


def test_the_tokens_of_flux_are_those_of_its_second_tokenizer_whatever_the_pipeline_is_called() -> None:
    pipe = flux()

    class Mine(type(pipe)): ...

    mine = Mine(**pipe.components)
    mine.tokenizer.add_tokens(["corgi"])  # the first one does not split this word
    mine.text_encoder.resize_token_embeddings(len(mine.tokenizer))
    with diffusion.capture_pipeline(mine, prompt="a corgi") as run:
        diffusion.denoise_image(mine, torch.rand(1, 3, 16, 16), "a corgi", max_sequence_length=LENGTH)
    assert run.store.tokens.labels
    assert run.store.tokens.labels[0][:5] == CORGI


def test_a_pipeline_with_its_second_tokenizer_alone() -> None:
    pipe = stable_diffusion_xl()
    pipe.tokenizer = None
    assert prompt_tokens(pipe, UNET, "a hat", states(6)) == ONE


def test_a_word_of_several_vectors() -> None:
    pipe = stable_diffusion()
    pipe.load_textual_inversion(torch.randn(2, 32), token="<cat>")
    found = prompt_tokens(pipe, UNET, "a <cat> hat", states(LENGTH))
    assert found[:6] == ["<s>", "a", "<cat>", "<cat>_1", "hat", "</s>"]


def test_pixart_reads_small_letters_and_says_how_many_tokens() -> None:
    pipe = pixart()
    assert prompt_tokens(pipe, PIXART, "A Corgi", states(5), 5) == CORGI
    with pytest.raises(
        ac.AttentionError, match=r"(?s)has 4 tokens, and the text that the denoiser is given has 5.*clean_caption"
    ):
        prompt_tokens(pipe, PIXART, "a hat", states(6), 5)


def test_each_image_has_the_labels_of_its_own_prompt() -> None:
    pipe, call = stable_diffusion(), {"height": 16, "width": 16, "num_inference_steps": 1, "output_type": "latent"}
    cross: Any = {"kind": "cross", "grid": (8, 8)}
    prompts = ["a dog", "a blue hat"]
    with diffusion.capture_pipeline(pipe, **cross, prompt=prompts) as run:
        pipe(prompts, num_images_per_prompt=2, **call)
    labels = run.store.tokens.labels
    assert labels
    assert [row[1:4] for row in labels] == [["a", "dog", "</s>"]] * 2 + [["a", "blue", "hat"]] * 2
    with (
        pytest.raises(ac.AttentionError, match=r"(?s)the 2 images of one prompt read different texts.*prompt=\[…\]"),
        diffusion.capture_pipeline(pipe, **cross, prompt="a dog"),
    ):
        pipe(prompts, **call)
    with diffusion.capture_pipeline(pipe, **cross, prompt="a dog") as run:
        pipe("a dog", num_images_per_prompt=3, **call)
    assert run.store.batch == 3


def test_what_has_no_labels_and_what_is_cut_off() -> None:
    cases: list[tuple[Any, str]] = [
        ((SimpleNamespace(), UNET, "a hat", states(6)[None]), "SimpleNamespace has no tokenizer"),
        ((stable_diffusion(), UNET, "a hat with dog", states(4)[None]), "the prompt has 6 tokens and the model reads 4"),
        ((stable_diffusion(), UNET, 3, states(4)[None]), "prompt is 3; it is a text, or a list of texts"),
        ((stable_diffusion(), UNET, [], states(4)[None]), r"prompt is \[\]; it is a text"),
        ((stable_diffusion(), UNET, ["a hat", "a dog"], states(4)[None]), "there are 2 prompts for 1 image"),
    ]
    for given, message in cases:
        with pytest.raises(ac.AttentionError, match=message):
            labels_of(*given)
