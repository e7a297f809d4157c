"""One forward of a pipeline's denoiser on an image that was given, noised to a timestep."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor

from attnchain_adapters.checks import described
from attnchain_adapters.diffusers_models.pipelines import denoiser_of
from attnchain_adapters.diffusers_models.sequences import family_of
from attnchain_interp import AttentionError
from attnchain_interp.capture import rgb_image, uncompiled
from attnchain_interp.checks import as_number, check_type
from attnchain_interp.reprs import counted


@torch.no_grad()
def denoised_image(
    pipe: Any,
    image: Any,
    *,
    prompt: str | None,
    timestep: float,
    generator: torch.Generator | None,
    call: dict[str, Any],
) -> Tensor:
    """Denoises an image once. See `attnchain_interp.diffusion.denoise_image`."""
    denoiser = denoiser_of(pipe)
    family, packed = family_of(denoiser), hasattr(pipe, "_pack_latents")
    if "prompt_embeds" in call:
        raise AttentionError(
            "prompt_embeds is an argument of pipelines, and here the denoiser is called.",
            "Pass prompt=…." if packed else "Pass prompt=…, or the encoded text as encoder_hidden_states=….",
        )
    if prompt is not None:
        check_type("prompt", prompt, str, "Pass one prompt, of all images.")
    elif "encoder_hidden_states" in inspect.signature(type(uncompiled(denoiser)).forward).parameters and (
        "encoder_hidden_states" not in call or packed
    ):
        raise AttentionError(f"{type(pipe).__name__} reads a text, and there is no prompt.", "Pass prompt=….")
    pixels = _pixels(pipe, image)
    latents = _latents(pipe, pixels)
    noise = torch.randn(latents.shape, generator=generator, device=generator.device if generator else None).to(latents)
    noised, step = noised_to(pipe.scheduler, latents, noise, timestep)
    noised = noised.to(denoiser.dtype)
    if prompt is None:
        with _guidance_off(pipe):
            given = {family.sample: noised, "timestep": step.to(noised.device).expand(len(noised)), "return_dict": False}
            return denoiser(**given | call)[0]
    return _through_the_pipeline(pipe, prompt, noised, step, pixels, call)


@contextmanager
def _guidance_off(pipe: Any) -> Iterator[None]:
    """Pipelines remember the guidance scale of their last call, by which a batch would be taken for two halves."""
    scale = getattr(pipe, "_guidance_scale", None)
    if scale is not None:
        pipe._guidance_scale = 1.0
    try:
        yield
    finally:
        if scale is not None:
            pipe._guidance_scale = scale


def noised_to(scheduler: Any, image: Tensor, noise: Tensor, timestep: float) -> tuple[Tensor, Tensor]:
    """Returns the noised image that the denoiser sees at a timestep, and the timestep as a tensor ().

    Flow matching: (1 − σ) x₀ + σ ε with σ = timestep / training timesteps. Diffusion: √ᾱ x₀ + √(1 − ᾱ) ε, at a whole timestep;
    schedulers that hold x₀ + σ ε scale it to this before the denoiser.

    Raises:
        AttentionError: a timestep out of range; a scheduler of neither kind.
    """
    several = scheduler.config.get("num_train_timesteps", 1000)
    if not 0 <= as_number(timestep) < several:
        raise AttentionError(
            f"timestep={timestep!r} is outside 0 … {several}.",
            "Pass a timestep between 0 (the image itself) and the last (noise).",
        )
    if hasattr(scheduler, "scale_noise") or scheduler.config.get("use_flow_sigmas"):
        share = timestep / several
        return (1 - share) * image + share * noise, torch.tensor(float(timestep))
    if not hasattr(scheduler, "alphas_cumprod"):
        raise AttentionError(
            f"{type(scheduler).__name__} has neither scale_noise (flow matching) nor alphas_cumprod (DDPM, DDIM and the like),"
            " so its noise is not known.",
            "Use a pipeline with a scheduler of one of these kinds.",
        )
    step = torch.tensor(round(timestep))
    level = signal_level(scheduler, step, image)
    return level.sqrt() * image + (1 - level).sqrt() * noise, step


def signal_level(scheduler: Any, timestep: Any, sample: Tensor) -> Tensor:
    """Returns ᾱ of a timestep: (batch or 1, 1, 1, 1)."""
    steps = torch.as_tensor(timestep).reshape(-1).long().cpu()
    return scheduler.alphas_cumprod[steps].to(sample).reshape(-1, 1, 1, 1)


@final
class OneTimestep:
    """Stands in a scheduler's place: one timestep, whose step returns the prediction of the denoiser."""

    order = 1
    init_noise_sigma = 1.0

    def __init__(self, config: Any, timestep: Tensor) -> None:
        self.config, self.timesteps = config, timestep[None]

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: Any = None,
        mu: Any = None,
        original_inference_steps: int | None = None,
    ) -> None:
        self.timesteps = self.timesteps.to(device)

    def set_begin_index(self, begin_index: int = 0) -> None:
        pass

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        return sample

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, return_dict: bool = False) -> tuple[Tensor, Tensor]:
        return model_output, model_output


