"""Images that are given: noised as the scheduler does, denoised through the pipeline, and segmented from a word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import attnchain_interp as ac
from attnchain_adapters.diffusers_models.noising import noised_to
from attnchain_interp import diffusion

from ...tiny_pipelines import diffusers, flux, pixart, stable_diffusion, stable_diffusion_3, stable_diffusion_xl, unet

PROMPT = "a photo of corgi with blue hat"
LENGTH: Any = {"max_sequence_length": 12}


def images(count: int = 1, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def noise_like(latents: torch.Tensor) -> torch.Tensor:
    return torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["DDIMScheduler", "PNDMScheduler", "DDPMScheduler", "EulerDiscreteScheduler"])
def test_noise_is_added_as_the_scheduler_does(name: str) -> None:
    scheduler = getattr(diffusers, name)(beta_schedule="scaled_linear")
    image, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    found, step = noised_to(scheduler, image, noise, 300)
    expected = scheduler.add_noise(image, noise, torch.tensor([300]))
    torch.testing.assert_close(found, scheduler.scale_model_input(expected, step), atol=1e-5, rtol=1e-4)


def test_noise_is_added_as_flow_matching_does() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    image, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    for step in scheduler.timesteps[[10, 700]]:
        found, same = noised_to(scheduler, image, noise, float(step))
        torch.testing.assert_close(found, scheduler.scale_noise(image, step[None], noise), atol=1e-5, rtol=1e-4)
        assert same == step


def test_noise_is_added_as_schedulers_of_diffusion_do_that_match_flows() -> None:
    scheduler = diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    scheduler.set_timesteps(10)
    image, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    step = scheduler.timesteps[4]
    found, same = noised_to(scheduler, image, noise, float(step))
    expected = scheduler.add_noise(image, noise, step[None])
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)  # its timesteps are rounded to one of 1,000
    assert same == step


@torch.no_grad()
def test_flux_predicts_what_it_does_by_hand() -> None:
    pipe = flux()
    latents = 0.7 * (pipe.vae.encode(2 * images() - 1).latent_dist.mode() - 0.1)
    packed = pipe._pack_latents(0.75 * latents + 0.25 * noise_like(latents), 1, 1, 16, 16)
    embeddings, pooled, text_ids = pipe.encode_prompt(PROMPT, None, max_sequence_length=12)
    expected = pipe.transformer(
        packed,
        embeddings,
        pooled,
        torch.tensor([0.25]),
        pipe._prepare_latent_image_ids(1, 8, 8, "cpu", packed.dtype),
        text_ids,
    )[0]
    found = diffusion.denoise_image(pipe, images(), PROMPT, generator=torch.Generator().manual_seed(1), **LENGTH)
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_a_unet_predicts_what_it_does_by_hand() -> None:
    pipe = stable_diffusion()
    latents = 0.7 * (pipe.vae.encode(2 * images(2) - 1).latent_dist.mode() - 0.1)
    noised = pipe.scheduler.add_noise(latents, noise_like(latents), torch.tensor([400]))
    text, _ = pipe.encode_prompt(PROMPT, "cpu", 2, False)
    expected = pipe.unet(noised, torch.tensor(400), text).sample
    found = diffusion.denoise_image(pipe, images(2), PROMPT, timestep=400, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(found, expected)


def test_without_a_vae_or_a_prompt() -> None:
    torch.manual_seed(0)
    blocks: dict[str, Any] = {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }
    sizes: dict[str, Any] = {"sample_size": 16, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    unet = diffusers.UNet2DModel(**sizes, **blocks, in_channels=1, out_channels=1, attention_head_dim=8).eval()
    pipe = diffusers.DDIMPipeline(unet, diffusers.DDIMScheduler())
    image = images(2, 16)[:, :1]
    noised = pipe.scheduler.add_noise(2 * image - 1, noise_like(image), torch.tensor([250]))
    with diffusion.capture_pipeline(pipe) as run:
        found = diffusion.denoise_image(pipe, image, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(found, unet(noised, 250).sample)
    torch.testing.assert_close(run.store.maps()[:, 0, 0], ac.capture(unet, noised, 250).maps().mean((1, 2)))
    with pytest.raises(ac.AttentionError, match="DDIMPipeline takes no prompt together with latents"):
        diffusion.denoise_image(pipe, image, "a hat")
    with pytest.raises(ac.AttentionError, match="has no image processor"):
        diffusion.denoise_image(pipe, "hat.png")


@torch.no_grad()
@pytest.mark.parametrize("build", [stable_diffusion_3, pixart])
def test_a_text_that_is_already_encoded(build: Any) -> None:
    pipe = build()
    call: dict[str, Any] = {"encoder_hidden_states": torch.randn(1, 5, 64 if build is stable_diffusion_3 else 32)}
    if build is stable_diffusion_3:
        call["pooled_projections"] = torch.randn(1, 64)
    else:
        call["added_cond_kwargs"] = {"resolution": None, "aspect_ratio": None}
    latents = 0.7 * (pipe.vae.encode(2 * images() - 1).latent_dist.mode() - 0.1)
    noised, step = noised_to(pipe.scheduler, latents, noise_like(latents), 250)
    expected = pipe.transformer(hidden_states=noised, timestep=step[None], return_dict=False, **call)[0]
    found = diffusion.denoise_image(pipe, images(), generator=torch.Generator().manual_seed(1), **call)
    torch.testing.assert_close(found, expected)


def test_guidance_of_an_earlier_call_does_not_halve_the_batch() -> None:
    pipe = stable_diffusion()
    text, _ = pipe.encode_prompt(PROMPT, "cpu", 2, False)
    pipe(PROMPT, height=32, width=32, num_inference_steps=1, guidance_scale=5.0, output_type="latent")
    assert pipe.do_classifier_free_guidance
    with diffusion.capture_pipeline(pipe, "self", grid=(8, 8)) as run:
        diffusion.denoise_image(pipe, images(2), encoder_hidden_states=text)
    assert run.store.batch == 2
    assert pipe.do_classifier_free_guidance


def calls_of(denoiser: Any, run: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """The arguments of the denoiser's one forward."""
    seen: list[Any] = []
    with denoiser.register_forward_pre_hook(lambda _, inputs, kwargs: seen.append((inputs, kwargs)), with_kwargs=True):
        run()
    ((inputs, kwargs),) = seen
    return inputs, kwargs


