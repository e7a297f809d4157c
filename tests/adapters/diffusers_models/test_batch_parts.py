"""The part of the batch that reads the prompt: beside captures of each forward by itself, for one image and for several."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import attnchain_interp as ac
from attnchain_adapters.diffusers_models.batch_parts import BatchParts
from attnchain_interp import diffusion

from ...tiny_pipelines import autoencoder, diffusers, pixart, stable_diffusion, stable_diffusion_xl, unet

PROMPT = "a photo of corgi with blue hat"
CROSS: Any = {"kind": "cross", "grid": (8, 8)}
IMAGE = torch.linspace(0, 1, 768).view(1, 3, 16, 16)


def quiet(name: str, parts: dict[str, Any], **more: Any) -> Any:
    own = {key: part for key, part in parts.items() if key not in ("image_encoder", "feature_extractor", *more)}
    pipe = getattr(diffusers, name)(**own, **more)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def plain(images: int, **more: Any) -> tuple[Any, dict[str, Any]]:
    return stable_diffusion(), {"height": 16, "width": 16, "num_images_per_prompt": images, **more}


def instructed(images: int, **more: Any) -> tuple[Any, dict[str, Any]]:
    parts = stable_diffusion().components | {"feature_extractor": None}
    more_parts = {"unet": unet(in_channels=8), "feature_extractor": None, "requires_safety_checker": False}
    pipe = quiet("StableDiffusionInstructPix2PixPipeline", parts, **more_parts)
    return pipe, {"image": IMAGE, "num_images_per_prompt": images, **more}


def instructed_xl(images: int) -> tuple[Any, dict[str, Any]]:
    """A pipeline that does not say whether it guides."""
    pipe = stable_diffusion_xl()
    given = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    embedding: Any = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "cross_attention_dim": 64}
    wider = unet(in_channels=8, projection_class_embeddings_input_dim=80, **embedding)
    pipe = quiet("StableDiffusionXLInstructPix2PixPipeline", given, unet=wider, add_watermarker=False)
    return pipe, {"image": IMAGE, "height": 16, "width": 16, "num_images_per_prompt": images}


def perturbed(images: int, **more: Any) -> tuple[Any, dict[str, Any]]:
    parts = stable_diffusion().components | {"feature_extractor": None}
    options = {"feature_extractor": None, "requires_safety_checker": False, "pag_applied_layers": ["mid"]}
    pipe = quiet("StableDiffusionPAGPipeline", parts, **options)
    return pipe, {"height": 16, "width": 16, "num_images_per_prompt": images, **more}


def of_pixart(images: int, **more: Any) -> tuple[Any, dict[str, Any]]:
    """A pipeline that does not say whether it guides."""
    call = {"height": 16, "width": 16, "max_sequence_length": 12, "use_resolution_binning": False}
    return pixart(), {**call, "num_images_per_prompt": images, **more}


def pixart_perturbed(images: int, **more: Any) -> tuple[Any, dict[str, Any]]:
    pipe, call = of_pixart(images, **more)
    return quiet("PixArtSigmaPAGPipeline", pipe.components, pag_applied_layers=["blocks.1"]), call


def same(count: int, size: int = 8) -> dict[str, Any]:
    """Several prompts on the same noise."""
    noise = torch.randn(1, 4, size, size, generator=torch.Generator().manual_seed(1)).repeat(count, 1, 1, 1)
    return {"prompt": ["a dog", "a blue hat"][:count], "latents": noise, "num_images_per_prompt": 1}


def sampled(pipe: Any, call: dict[str, Any]) -> None:
    given = {"prompt": PROMPT, "num_inference_steps": 2, "output_type": "latent", **call}
    with torch.no_grad():
        pipe(generator=torch.Generator().manual_seed(0), **given)


def by_hand(pipe: Any, call: dict[str, Any], which: dict[str, Any]) -> torch.Tensor:
    """The mean map of each example of the denoiser's batch, from captures of each forward by itself."""
    denoiser, calls = pipe.transformer if hasattr(pipe, "transformer") else pipe.unet, []
    with denoiser.register_forward_pre_hook(lambda _, *given: calls.append(given), with_kwargs=True):
        sampled(pipe, call)
    stores = [ac.capture(denoiser, *inputs, reading=ac.Reading(**which), **kwargs) for inputs, kwargs in calls]
    return torch.stack([store.maps().mean((1, 2)) for store in stores]).mean(0)


PIPELINES: list[tuple[Callable[..., Any], dict[str, Any], int, int]] = [
    (plain, {}, 2, 1),
    (plain, same(2), 2, 1),
    (plain, {"guidance_scale": 1.0, **same(2)}, 1, 0),
    (instructed, {}, 3, 0),
    (instructed, {"guidance_scale": 1.0}, 1, 0),
    (instructed_xl, {}, 3, 0),
    (perturbed, {}, 3, 1),
    (perturbed, {"guidance_scale": 1.0}, 2, 0),
    (perturbed, {"pag_scale": 0.0}, 2, 1),
    (of_pixart, {}, 2, 1),
    (of_pixart, {"guidance_scale": 1.0}, 1, 0),
    (pixart_perturbed, {}, 3, 1),
    (pixart_perturbed, {"guidance_scale": 1.0}, 2, 0),
]


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize(("build", "options", "parts", "prompt"), PIPELINES)
def test_the_part_that_reads_the_prompt_is_taken(
    build: Callable[..., Any], options: dict[str, Any], parts: int, prompt: int, images: int
) -> None:
    pipe, call = build(images, **options)
    which: Any = {"kind": "cross"} if hasattr(pipe, "transformer") else CROSS
    images = len(options.get("prompt", range(images)))
    with diffusion.capture_pipeline(pipe, **which) as run:
        sampled(pipe, call)
    examples = by_hand(pipe, call, which)
    assert len(examples) == parts * images
    expected = examples[prompt * images : (prompt + 1) * images]
    torch.testing.assert_close(run.store.maps()[:, 0, 0], expected, atol=1e-6, rtol=1e-5)
    assert run.store.batch == images
    assert "step" not in vars(pipe.scheduler)