def _through_the_pipeline(
    pipe: Any, prompt: str, noised: Tensor, step: Tensor, pixels: Tensor, call: dict[str, Any]
) -> Tensor:
    """The prediction of one step of the pipeline's own call, without classifier-free guidance."""
    known = inspect.signature(type(pipe).__call__).parameters
    if "latents" not in known or "prompt" not in known or "image" in known:
        raise AttentionError(
            f"{type(pipe).__name__} takes no prompt together with latents.",
            "Load the weights as a pipeline from text to image: AutoPipelineForText2Image.from_pipe(pipe).",
        )
    unknown = [name for name in call if name not in known or known[name].kind is inspect.Parameter.VAR_KEYWORD]
    if unknown:  # some pipelines take any argument, and leave it out
        raise AttentionError(
            f"{type(pipe).__name__} takes no argument {unknown[0]!r}.",
            f"Leave it out, or use one of {', '.join([*known][1:])}.",
        )
    height, width = pixels.shape[-2:]
    if hasattr(pipe, "_pack_latents"):  # FLUX
        noised = pipe._pack_latents(noised, *noised.shape)
    given: dict[str, Any] = {"height": height, "width": width, "latents": noised, "num_inference_steps": 1}
    given |= {"guidance_scale": 1.0, "output_type": "latent", "return_dict": False}
    if "use_resolution_binning" in known:
        given["use_resolution_binning"] = False
    own = pipe.scheduler
    object.__setattr__(pipe, "scheduler", OneTimestep(own.config, step))  # what the pipeline says of itself stays as it is
    try:
        return pipe([prompt] * len(noised), **given | call)[0]
    finally:
        object.__setattr__(pipe, "scheduler", own)


def _pixels(pipe: Any, image: Any) -> Tensor:
    """(batch, channel, height, width) between −1 and 1, of a size that the pipeline can take."""
    processor = getattr(pipe, "image_processor", None)
    if isinstance(image, Tensor):
        channels = (getattr(pipe, "vae", None) or denoiser_of(pipe)).config.in_channels
        fits = image.ndim == 4 and image.shape[1] == channels and image.numel() and image.is_floating_point()
        if not fits or float(image.min()) < 0 or float(image.max()) > 1:
            between = f" between {float(image.min()):.3g} and {float(image.max()):.3g}" if image.numel() else ""
            raise AttentionError(
                f"the image is {described(image)}{between}; it must be floating point (batch, channel, height, width) between"
                f" 0 and 1, and this pipeline takes {counted(channels, 'channel')}.",
                "Scale it to 0 … 1, or pass a PIL image.",
            )
    elif processor is None:
        raise AttentionError(
            f"{type(pipe).__name__} has no image processor, so the image must be a tensor; got {type(image).__name__}.",
            "Pass a tensor (batch, channel, height, width) between 0 and 1.",
        )
    if processor is None:
        return 2 * image - 1
    several = [
        rgb_image(each) if hasattr(each, "convert") else each for each in (image if isinstance(image, list) else [image])
    ]
    return processor.preprocess(image if isinstance(image, Tensor) else several)


def _latents(pipe: Any, pixels: Tensor) -> Tensor:
    """The latents of the pixels in float32 (the mode of the pipeline's VAE); the pixels themselves without a VAE."""
    device = getattr(pipe, "_execution_device", None) or denoiser_of(pipe).device
    vae = getattr(pipe, "vae", None)
    if vae is None:
        return pixels.to(device, torch.float32)
    own, config = vae.dtype, vae.config
    if own == torch.float16 and config.get("force_upcast", True):  # it overflows in float16
        vae.to(torch.float32)
    try:
        encoded = vae.encode(pixels.to(device, vae.dtype))
        latents = (encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents).float()
    finally:
        if vae.dtype != own:
            vae.to(own)
    if config.get("latents_mean") is None:
        return (latents - (config.get("shift_factor") or 0)) * config["scaling_factor"]
    mean, deviation = (torch.tensor(config[name]).to(latents).view(1, -1, 1, 1) for name in ("latents_mean", "latents_std"))
    return (latents - mean) / deviation * config["scaling_factor"]