JOINT: list[Any] = [(flux, LENGTH, slice(12, None)), (stable_diffusion_3, LENGTH, slice(0, 64))]


@pytest.mark.parametrize(("build", "call", "patches"), JOINT)
def test_a_concept_in_one_sequence(build: Any, call: dict[str, Any], patches: slice) -> None:
    pipe = build()

    def found() -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        return diffusion.concept_map(pipe, images(2), PROMPT, "corgi", heads="lambda2", generator=generator, **call)

    inputs, kwargs = calls_of(pipe.transformer, found)
    maps = ac.capture(pipe.transformer, *inputs, **kwargs).maps().double()
    weights = torch.linalg.eigvals(maps).abs().sort(-1).values[..., -2]
    mean = torch.einsum("blh,blhqk->bqk", weights / weights.sum(-1, keepdim=True), maps) / maps.shape[1]
    text = 0 if build is flux else 64
    words = [text + 4, text + 5] if build is flux else [text + 4, text + 5, text + 12 + 4, text + 12 + 5]
    expected = (mean[:, words].mean(1, keepdim=True) @ mean)[:, 0, patches]
    torch.testing.assert_close(found().flatten(1).double(), expected, atol=1e-5, rtol=1e-3)


ACROSS: list[Any] = [
    (stable_diffusion, {}, (8, 8)),
    (stable_diffusion_xl, {}, (16, 16)),
    (pixart, LENGTH | {"clean_caption": False}, None),
]


@pytest.mark.parametrize(("build", "call", "grid"), ACROSS)
def test_a_concept_through_cross_attention(build: Any, call: dict[str, Any], grid: Any) -> None:
    pipe = build()
    denoiser = getattr(pipe, "transformer", None) or pipe.unet

    def found() -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        return diffusion.concept_map(
            pipe, images(2), PROMPT, "corgi", steps=3, direction="outgoing", grid=grid, generator=generator, **call
        )

    inputs, kwargs = calls_of(denoiser, found)
    own, cross = (
        ac.capture(denoiser, *inputs, reading=ac.Reading(kind=kind, grid=grid), **kwargs).maps().mean((1, 2))
        for kind in ("self", "cross")
    )
    column = cross[..., [4, 5]].sum(-1, keepdim=True)
    back = (own / own.sum(1, keepdim=True)).mT
    expected = ((column / column.sum(1, keepdim=True)).mT @ back @ back)[:, 0]
    torch.testing.assert_close(found().flatten(1), expected, atol=1e-6, rtol=1e-4)


@torch.no_grad()
def test_latents_by_mean_and_deviation_and_of_a_vae_in_half_precision() -> None:
    pipe = stable_diffusion_3()
    plain = pipe.vae.encode(2 * images() - 1).latent_dist.mode()
    pipe.vae.register_to_config(latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[1.0, 2.0, 3.0, 4.0])
    pipe.vae.half()

    def seen() -> torch.Tensor:
        _, kwargs = calls_of(pipe.transformer, lambda: diffusion.denoise_image(pipe, images(), PROMPT, timestep=0, **LENGTH))
        return kwargs["hidden_states"]  # at timestep 0 there is no noise

    count = torch.arange(1.0, 5).view(1, -1, 1, 1)
    torch.testing.assert_close(seen(), 0.7 * (plain - count / 10) / count, atol=1e-2, rtol=1e-2)
    assert pipe.vae.dtype == torch.float16


def test_the_pipeline_is_left_as_it_was() -> None:
    pipe = stable_diffusion()
    scheduler, config = pipe.scheduler, dict(pipe.config)
    diffusion.denoise_image(pipe, images(), PROMPT)
    with pytest.raises(ZeroDivisionError):
        diffusion.denoise_image(pipe, images(), PROMPT, callback_on_step_end=lambda *_: 1 / 0)
    assert pipe.scheduler is scheduler
    assert dict(pipe.config) == config


