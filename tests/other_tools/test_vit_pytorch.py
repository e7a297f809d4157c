"""vit-pytorch: its vision transformers, read by what they compute."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac

from .contract import TEXT, captured, fused, image, outputs_of, refused

pytest.importorskip("vit_pytorch", reason="vit-pytorch is not installed")

NAME = "vit-pytorch"
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SIZES: dict[str, Any] = {"dim": 32, "depth": 2, "heads": 2, "mlp_dim": 64}
SHAPE: dict[str, Any] = {"image_size": 32, "patch_size": 8, "num_classes": 5} | SIZES
ATTEND, SOFTMAX = outputs_of("attend"), outputs_of(nn.Softmax)


def built(module: str, name: str, **shape: Any) -> Any:
    torch.manual_seed(0)
    return getattr(import_module(f"vit_pytorch.{module}"), name)(**shape)


@pytest.mark.parametrize(
    ("module", "name", "options", "reading", "spy"),
    [
        ("vit", "ViT", {}, image(4, 4), ATTEND),
        ("vit", "ViT", {"pool": "mean"}, image(4, 4, False), ATTEND),
        ("simple_vit", "SimpleViT", {}, image(4, 4, False), ATTEND),
        ("simple_flash_attn_vit", "SimpleViT", {"use_flash": True}, image(4, 4, False), fused),
        ("simple_vit_with_register_tokens", "SimpleViT", {}, image(4, 4, False, 4), ATTEND),
        ("simple_vit_with_hyper_connections", "SimpleViT", {"num_residual_streams": 2}, image(4, 4, False, 4), ATTEND),
        ("simple_vit_with_qk_norm", "SimpleViT", {}, image(4, 4, False), ATTEND),
        ("simple_vit_with_value_residual", "SimpleViT", {}, image(4, 4, False), ATTEND),
        ("simple_vit_with_patch_dropout", "SimpleViT", {}, image(4, 4, False), ATTEND),
        ("distill", "DistillableViT", {}, image(4, 4), ATTEND),
        ("parallel_vit", "ViT", {"num_parallel_branches": 2}, image(4, 4), ATTEND),
        ("vit_for_small_dataset", "ViT", {}, image(4, 4), ATTEND),
        ("vit_with_patch_dropout", "ViT", {}, image(4, 4), ATTEND),
        ("vit_with_keel_post_ln", "ViT", {}, image(4, 4), ATTEND),
        ("rvt", "RvT", {}, image(4, 4), ATTEND),
        ("normalized_vit", "nViT", {}, image(4, 4, False), fused),
    ],
)
def test_a_model(module: str, name: str, options: dict[str, Any], reading: ac.Reading, spy: Any) -> None:
    captured(NAME, built(module, name, **SHAPE, **options), IMAGES, spy=spy, reading=reading)


def test_one_that_is_taught_with_a_further_token() -> None:
    wrapper = import_module("vit_pytorch.distill").DistillWrapper
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))
    model = wrapper(student=built("distill", "DistillableViT", **SHAPE), teacher=teacher)
    labels, reading = torch.tensor([1, 2]), image(4, 4, registers=1)
    store = captured(NAME, model, IMAGES, labels, spy=ATTEND, reading=reading, attribute=False)
    assert store.names[0] == "student.transformer.layers.0.0"
    fix = r"prefix=\[ac.Role.CLASS, ac.Role.REGISTER\]\)\), if the 2 other tokens come first"
    refused(NAME, f"(?s)where the 18 tokens of .*{fix}", model, IMAGES, labels)


def test_sequences_and_volumes() -> None:
    series: dict[str, Any] = {**SHAPE, "seq_len": 32}
    del series["image_size"]
    model = built("vit_1d", "ViT", **series)
    captured(NAME, model, torch.rand(2, 3, 32), spy=ATTEND, reading=TEXT)
    refused(NAME, r"(?s)given \(2, 3, 32\), .*5 tokens.*all are text: ac.TokenLayout.text", model, torch.rand(2, 3, 32))
    volume: dict[str, Any] = {**SHAPE, "frames": 4, "frame_patch_size": 2, "image_patch_size": 8}
    del volume["patch_size"]
    model, video = built("vit_3d", "ViT", **volume), torch.rand(2, 3, 4, 32, 32)
    roles = torch.tensor([[ac.Role.CLASS] + [ac.Role.PATCH] * 32])
    captured(NAME, model, video, spy=ATTEND, reading=ac.Reading(tokens=ac.TokenLayout(roles)))
    refused(NAME, r"(?s)33 tokens of layer 'transformer.layers.0.0' lie.*roles \(1, 33\)", model, video)


def test_images_of_several_sizes() -> None:
    given = [torch.rand(3, 32, 32), torch.rand(3, 16, 32)]
    model = built("na_vit", "NaViT", **SHAPE)
    refused(NAME, r"(?s)an image \(1, 3, 32, 32\), \(1, 3, 16, 32\), .*24 tokens", model, given)
    with fused(model) as seen:
        model.eval()(given)
    store = ac.capture(model, given, reading=TEXT)
    assert store.unread == ("attn_pool",)
    assert torch.allclose(store.maps(), torch.stack([maps.detach() for maps in seen[:2]], 1), atol=1e-5)
    assert not store.maps()[..., :16, 16:].any(), "no image attends to another"
    nested = built("na_vit_nested_tensor", "NaViT", **SHAPE, dim_head=16)
    refused(NAME, "(?s)transformer.layers.0.0 .* nested in one tensor.*from_maps", nested, given)


SCALES: dict[str, Any] = {
    f"{size}_{name}": value for size in ("sm", "lg") for name, value in {"dim": 32, "enc_depth": 2}.items()
}
CROSS: dict[str, Any] = {"sm_patch_size": 8, "lg_patch_size": 16, "depth": 1, "cross_attn_depth": 1} | SCALES


def test_two_scales() -> None:
    model = built("cross_vit", "CrossViT", image_size=32, num_classes=5, **CROSS)
    first = "multi_scale_encoder.layers.0.0.layers"
    names = rf"\['{first}.0.0', '{first}.1.0'\]"
    refused(NAME, rf"(?s)several sequences: {first}.*17 tokens.*5 tokens.*layers={names}", model, IMAGES)
    large = {"spy": lambda model: ATTEND(model.multi_scale_encoder.layers[0][1]), "attribute": True}
    captured(NAME, model, IMAGES, reading=image(2, 2, tower="multi_scale_encoder.layers.0.1"), **large)
    refused(NAME, "(?s)1 queries × 5 keys.*1 queries × 17 keys", model, IMAGES, reading=ac.Reading(kind="cross"))


@pytest.mark.parametrize(
    ("module", "name", "options", "message"),
    [
        ("deepvit", "DeepViT", {}, "layer 'transformer.layers.0.0' has negative entries"),
        ("cait", "CaiT", {"cls_depth": 1}, "layer 'patch_transformer.layers.0.0.fn' has negative entries"),
        ("xcit", "XCiT", {"cls_depth": 1}, r"(?s)layers.0.0.fn \(XCAttention\).* 64 channels"),
        ("vit_with_patch_merger", "ViT", {"patch_merge_layer": 1, "patch_merge_num_tokens": 4}, "16 tokens.*4 tokens"),
        ("pit", "PiT", {"depth": (1, 1)}, r"(?s)layers.0.layers.0.0 .50 tokens.*layers.2.layers.0.0 .17 tokens"),
        (
            "nest",
            "NesT",
            {"num_hierarchies": 2, "block_repeats": (1, 1), "patch_size": 4},
            r"in a batch of 8.*in a batch of 2",
        ),
    ],
)
def test_what_is_no_chain_of_the_patches(module: str, name: str, options: dict[str, Any], message: str) -> None:
    shape = SHAPE | options
    if module == "nest":
        del shape["mlp_dim"], shape["depth"]
    refused(NAME, message, built(module, name, **shape), IMAGES, reading=image(4, 4, class_token=module != "cait"))


def test_windows() -> None:
    shape: dict[str, Any] = {"num_classes": 5, "dim_conv_stem": 16, "dim": 16, "dim_head": 8, "window_size": 4}
    model = built("max_vit", "MaxViT", depth=(1, 1), **shape)
    refused(NAME, r"layers.0.2.fn.* in a batch of 8\); layers.1.2.fn.* in a batch of 2", model, IMAGES)
    one = {"layers": ["layers.0.2.fn"], "reading": image(4, 4, False)}
    refused(NAME, r"(?s)layer 'layers.0.2.fn' .*windows or frames are folded into the batch.*of batch 8", model, IMAGES, **one)
    whole: Tensor = IMAGES[..., :16, :16]  # one window
    model = built("max_vit", "MaxViT", depth=(1,), **shape)
    captured(NAME, model, whole, spy=SOFTMAX, reading=image(4, 4, False))
