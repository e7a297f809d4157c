"""Pipelines that sample with a denoiser: the attention of a whole sampling or of one image, and guidance by it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, final, runtime_checkable

import torch
from torch import Tensor

from attnchain_interp.capture.capture import Adapter, adapters
from attnchain_interp.diffusion.guidance_mask import Importance
from attnchain_interp.errors import AttentionError
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.tokens import Grid

DiffusionKind = Literal["joint", "self", "cross"]
HeadWeights = Literal["mean", "lambda2", "inverse-lambda2"]

TIMESTEP: Final = 250  # that an image is noised to: one of the four of FLUX.1-schnell


@final
@dataclass
class SamplingAttention:
    """What `capture_pipeline` has gathered.

    Attributes:
        forwards: how many forwards of the denoiser were averaged.
        gathered: what adapters set when the context is left.
    """

    forwards: int = 0
    gathered: AttentionStore | None = None

    @property
    def store(self) -> AttentionStore:
        """The mean maps, as a store of one head; there once the context is left.

        Raises:
            AttentionError: the context has not been left, or the pipeline was not called in it.
        """
        if self.gathered is None:
            raise AttentionError("the mean is there when the with block is left; read `.store` after it.")
        return self.gathered


@runtime_checkable
class PipelineAdapter(Adapter, Protocol):
    """An adapter that reads pipelines too; others need not. What it is asked for has no defaults: these are the core's."""

    def recognises_pipeline(self, pipe: Any) -> bool:
        """Whether this pipeline has a denoiser of its framework."""
        ...

    def load_pipeline(self, name: str, **options: Any) -> Any:
        """The pretrained pipeline of this name, a hub's or a folder's; options are the framework's own (`torch_dtype`)."""
        ...

    def joins_text(self, pipe: Any) -> bool:
        """Whether text and image are one sequence in its denoiser; else the image attends to the text, or there is none."""
        ...

    def capture_pipeline(
        self,
        pipe: Any,
        *,
        kind: DiffusionKind | None,
        grid: Grid | None,
        layers: LayerSelection,
        steps: slice | Sequence[int],
        heads: HeadWeights,
        each_layer: bool,
        prompt: str | None,
    ) -> AbstractContextManager[SamplingAttention]:
        """As `capture_pipeline`."""
        ...

    def self_attention_guidance(
        self,
        pipe: Any,
        *,
        scale: float,
        importance: Importance,
        layers: LayerSelection,
        grid: Grid | None,
        kernel: int,
        sigma: float,
        generator: torch.Generator | None,
    ) -> AbstractContextManager[None]:
        """As `self_attention_guidance`."""
        ...

    def denoise_image(
        self,
        pipe: Any,
        image: Any,
        *,
        prompt: str | None,
        timestep: float,
        generator: torch.Generator | None,
        call: dict[str, Any],
    ) -> Tensor:
        """As `denoise_image`."""
        ...


def capture_pipeline(
    pipe: Any,
    kind: DiffusionKind | None = None,
    grid: Grid | None = None,
    layers: LayerSelection = "all",
    steps: slice | Sequence[int] = slice(None),
    heads: HeadWeights = "mean",
    each_layer: bool = False,
    prompt: str | None = None,
) -> AbstractContextManager[SamplingAttention]:
    """While open, adds up the attention of the denoiser of a pipeline; `.store` holds the mean afterwards.

    One map is held, however many steps, layers and heads there are (one for each layer with `each_layer`); one head's map is
    built at a time. The pipeline computes what it would, its processors are left alone, and every hook is removed, also when
    the call raises. Where classifier-free guidance puts both halves into one batch, the prompt's half is taken.

    Args:
        pipe: a pipeline that an adapter recognises: of diffusers, with a `transformer` or a `unet` that is known.
        kind, grid: which sequence, as in `capture` of the denoiser; needed where there are several.
        layers: of this sequence, as in `AttentionStore.select`.
        steps: which forwards of the denoiser, numbered from 0: a slice, or numbers from 0. (FLUX with a negative prompt makes
            two a step, the prompt's first: `slice(0, None, 2)`.)
        heads: "mean", or weighted within each layer by |λ₂| ("lambda2", "inverse-lambda2").
        each_layer: a mean for each layer, over heads and steps; else one over layers too.
        prompt: what the pipeline is called with, for labels of the text's tokens (`tokens_of_word`).

    Raises:
        AttentionError: no denoiser that is known, a sequence or layer that does not exist, a processor that shows no
            attention or attends twice, no forward in the block. Errors of the pipeline pass through unchanged.
    """
    return pipeline_adapter_of(pipe).capture_pipeline(
        pipe, kind=kind, grid=grid, layers=layers, steps=steps, heads=heads, each_layer=each_layer, prompt=prompt
    )