def test_a_pipeline_of_latent_consistency() -> None:
    parts = stable_diffusion().components | {"scheduler": diffusers.LCMScheduler(), "unet": unet(time_cond_proj_dim=16)}
    pipe = diffusers.LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)
    assert diffusion.concept_map(pipe, images(), PROMPT, "hat", grid=(8, 8)).shape == (1, 8, 8)


@torch.no_grad()
def test_a_vae_without_a_distribution() -> None:
    pipe = stable_diffusion()
    blocks: dict[str, Any] = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    pipe.vae = diffusers.AutoencoderTiny(num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), latent_channels=4, **blocks)
    noised = noised_to(pipe.scheduler, latents := pipe.vae.encode(2 * images() - 1).latents, noise_like(latents), 250)[0]
    text, _ = pipe.encode_prompt(PROMPT, "cpu", 1, False)
    found = diffusion.denoise_image(pipe, images(), PROMPT, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(found, pipe.unet(noised, 250, text).sample)


def test_a_vae_that_fails_keeps_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = stable_diffusion()
    pipe.vae.half()
    monkeypatch.setattr(pipe.vae, "encode", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        diffusion.denoise_image(pipe, images(), PROMPT)
    assert pipe.vae.dtype == torch.float16


def test_images_of_pil() -> None:
    from PIL import Image

    pipe, pixels = stable_diffusion(), (images()[0].permute(1, 2, 0) * 255).byte()
    found, expected = (
        diffusion.concept_map(pipe, image, PROMPT, "hat", grid=(8, 8), generator=torch.Generator().manual_seed(0))
        for image in (Image.fromarray(pixels.numpy()), pixels.permute(2, 0, 1)[None] / 255)
    )
    torch.testing.assert_close(found, expected)
    clear, white = Image.new("RGBA", (16, 16), (0, 0, 0, 0)), Image.new("RGB", (16, 16), "white")
    seen = [
        diffusion.denoise_image(pipe, [one], PROMPT, timestep=0, generator=torch.Generator().manual_seed(0))
        for one in (clear, white)
    ]
    assert torch.equal(*seen)


def test_what_is_refused_says_why() -> None:
    pipe = stable_diffusion()
    edm = stable_diffusion()
    edm.scheduler = diffusers.EDMEulerScheduler()
    changed = diffusers.StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    on: Any = {"grid": (8, 8)}
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: diffusion.concept_map(pipe, images(), PROMPT, "hat"), "(?s)several sequences.*Say which is meant"),
        (lambda: diffusion.concept_map(pipe, images(), PROMPT, "cat", **on), "'cat' is not among the tokens of the prompt"),
        (
            lambda: diffusion.concept_map(pipe, images(), "a hat " * 9, "hat", **on),
            "the prompt has 20 tokens and the model reads 12",
        ),
        (
            lambda: diffusion.concept_map(pipe, images(), PROMPT, "hat", timestep=1000, **on),
            "timestep=1000 is outside 0 … 1000",
        ),
        (lambda: diffusion.denoise_image(pipe, 2 * images(), PROMPT), "between 0 and 1"),
        (
            lambda: diffusion.denoise_image(pipe, images()[0], PROMPT),
            r"must be floating point \(batch, channel, height, width\)",
        ),
        (lambda: diffusion.denoise_image(edm, images(), PROMPT), "EDMEulerScheduler has neither scale_noise"),
        (
            lambda: diffusion.denoise_image(changed, images(), PROMPT),
            "StableDiffusionImg2ImgPipeline takes no prompt together with latents",
        ),
        (lambda: diffusion.denoise_image(object(), images()), "object is not a pipeline that is known"),
    ]
    cases += [
        (lambda: diffusion.denoise_image(pipe, images(), ["a hat"]), "(?s)prompt is of type list.*Pass one prompt"),  # type: ignore[arg-type]
        (lambda: diffusion.denoise_image(pipe, images(), PROMPT, timestep="a"), "timestep='a' is outside"),  # type: ignore[arg-type]
        (lambda: diffusion.concept_map(pipe, images(), PROMPT, "hat", head="lambda2", **on), "takes no argument 'head'"),
        (lambda: diffusion.denoise_image(pipe, images()[:, :1], PROMPT), "this pipeline takes 3 channels"),
        (lambda: diffusion.denoise_image(pipe, images()[:0], PROMPT), "the image is torch.float32"),
        (
            lambda: diffusion.denoise_image(pipe, images(), prompt_embeds=0),
            "(?s)prompt_embeds is an argument of pipelines.*or the encoded text as encoder_hidden_states",
        ),
        (lambda: diffusion.denoise_image(flux(), images(), prompt_embeds=0), r"(?s)prompt_embeds.*Pass prompt=…\.$"),
        *(
            (lambda each=each: diffusion.denoise_image(each, images()), "(?s)reads a text, and there is no prompt.*prompt=…")
            for each in (pipe, flux(), stable_diffusion_3())
        ),
    ]
    for call, message in cases:
        with pytest.raises(ac.AttentionError, match=message):
            call()
