"""Pipelines built tiny from their configurations, with tokenizers of a few words: nothing is loaded."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

diffusers: Any = import_module("diffusers")  # its lazy names are not seen by a type checker

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "a", "photo", "of", "cor", "##gi", "hat", "blue", "with", "tench", "dog"]
LENGTH = 12


def tokenizer() -> Any:
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    inner = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    ends = [("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])]
    inner.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)  # type: ignore[assignment]
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=LENGTH, **special)


def clip(projected: bool = False) -> Any:
    config = CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=32,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        max_position_embeddings=LENGTH,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def autoencoder(channels: int) -> Any:
    options: dict[str, Any] = {"block_out_channels": (4, 4), "norm_num_groups": 2, "latent_channels": channels}
    blocks: dict[str, Any] = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return diffusers.AutoencoderKL(**options, **blocks, shift_factor=0.1, scaling_factor=0.7).eval()


def unet(**options: Any) -> Any:
    sizes: dict[str, Any] = {"block_out_channels": (8, 16), "layers_per_block": 1, "sample_size": 16, "norm_num_groups": 4}
    blocks: dict[str, Any] = {
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    }
    return diffusers.UNet2DConditionModel(
        **{**sizes, **blocks, "cross_attention_dim": 32, "attention_head_dim": 2, **options}
    ).eval()


def flux_transformer(**options: Any) -> Any:
    sizes: dict[str, Any] = {"num_layers": 1, "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 3}
    widths: dict[str, Any] = {"joint_attention_dim": 32, "pooled_projection_dim": 32, "axes_dims_rope": (4, 4, 8)}
    return diffusers.FluxTransformer2DModel(**{"patch_size": 1, "in_channels": 4, **sizes, **widths, **options}).eval()


def flux() -> Any:
    torch.manual_seed(0)
    t5 = T5Config(vocab_size=len(WORDS), d_model=32, d_ff=37, d_kv=8, num_layers=1, num_heads=4)
    pipe = diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(1),
        text_encoder=clip(),
        tokenizer=tokenizer(),
        text_encoder_2=T5EncoderModel(t5).eval(),
        tokenizer_2=tokenizer(),
        transformer=flux_transformer(),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stable_diffusion() -> Any:
    torch.manual_seed(0)
    pipe = diffusers.StableDiffusionPipeline(
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        vae=autoencoder(4),
        text_encoder=clip(),
        tokenizer=tokenizer(),
        unet=unet(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stable_diffusion_xl() -> Any:
    torch.manual_seed(0)
    conditions: dict[str, Any] = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 80,
        "cross_attention_dim": 64,
    }
    pipe = diffusers.StableDiffusionXLPipeline(
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        vae=autoencoder(4),
        text_encoder=clip(),
        tokenizer=tokenizer(),
        text_encoder_2=clip(projected=True),
        tokenizer_2=tokenizer(),
        unet=unet(**conditions),
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stable_diffusion_3() -> Any:
    torch.manual_seed(0)
    t5 = T5Config(vocab_size=len(WORDS), d_model=64, d_ff=37, d_kv=8, num_layers=1, num_heads=4)
    widths: dict[str, Any] = {"joint_attention_dim": 64, "caption_projection_dim": 24, "pooled_projection_dim": 64}
    blocks: dict[str, Any] = {"num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 3, "in_channels": 4}
    pipe = diffusers.StableDiffusion3Pipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(4),
        text_encoder=clip(projected=True),
        tokenizer=tokenizer(),
        text_encoder_2=clip(projected=True),
        tokenizer_2=tokenizer(),
        text_encoder_3=T5EncoderModel(t5).eval(),
        tokenizer_3=tokenizer(),
        transformer=diffusers.SD3Transformer2DModel(sample_size=8, patch_size=2, out_channels=4, **widths, **blocks).eval(),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pixart() -> Any:
    torch.manual_seed(0)
    t5 = T5Config(vocab_size=len(WORDS), d_model=32, d_ff=37, d_kv=8, num_layers=1, num_heads=4)
    widths: dict[str, Any] = {"caption_channels": 32, "cross_attention_dim": 24, "in_channels": 4, "out_channels": 8}
    blocks: dict[str, Any] = {"num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 3}
    pipe = diffusers.PixArtSigmaPipeline(
        scheduler=diffusers.DPMSolverMultistepScheduler(),
        vae=autoencoder(4),
        text_encoder=T5EncoderModel(t5).eval(),
        tokenizer=tokenizer(),
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=8, patch_size=2, use_additional_conditions=False, **widths, **blocks
        ).eval(),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
