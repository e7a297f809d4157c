"""Computes the memory of pipelines with real weights from their published configurations; nothing is loaded.

`python -m studies.diffusion_memory` builds them on the meta device, and prints the table of docs/diffusion.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Final, final

import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from attnchain_adapters.diffusers_models.sequences import TokenSequence, attention_modules, sequences_of
from attnchain_evals.bench.tables import table
from attnchain_interp.store.tokens import Grid

diffusers: Any = import_module("diffusers")  # its lazy names are not seen by a type checker


@final
@dataclass(frozen=True)
class Published:
    """A pipeline as it was published.

    Attributes:
        name: on the hub.
        pixels: the side of the square images.
        text: the number of text tokens that the image attends to.
        grid: of the concept map.
        denoiser: builds the denoiser.
        others: build the text encoders and the VAE.
    """

    name: str
    pixels: int
    text: int
    grid: Grid
    denoiser: Callable[[], Any]
    others: list[Callable[[], Any]]


@cache
def vae(channels: int) -> Callable[[], Any]:
    blocks: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
    }
    return lambda: diffusers.AutoencoderKL(**blocks, layers_per_block=2, latent_channels=channels)


@cache
def clip(width: int, layers: int, heads: int, projected: bool = False) -> Callable[[], Any]:
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        projection_dim=width,
    )
    return lambda: (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def t5() -> Any:
    sizes: dict[str, Any] = {"d_model": 4096, "d_ff": 10240, "d_kv": 64, "num_heads": 64, "num_layers": 24}
    return T5EncoderModel(T5Config(**sizes, feed_forward_proj="gated-gelu"))


def unet(**options: Any) -> Callable[[], Any]:
    return lambda: diffusers.UNet2DConditionModel(**options)


XL: Final[dict[str, Any]] = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD3: Final[dict[str, Any]] = {"sample_size": 128, "num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536}
PIXART: Final[dict[str, Any]] = {
    "num_attention_heads": 16,
    "num_layers": 28,
    "sample_size": 128,
    "caption_channels": 4096,
    "out_channels": 8,
    "use_additional_conditions": False,
}
L, H, G = clip(768, 12, 12), clip(1024, 23, 16), clip(1280, 32, 20, projected=True)
PIPELINES: Final = (
    Published(
        "black-forest-labs/FLUX.1-schnell",
        1024,
        256,
        (64, 64),
        lambda: diffusers.FluxTransformer2DModel(),
        [L, t5, vae(16)],
    ),
    Published(
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        512,
        77,
        (16, 16),
        unet(cross_attention_dim=768, attention_head_dim=8),
        [L, vae(4)],
    ),
    Published(
        "stabilityai/stable-diffusion-2-1",
        768,
        77,
        (24, 24),
        unet(cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True),
        [H, vae(4)],
    ),
    Published("stabilityai/stable-diffusion-xl-base-1.0", 1024, 77, (32, 32), unet(**XL), [L, G, vae(4)]),
    Published(
        "stabilityai/stable-diffusion-3-medium-diffusers",
        1024,
        77 + 256,
        (64, 64),
        lambda: diffusers.SD3Transformer2DModel(**SD3, joint_attention_dim=4096, pos_embed_max_size=192),
        [clip(768, 12, 12, projected=True), G, t5, vae(16)],
    ),
    Published(
        "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
        1024,
        300,
        (64, 64),
        lambda: diffusers.PixArtTransformer2DModel(**PIXART),
        [t5, vae(4)],
    ),
)


@cache
def built(build: Callable[[], Any]) -> Any:
    """Returns the model without weights."""
    with torch.device("meta"):
        return build()


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def sequences(denoiser: Any, pixels: int) -> list[TokenSequence]:
    """Returns the sequences of one forward on a square image."""
    side = pixels // 8
    if type(denoiser).__name__ == "FluxTransformer2DModel":
        rows, columns = torch.meshgrid(torch.arange(side // 2), torch.arange(side // 2), indexing="ij")
        return sequences_of(denoiser, {"img_ids": torch.stack([rows * 0, rows, columns], -1).flatten(0, 1)})
    latents = torch.empty(1, 4, side, side, device="meta")
    return sequences_of(denoiser, {"sample": latents, "hidden_states": latents})


def map_bytes(sequence: TokenSequence, text: int) -> int:
    """Returns the bytes of one head's map in float32."""
    image = sequence.grid[0] * sequence.grid[1]
    return 4 * {"self": image * image, "cross": image * text, "joint": (image + text) ** 2}[sequence.kind]


def row(of: Published) -> list[str]:
    denoiser, others = built(of.denoiser), [built(build) for build in of.others]
    heads = {name: module.heads for name, module in attention_modules(denoiser).items()}
    found = sequences(denoiser, of.pixels)
    every = sum(map_bytes(sequence, of.text) * sum(heads[name] for name in sequence.layers) for sequence in found)
    held = sum(map_bytes(sequence, of.text) for sequence in found if sequence.grid == of.grid)
    weights = [2 * parameters(denoiser), 2 * sum(parameters(other) for other in others)]
    tokens = f"{of.grid[0]} × {of.grid[1]}"
    return [
        of.name,
        str(of.pixels),
        *(f"{size / 1e9:.1f} GB" for size in weights),
        f"{every / 1e9:.1f} GB",
        tokens,
        f"{held / 1e6:.1f} MB",
    ]


def memory_table() -> str:
    head = ["pipeline", "pixels", "denoiser, 16 bit", "encoders and VAE, 16 bit", "maps of one forward", "grid", "means held"]
    return table(head, [row(of) for of in PIPELINES])


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(memory_table())
