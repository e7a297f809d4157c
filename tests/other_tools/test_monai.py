"""MONAI: blocks, vision transformers of planes and volumes, and networks for segmentation."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac

from .contract import captured, fused, image, outputs_of, refused

pytest.importorskip("monai", reason="monai is not installed")

NAME = "monai"
TOKENS = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0))
PLANES = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
VOLUMES = torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
SHAPE: dict[str, Any] = {"hidden_size": 32, "mlp_dim": 64, "num_layers": 2, "num_heads": 2}
WEIGHTS = outputs_of("drop_weights")  # the dropout of the maps


def built(module: str, name: str, **shape: Any) -> Any:
    torch.manual_seed(0)
    return getattr(import_module(f"monai.networks.{module}"), name)(**shape)


@pytest.mark.parametrize(
    ("options", "spy", "kind"),
    [
        ({}, WEIGHTS, "encoder"),
        ({"causal": True, "sequence_length": 16}, WEIGHTS, "decoder"),
        ({"use_flash_attention": True}, fused, "encoder"),
        ({"rel_pos_embedding": "decomposed", "input_size": (3, 3)}, WEIGHTS, "encoder"),
        ({"use_combined_linear": False}, WEIGHTS, "encoder"),
    ],
)
def test_self_attention(options: dict[str, Any], spy: Any, kind: str) -> None:
    block = built("blocks.selfattention", "SABlock", hidden_size=32, num_heads=2, **options)
    assert captured(NAME, block, TOKENS, spy=spy, target=(2, 1)).metadata["kind"] == kind


@pytest.mark.parametrize("flash", [False, True])
@pytest.mark.parametrize("tokens", [6, 9])
def test_cross_attention(tokens: int, flash: bool) -> None:
    shape: dict[str, Any] = {"hidden_size": 32, "num_heads": 2, "dropout_rate": 0.0, "use_flash_attention": flash}
    block, context = built("blocks.crossattention", "CrossAttentionBlock", **shape), torch.randn(2, tokens, 32)
    reading = ac.Reading(kind="cross")
    captured(NAME, block, TOKENS, spy=fused if flash else WEIGHTS, reading=reading, attribute=False, context=context)
    if tokens == 9:
        refused(NAME, '(?s)given two sequences of as many tokens.*kind="cross"', block, TOKENS, context=context)


def first(output: Any) -> Tensor:
    return output[0][:, 0]


@pytest.mark.parametrize("save_attn", [False, True])
def test_planes(save_attn: bool) -> None:
    shape = SHAPE | {"in_channels": 1, "img_size": (32, 32), "patch_size": (8, 8), "spatial_dims": 2, "num_classes": 3}
    vit = built("nets.vit", "ViT", **shape, classification=True, save_attn=save_attn)
    captured(NAME, vit, PLANES, spy=WEIGHTS, target=first, reading=image(4, 4))
    refused(NAME, r"(?s)17 tokens.*grid=\(4, 4\), class_token=True", vit, PLANES)


def test_volumes() -> None:
    shape = SHAPE | {"in_channels": 1, "img_size": (16, 16, 16), "patch_size": (8, 8, 8), "num_classes": 3}
    vit = built("nets.vit", "ViT", **shape, classification=True)
    refused(NAME, r"(?s)an image \(2, 1, 16, 16, 16\), .* 9 tokens .*roles \(1, 9\)\.$", vit, VOLUMES)
    roles = torch.tensor([[ac.Role.CLASS] + [ac.Role.PATCH] * 8])
    captured(NAME, vit, VOLUMES, spy=WEIGHTS, target=first, reading=ac.Reading(tokens=ac.TokenLayout(roles)))


def test_an_encoder_inside_a_network_for_segmentation() -> None:
    shape: dict[str, Any] = {"hidden_size": 24, "mlp_dim": 32, "num_heads": 2, "feature_size": 4}
    unetr = built("nets.unetr", "UNETR", in_channels=1, out_channels=2, img_size=(32, 32, 32), **shape)
    reading = ac.Reading(tokens=ac.TokenLayout(torch.full((1, 8), int(ac.Role.PATCH))))
    volume = torch.rand(1, 1, 32, 32, 32)
    store = ac.capture(unetr.eval(), volume, reading=reading)
    with WEIGHTS(unetr) as seen:
        unetr(volume)
    assert store.names == [f"vit.blocks.{k}.attn" for k in range(12)]
    assert torch.allclose(store.maps(), torch.stack(seen, 1).detach(), atol=1e-5)


def test_an_autoencoder() -> None:
    shape = SHAPE | {"in_channels": 1, "img_size": (32, 32), "patch_size": (4, 4), "spatial_dims": 2}
    model = built("nets.vitautoenc", "ViTAutoEnc", **shape)
    captured(NAME, model, PLANES, spy=WEIGHTS, target=lambda output: output[0][:, 0, 0, 0], reading=image(8, 8, False))


def test_windows() -> None:
    shape: dict[str, Any] = {"in_channels": 1, "out_channels": 2, "feature_size": 12, "spatial_dims": 2, "window_size": 4}
    swin = built("nets.swin_unetr", "SwinUNETR", depths=(1, 1, 1, 1), num_heads=(2, 2, 2, 2), **shape)
    planes = torch.rand(1, 1, 64, 64)
    refused(NAME, r"(?s)swinViT.layers1.0.blocks.0.attn \(16 tokens, in a batch of 64\).*swinViT.layers4", swin, planes)
    message = r"(?s)swinViT.layers1.0.blocks.0.attn' attends within a batch of 64.*windows or frames"
    refused(NAME, message, swin, planes, reading=image(4, 4, False, tower="swinViT.layers1"))


def test_attention_over_channels() -> None:
    shape: dict[str, Any] = {"dim": 8, "num_blocks": (1, 1), "heads": (2, 2), "num_refinement_blocks": 1}
    model = built("nets.restormer", "Restormer", spatial_dims=2, in_channels=1, out_channels=1, **shape)
    refused(NAME, r"encoder_levels.0.0.attn \(CABlock\) .*it mixes 4 channels", model, PLANES)


def test_a_masked_autoencoder_and_a_denoiser_have_several_sequences() -> None:
    decoder = {"decoder_hidden_size": 32, "decoder_num_layers": 1, "decoder_num_heads": 2, "decoder_mlp_dim": 32}
    shape = SHAPE | decoder | {"in_channels": 1, "img_size": (32, 32), "patch_size": (8, 8), "spatial_dims": 2}
    model = built("nets.masked_autoencoder_vit", "MaskedAutoEncoderViT", **shape, masking_ratio=0.5)
    refused(NAME, r'(?s)blocks.0.attn.*9 tokens, sorted.*decoder_blocks.0.attn \(17 tokens.*tower="blocks"', model, PLANES)
    levels: dict[str, Any] = {"channels": (8, 8), "attention_levels": (False, True), "num_head_channels": 8}
    shape = levels | {"num_res_blocks": 1, "norm_num_groups": 4, "with_conditioning": True, "cross_attention_dim": 6}
    denoiser = built("nets.diffusion_model_unet", "DiffusionModelUNet", spatial_dims=2, in_channels=1, out_channels=1, **shape)
    given = (PLANES[..., :16, :16], torch.tensor([3, 3]), torch.randn(2, 5, 6))
    refused(NAME, r"(?s)down_blocks.1.attentions.0.transformer_blocks.0.attn1 \(64 tokens\)", denoiser, *given)
