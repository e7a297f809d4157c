"""Diffusion pipelines: the attention of a whole sampling or of one image, and guidance by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, final, get_args, runtime_checkable

import torch
from torch import Tensor

from attnchain_interp.capture import Adapter, adapters
from attnchain_interp.chain import stationary
from attnchain_interp.checks import check_one_of
from attnchain_interp.errors import AttentionError
from attnchain_interp.store import AttentionStore, Grid, LayerSelection
from attnchain_interp.store.starts import EVERYWHERE_DAMPING

Importance = Literal["token-rank", "column-sum", "random"]
SequenceKind = Literal["joint", "self", "cross"]
HeadWeighting = Literal["mean", "lambda2", "inverse-lambda2"]

TIMESTEP: Final = 250  # that an image is noised to: one of the four of FLUX.1-schnell


def important_tokens(store: AttentionStore, importance: Importance, generator: torch.Generator | None = None) -> Tensor:
    """Returns (batch, token) bool: the tokens of an image that receive more attention than the average token.

    - "column-sum": tokens that receive more than the attention of one token, Σ_i A_ij > 1, as published for self-attention
      guidance.
    - "token-rank": tokens with more than the uniform share of the stationary distribution (damping 0.99), N π_j > 1.
    - "random": as many tokens as "token-rank" selects, at random places: the control.

    Args:
        store: attention of the image to itself; layers and heads are averaged.
        importance: one of the three.
        generator: draws the random tokens.

    Raises:
        AttentionError: another importance.

    Source: Hong et al., ICCV 2023 (column sum); Erel et al., NeurIPS 2025 (TokenRank).
    """
    check_one_of("importance", importance, get_args(Importance))
    chain = store.chain(tokens="all")
    if importance == "column-sum":
        return chain.step(torch.ones_like(chain.uniform)) > 1
    rank = len(chain) * stationary(chain, damping=EVERYWHERE_DAMPING) > 1
    if importance == "token-rank":
        return rank
    order = (
        torch.rand(rank.shape, generator=generator, dtype=torch.float32, device="cpu").argsort(1).argsort(1).to(rank.device)
    )
    return order < rank.sum(1, keepdim=True)


@final
@dataclass(eq=False)
class SamplingAttention:
    """The mean attention of a sampling; `capture_pipeline` gathers it.

    Attributes:
        forwards: how many forwards of the denoiser were averaged.
        gathered: the mean. The adapter sets it when the context is left.
    """

    forwards: int = 0
    gathered: AttentionStore | None = None

    @property
    def store(self) -> AttentionStore:
        """The mean maps, as a store with one head.

        Raises:
            AttentionError: the context has not been left, or the pipeline was not called in it.
        """
        if self.gathered is None:
            raise AttentionError("the mean is there when the with block is left.", "Read `.store` after the block.")
        return self.gathered


@runtime_checkable
class PipelineAdapter(Adapter, Protocol):
    """An adapter that also reads pipelines.

    Attributes:
        capture_pipeline: the function `capture_pipeline` for pipelines of this framework.
        self_attention_guidance: the function `self_attention_guidance` for them.
        denoise_image: the function `denoise_image` for them; further arguments of the pipeline come as one dict, `call`.

    The three get every argument of the function of their name, the pipeline (and the image) by position, the others by
    keyword. Defaults stand in those functions alone.
    """

    capture_pipeline: Callable[..., AbstractContextManager[SamplingAttention]]
    self_attention_guidance: Callable[..., AbstractContextManager[None]]
    denoise_image: Callable[..., Tensor]

    def recognises_pipeline(self, pipe: Any) -> bool:
        """Returns whether this pipeline has a denoiser of the framework."""
        ...

    def load_pipeline(self, name: str, **options: Any) -> Any:
        """Returns the pretrained pipeline of this name, from a hub or a folder. `options` are the framework's."""
        ...

    def joins_text(self, pipe: Any) -> bool:
        """Returns whether text and image are one sequence in the denoiser of this pipeline."""
        ...


def capture_pipeline(
    pipe: Any,
    kind: SequenceKind | None = None,
    *,
    grid: Grid | None = None,
    layers: LayerSelection = "all",
    steps: slice | Sequence[int] = slice(None),
    heads: HeadWeighting = "mean",
    each_layer: bool = False,
    prompt: str | Sequence[str] | None = None,
) -> AbstractContextManager[SamplingAttention]:
    """Captures the mean attention of a pipeline's denoiser while the context is open; `.store` holds it afterwards.

    One map is held, however many steps, layers and heads there are (one for each layer with `each_layer`). One head's map is
    built at a time. The pipeline computes the same as without capture, its processors are left alone, and every hook is
    removed, also when the call raises. Where guidance denoises each image several times in one batch (classifier-free,
    InstructPix2Pix, perturbed attention), the part that reads the prompt is taken. A compiled denoiser runs uncompiled.

    Args:
        pipe: a pipeline that an adapter recognises: of diffusers, with a `transformer` or a `unet` that is known.
        kind: which sequence: "joint" (text and image in one), "self" (the image alone) or "cross" (from the image to the
            text). Needed where the denoiser has several.
        grid: (rows, columns) of the image's tokens. Needed where a UNet has several grids.
        layers: layers of this sequence: see `AttentionStore.select`.
        steps: which forwards of the denoiser, numbered from 0: a slice, or numbers. (FLUX with a negative prompt makes two
            forwards a step, the prompt's first: `slice(0, None, 2)`.)
        heads: "mean", or weighted within each layer by |λ₂| ("lambda2", "inverse-lambda2").
        each_layer: keep a mean for each layer, over heads and steps, instead of one mean over layers too.
        prompt: the prompt of the call, or the list of its prompts, for the labels of the text's tokens (`tokens_of_word`).

    Raises:
        AttentionError: a denoiser that is not known, a sequence or layer that does not exist, a processor
            that shows no attention or attends twice, a forward that skips layers, forwards that read different texts, a batch
            of which no part is known to read the prompt, a prompt with another number of tokens than the call's, no forward
            in the block. (Another prompt of as many tokens is not told from that of the call.) Errors of the pipeline pass
            through unchanged.
    """
    return pipeline_adapter_of(pipe).capture_pipeline(
        pipe, kind=kind, grid=grid, layers=layers, steps=steps, heads=heads, each_layer=each_layer, prompt=prompt
    )