def self_attention_guidance(
    pipe: Any,
    scale: float = 0.75,
    importance: Importance = "token-rank",
    layers: LayerSelection = -1,
    grid: Grid | None = None,
    kernel: int = 9,
    sigma: float = 1.0,
    generator: torch.Generator | None = None,
) -> AbstractContextManager[None]:
    """While open, the UNet of a pipeline puts out o + s (o − õ): õ is what it says once the image is blurred where it attends.

    From its output o (ε, v or x₀, as its scheduler has it) follow the image x₀ that it expects and the noise; x₀ is blurred
    where a token is important, noised again with the same noise, and shown to it a second time. Two forwards a step. Where
    classifier-free guidance puts both halves into one batch, the difference is that of the half without prompt, added to
    both, as published.

    Args:
        pipe: a diffusers pipeline with a `unet` and a scheduler that has `alphas_cumprod`.
        scale: s; 0 leaves the output as it is.
        importance: which tokens are blurred, as in `important_tokens`.
        layers: of the self-attention on `grid`; their maps and heads are averaged. The last by default; published is the
            middle block ("mid_block.attentions.0").
        grid: (rows, columns) of the tokens, where the UNet attends on several.
        kernel, sigma: of the Gaussian blur, in latent pixels; kernel is odd.
        generator: of the random mask.

    Raises:
        AttentionError: no UNet, a scheduler or a kind of prediction that is not known, an importance or a kernel that is
            none; in a step, as `capture`. Errors of the pipeline pass through; the UNet is put back in any case.

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
    timestep: float = TIMESTEP,
    generator: torch.Generator | None = None,
    **call: Any,
) -> Tensor:
    """What the denoiser of a pipeline predicts of an image that is given and noised: one forward, to be captured.

    The image goes through the pipeline's VAE where it has one, is noised as its scheduler does (flow matching, or diffusion
    by ᾱ), and is denoised for one step by the pipeline's own call, prompt encoding included, without classifier-free guidance.

    Args:
        pipe: as in `capture_pipeline`; with a prompt, a pipeline from text to image.
        image: a PIL image or a list of them, or (batch, channel, height, width) between 0 and 1. The pipeline's image
            processor makes it a multiple of the size of its latents, and nothing else of it.
        prompt: of all images; None calls the denoiser without text.
        timestep: of the scheduler's training timesteps, mostly 1,000: 0 is the image as it is, the last one noise.
        generator: of the noise.
        call: what else the pipeline, or without a prompt the denoiser, is called with (`max_sequence_length=256`).

    Raises:
        AttentionError: no pipeline that is known, or from something else than text; a scheduler that is not known, a timestep
            out of range, an image that is none. Errors of the pipeline pass through unchanged.
    """
    return pipeline_adapter_of(pipe).denoise_image(
        pipe, image, prompt=prompt, timestep=timestep, generator=generator, call=call
    )


def pipeline_adapter_of(pipe: Any) -> PipelineAdapter:
    """The adapter that recognises a pipeline.

    Raises:
        AttentionError: none does.
    """
    for _, adapter in adapters():
        if isinstance(adapter, PipelineAdapter) and adapter.recognises_pipeline(pipe):
            return adapter
    raise AttentionError(
        f"{type(pipe).__name__} is no pipeline that is known: of diffusers, those with a `transformer` or a `unet` are."
        " Capture its denoiser by itself: capture(denoiser, …)."
    )