def test_perturbed_self_attention_is_not_mixed_in() -> None:
    which: Any = {"kind": "self", "grid": (4, 4)}
    stores = []
    for build in (plain, perturbed):
        pipe, call = build(2)
        with diffusion.capture_pipeline(pipe, steps=[0], **which) as run:
            sampled(pipe, call)
        stores.append(run.store.maps())
    torch.testing.assert_close(stores[0], stores[1], atol=1e-6, rtol=1e-5)


def test_classes_come_first_in_dit() -> None:
    torch.manual_seed(0)
    blocks: Any = {"num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 3, "num_embeds_ada_norm": 1000}
    model = diffusers.DiTTransformer2DModel(sample_size=8, patch_size=2, in_channels=4, out_channels=8, **blocks).eval()
    pipe = diffusers.DiTPipeline(model, autoencoder(4), diffusers.DDIMScheduler(clip_sample=False))
    pipe.set_progress_bar_config(disable=True)
    with diffusion.capture_pipeline(pipe) as run:
        pipe([3, 5], num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0))
    with diffusion.capture_pipeline(pipe) as unguided:
        pipe([3, 5], 1.0, num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0))
    assert run.store.batch == unguided.store.batch == 2
    with diffusion.capture_pipeline(pipe, steps=[0]) as first, diffusion.capture_pipeline(pipe, steps=[0]) as again:
        pipe([3, 5], num_inference_steps=1, output_type="np", generator=torch.Generator().manual_seed(0))
    with diffusion.capture_pipeline(pipe, steps=[0]) as alone:
        pipe([3, 5], 1.0, num_inference_steps=1, output_type="np", generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(first.store.maps(), alone.store.maps(), atol=1e-6, rtol=1e-5)
    assert torch.equal(first.store.maps(), again.store.maps())


def test_guidance_that_ends_within_a_sampling() -> None:
    def end(pipe: Any, step: int, _: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if step == 0:
            pipe._guidance_scale = 0.0
            return {"prompt_embeds": kwargs["prompt_embeds"].chunk(2)[1]}
        return {}

    pipe, call = plain(2)
    call |= {"callback_on_step_end": end, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    with diffusion.capture_pipeline(pipe, **CROSS) as run:
        sampled(pipe, call)
    assert (run.store.batch, run.forwards) == (2, 2)


class FourParts:
    """A user's pipeline whose guidance has four parts."""

    def __init__(self) -> None:
        self.unet = stable_diffusion().unet
        self.scheduler = SimpleNamespace(step=lambda _, __, sample: sample)

    @torch.no_grad()
    def __call__(self, images: int, parts: int = 4) -> None:
        torch.manual_seed(0)
        sample = torch.randn(images, 4, 8, 8)
        output = self.unet(sample.repeat(parts, 1, 1, 1), 10, torch.randn(parts * images, 5, 32)).sample
        self.scheduler.step(output[:images], 10, sample)


@pytest.mark.parametrize(("images", "parts"), [(1, 4), (2, 4), (2, 3), (1, 3), (3, 5)])
def test_other_parts_are_refused_by_name(images: int, parts: int) -> None:
    pipe = FourParts()
    message = f"FourParts gives its denoiser a batch of {parts * images} for {images} image"
    with pytest.raises(ac.AttentionError, match=message), diffusion.capture_pipeline(pipe, **CROSS):
        pipe(images, parts)
    with diffusion.capture_pipeline(pipe, **CROSS) as run:
        pipe(images, 1)
    assert run.store.batch == images


def test_parts_that_no_step_confirms_are_refused() -> None:
    pipe = stable_diffusion()
    sample, text = torch.randn(1, 4, 8, 8).repeat(2, 1, 1, 1), torch.randn(2, 5, 32)
    with (
        torch.no_grad(),
        pytest.raises(ac.AttentionError, match="made no step of its scheduler"),
        diffusion.capture_pipeline(pipe, **CROSS),
    ):
        pipe.unet(sample, 10, text)


def test_a_scheduler_without_a_step() -> None:
    pipe = SimpleNamespace(unet=stable_diffusion().unet, scheduler=SimpleNamespace())
    with torch.no_grad(), diffusion.capture_pipeline(pipe, **CROSS) as run:
        pipe.unet(torch.randn(2, 4, 8, 8), 10, torch.randn(2, 5, 32))
    assert run.store.batch == 2


def test_fit() -> None:
    images = torch.arange(2.0).view(2, 1, 1, 1)
    both = torch.cat([images, images])
    assert BatchParts(2, 1).fit(both)
    assert not BatchParts(4, 1).fit(both)
    assert not BatchParts(3, 1).fit(both)
    added = torch.cat([both, torch.arange(4.0).view(4, 1, 1, 1)], 1)
    assert BatchParts(2, 1, added=True).fit(added)
    assert not BatchParts(2, 1).fit(added)
    assert BatchParts(3, 1).of_prompt(6) == slice(2, 4)