def self_attention_guidance(
    pipe: Any,
    scale: float = 0.75,
    *,
    importance: Importance = "token-rank",
    layers: LayerSelection = -1,
    grid: Grid | None = None,
    kernel: int = 9,
    sigma: float = 1.0,
    generator: torch.Generator | None = None,
) -> AbstractContextManager[None]:
    """Guides a sampling away from blurred images: while the context is open, the UNet outputs o + s (o − õ).

    The output o of the UNet (ε, v or x₀, by the scheduler) gives the expected image x₀ and the noise. The image x₀ is blurred
    where a token is important and noised again with the same noise; õ is the output of the UNet for it. A step takes two
    forwards. Where classifier-free guidance has both halves in one batch, the difference o − õ of the half without prompt is
    added to both halves, as published.

    Args:
        pipe: a diffusers pipeline with a `unet` and a scheduler that has `alphas_cumprod`.
        scale: s; 0 leaves the output unchanged.
        importance: which tokens are blurred: see `important_tokens`.
        layers: layers of the self-attention on `grid`; their maps and heads are averaged. The last layer is the default; the
            middle block is published ("mid_block.attentions.0").
        grid: (rows, columns) of the tokens. Needed where the UNet attends on several grids.
        kernel, sigma: size and width of the Gaussian blur, in latent pixels; kernel is odd.
        generator: draws the random mask.

    Raises:
        AttentionError: no UNet, an unknown scheduler, kind of prediction or importance, or an even kernel; in a step, guidance
            of three parts, a UNet that is given more than it predicts, or as `capture`. Errors of the pipeline pass through;
            the UNet is restored in any case.

    Source: Hong, Lee, Jang & Kim, *Improving Sample Quality of Diffusion Models Using Self-Attention Guidance*, ICCV 2023;
    with TokenRank: Erel et al., *Attention (as Discrete-Time Markov) Chains*, NeurIPS 2025.
    """
    return pipeline_adapter_of(pipe).self_attention_guidance(
        pipe, scale=scale, importance=importance, layers=layers, grid=grid, kernel=kernel, sigma=sigma, generator=generator
    )


def denoise_image(
    pipe: Any,
    image: Any,
    prompt: str | None = None,
    *,
    timestep: float = TIMESTEP,
    generator: torch.Generator | None = None,
    **call: Any,
) -> Tensor:
    """Returns the prediction of a pipeline's denoiser for a noised image: one forward, which can be captured.

    The image goes through the pipeline's VAE where there is one, is noised as the scheduler does (flow matching, or diffusion
    by ᾱ), and is denoised for one step by the pipeline's own call with its prompt encoding, without classifier-free guidance.

    Args:
        pipe: see `capture_pipeline`; with a prompt, a pipeline from text to image.
        image: a PIL image, a list of PIL images, or (batch, channel, height, width) between 0 and 1. The pipeline's image
            processor rounds its size to a multiple of the latents' and changes nothing else.
        prompt: of all images; None calls the denoiser without text.
        timestep: among the scheduler's training timesteps, mostly 1,000: 0 is the image itself, the last one is noise.
        generator: draws the noise.
        call: further arguments of the pipeline, or without a prompt of the denoiser (`max_sequence_length=256`).

    Raises:
        AttentionError: an unknown pipeline, or one that does not start from text; an unknown scheduler; a timestep out of
            range; an image that cannot be read. Errors of the pipeline pass through unchanged.
    """
    return pipeline_adapter_of(pipe).denoise_image(
        pipe, image, prompt=prompt, timestep=timestep, generator=generator, call=call
    )


def pipeline_adapter_of(pipe: Any) -> PipelineAdapter:
    """Returns the adapter that recognises a pipeline."""
    for _, adapter in adapters():
        if isinstance(adapter, PipelineAdapter) and adapter.recognises_pipeline(pipe):
            return adapter
    raise AttentionError(
        f"{type(pipe).__name__} is not a pipeline that is known; pipelines of diffusers with a `transformer` or a `unet` are.",
        "Capture its denoiser by itself: capture(denoiser, …).",
    )
