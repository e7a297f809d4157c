"""Self-attention guidance: leads a sampling away from the prediction for an image that is blurred where the model attends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_adapters.checks import arguments_of, check_shown
from attnchain_adapters.diffusers_models.batch_parts import NONE_PROMPT, WHOLE, PromptPart
from attnchain_adapters.diffusers_models.noising import signal_level
from attnchain_adapters.diffusers_models.pipelines import plain_denoiser
from attnchain_adapters.diffusers_models.running_mean import RunningMean
from attnchain_adapters.diffusers_models.sequences import ADVICE, layouts_of, sequence_meant, sequences_of
from attnchain_adapters.recording.attention_recorder import AttentionRecorder
from attnchain_interp import AttentionError, AttentionStore, LayerAttention
from attnchain_interp.capture import turn
from attnchain_interp.checks import as_number, check_one_of, check_whole_number
from attnchain_interp.diffusion import Importance, important_tokens
from attnchain_interp.store import Grid, LayerSelection, select_layers


@contextmanager
def guided_by_self_attention(
    pipe: Any,
    *,
    scale: float,
    importance: Importance,
    layers: LayerSelection,
    grid: Grid | None,
    kernel: int,
    sigma: float,
    generator: torch.Generator | None,
) -> Iterator[None]:
    """Guides a sampling. See `attnchain_interp.diffusion.self_attention_guidance`."""
    scheduler: Any = getattr(pipe, "scheduler", None)
    if not hasattr(pipe, "unet") or not hasattr(scheduler, "alphas_cumprod"):
        lack = f"the scheduler {type(scheduler).__name__}" if hasattr(pipe, "unet") else "no unet"
        raise AttentionError(
            f"{type(pipe).__name__} has {lack}.",
            "Use a pipeline with a UNet and a scheduler with alphas_cumprod (DDPM, DDIM and the like).",
        )
    kinds = ("epsilon", "v_prediction", "sample")
    if scheduler.config.prediction_type not in kinds:
        raise AttentionError(
            f"the scheduler predicts {scheduler.config.prediction_type!r}, which is not known.",
            f"Use one of {', '.join(kinds)}.",
        )
    check_one_of("importance", importance, get_args(Importance))
    check_whole_number("kernel", kernel, "the size of the blur in latent pixels")
    if kernel % 2 == 0 or not 0 < as_number(sigma) < math.inf or not math.isfinite(as_number(scale)):
        raise AttentionError(
            f"kernel={kernel}, sigma={sigma!r}, scale={scale!r}; the guidance needs an odd kernel, a positive sigma, and a"
            " number as scale.",
            "Pass kernel=9, sigma=1.0, scale=0.75.",
        )

    thread = get_ident()

    def guided(*inputs: Any, **kwargs: Any) -> Any:
        if get_ident() != thread:
            return plain(*inputs, **kwargs)
        given: dict[str, Any] = {
            name: [*value] if isinstance(value, list) else value  # the forward takes an adapter's residuals out of their list
            for name, value in arguments_of(unet, inputs, kwargs).items()
            if name != "self"
        }
        parts = part.of(given, unet)
        if parts not in (WHOLE, NONE_PROMPT):
            raise AttentionError(
                f"{type(pipe).__name__} guides by {parts.count} parts of a batch, beside which self-attention guidance is not"
                " published.",
                "Turn its own guidance off, or use a pipeline with classifier-free guidance of two halves.",
            )
        output, store = _read(unet, lambda: plain(*inputs, **kwargs), given, layers, grid)
        first = _prediction(output)
        if first.shape != given["sample"].shape:
            raise AttentionError(
                f"the UNet of {type(pipe).__name__} takes {given['sample'].shape[1]} channels and predicts {first.shape[1]}.",
                "Use a pipeline from text to image or from noise.",
            )
        sample, level = given["sample"], signal_level(scheduler, given["timestep"], given["sample"])
        where = store.tokens.to_grid(important_tokens(store, importance, generator))[:, None]
        blurred = _blurred(*_parts(scheduler, first, sample, level), level, where, kernel, sigma)
        again = _prediction(plain(**{**given, "sample": blurred, "return_dict": False}))
        difference = scale * (first - again)
        if parts == NONE_PROMPT:
            difference = difference.chunk(2)[0].repeat(2, 1, 1, 1)
        if isinstance(output, tuple):
            return (first + difference, *output[1:])
        output.sample = first + difference
        return output

    with turn(pipe.unet), plain_denoiser(pipe) as unet, PromptPart(pipe) as part:
        plain, own = unet.forward, vars(unet).get("forward")  # its own where accelerate has put one there (offloading)
        unet.forward = guided
        try:
            yield
        finally:
            del unet.forward
            if own is not None:
                unet.forward = own


def _prediction(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output.sample


def _read(
    unet: Any, forward: Callable[[], Any], given: dict[str, Any], layers: LayerSelection, grid: Grid | None
) -> tuple[Any, AttentionStore]:
    """The output of a forward, and the mean self-attention of the chosen layers in it."""
    sequence = sequence_meant(sequences_of(unet, given), type(unet).__name__, "self", grid)
    wanted = frozenset(select_layers(sequence.layers, layers))
    mean = RunningMean("mean", each_layer=False)
    tokens, _ = layouts_of(unet, sequence, given)
    mean.layers, mean.tokens = wanted, (len(tokens), len(tokens))
    with AttentionRecorder(unet, {name: [name] for name in sequence.layers}, wanted, mean) as recorder:
        output = forward()
    check_shown(recorder.routes, list(wanted), ADVICE)
    maps = (mean.sums["mean"] / mean.counts["mean"])[:, None]
    return output, AttentionStore([LayerAttention("mean", maps)], tokens)


def _parts(scheduler: Any, output: Tensor, sample: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """The image x₀ and the noise ε that a prediction means: sample = √ᾱ x₀ + √(1 − ᾱ) ε."""
    kind, signal, noise = scheduler.config.prediction_type, level.sqrt(), (1 - level).sqrt()
    if kind == "epsilon":
        return (sample - noise * output) / signal, output
    if kind == "sample":
        return output, (sample - signal * output) / noise
    return signal * sample - noise * output, signal * output + noise * sample


def _blurred(image: Tensor, noise: Tensor, level: Tensor, where: Tensor, kernel: int, sigma: float) -> Tensor:
    """The sample of the image blurred where the mask (batch, 1, rows, columns) is true, with the same noise."""
    places = torch.arange(kernel, dtype=image.dtype, device=image.device) - kernel // 2
    weights = torch.softmax(-(places**2) / (2 * sigma**2), 0)
    channels, edge = image.shape[1], kernel // 2
    padded = F.pad(image, (edge,) * 4, mode="reflect" if edge < min(image.shape[-2:]) else "replicate")
    rows = F.conv2d(padded, weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    soft = F.conv2d(rows, weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    inside = F.interpolate(where.float(), image.shape[-2:]).bool().to(image.device)
    return level.sqrt() * torch.where(inside, soft, image) + (1 - level).sqrt() * noise
