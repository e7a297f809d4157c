"""Segment Anything: its image encoder attends within windows, and globally in some blocks."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac

from .contract import Spy, captured, image, refused

modeling: Any = pytest.importorskip("segment_anything.modeling", reason="segment-anything is not installed")

NAME = "segment-anything"
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
GLOBAL = ["blocks.1.attn", "blocks.3.attn"]


def encoder(window_size: int = 4) -> nn.Module:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"img_size": 64, "patch_size": 8, "embed_dim": 32, "depth": 4, "num_heads": 2, "out_chans": 16}
    built = modeling.ImageEncoderViT(**shape, use_rel_pos=True, window_size=window_size, global_attn_indexes=(1, 3))
    for name, parameter in built.named_parameters():
        if "rel_pos" in name:  # zeros before training
            nn.init.normal_(parameter)
    return built.eval()


def by_hand(*names: str) -> Spy:
    """The maps of blocks, computed from their inputs: queries and keys, and decomposed relative positions."""

    def maps_of(attention: Any, x: Tensor) -> Tensor:
        batch, rows, columns, _ = x.shape
        q, k, _ = attention.qkv(x).reshape(batch, rows * columns, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
        logits = q @ k.mT * attention.scale
        grid = q.unflatten(2, (rows, columns))
        places = torch.arange(rows)[:, None] - torch.arange(rows) + rows - 1
        vertical = torch.einsum("nhrcd,rkd->nhrck", grid, attention.rel_pos_h[places])
        horizontal = torch.einsum("nhrcd,ckd->nhrck", grid, attention.rel_pos_w[places])
        bias = vertical[..., :, None] + horizontal[..., None, :]
        return (logits + bias.flatten(-2).flatten(2, 3)).softmax(-1)

    @contextmanager
    def spy(model: nn.Module) -> Any:
        seen: list[Tensor] = []
        handles = [
            model.get_submodule(name).register_forward_hook(lambda module, args, _: seen.append(maps_of(module, args[0])))
            for name in names
        ]
        yield seen
        for handle in handles:
            handle.remove()

    return spy


def test_global_blocks_are_read_by_name() -> None:
    reading = image(8, 8, False)
    found = captured(NAME, encoder(), IMAGES, spy=by_hand(*GLOBAL), layers=GLOBAL, reading=reading, attribute=False)
    assert found.unread == ("blocks.0.attn", "blocks.2.attn")
    method = ac.TokenRank(encoder(), layers=GLOBAL)
    assert method.attribute(IMAGES, reading=reading, output="grid").shape == (2, 8, 8)


def test_an_encoder_without_windows() -> None:
    names = [f"blocks.{k}.attn" for k in range(4)]
    found = captured(NAME, encoder(0), IMAGES, spy=by_hand(*names), reading=image(8, 8, False), attribute=False)
    assert found.names == names
    for method in (ac.Rollout, ac.GradientAttention):
        scores = method(encoder(0)).attribute(IMAGES, (0, 0, 0), reading=image(8, 8, False), output="grid")
        assert scores.shape == (2, 8, 8)
        assert scores.any()
    refused(NAME, r"(?s)the 64 tokens of layer 'blocks.0.attn' lie.*grid=\(8, 8\)\)\)", encoder(0), IMAGES)


def test_windows_are_asked_for_and_refused() -> None:
    message = r"(?s)blocks.0.attn, blocks.2.attn \(16 tokens, in a batch of 16\); blocks.1.attn, blocks.3.attn \(64 tokens"
    refused(NAME, message, encoder(), IMAGES)
    message = r"(?s)layer 'blocks.0.attn' .* batch of 8.* windows or frames are folded into the batch.*layers="
    refused(NAME, message, encoder(), IMAGES, layers=["blocks.0.attn"], reading=image(4, 4, False))


def test_the_whole_model_names_what_attends_in_its_decoder() -> None:
    torch.manual_seed(0)
    prompts = modeling.PromptEncoder(embed_dim=16, image_embedding_size=(8, 8), input_image_size=(64, 64), mask_in_chans=4)
    transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=16, mlp_dim=32, num_heads=2)
    shape: dict[str, Any] = {"num_multimask_outputs": 3, "iou_head_depth": 2, "iou_head_hidden_dim": 16}
    sam = modeling.Sam(encoder(), prompts, modeling.MaskDecoder(transformer=transformer, transformer_dim=16, **shape)).eval()
    points = {"point_coords": torch.tensor([[[3.0, 4.0]]]), "point_labels": torch.tensor([[1]])}
    given: list[dict[str, Any]] = [{"image": 255 * IMAGES[0], "original_size": (64, 64), **points}]
    refused(
        NAME, r"(?s)mask_decoder.transformer.layers.1.self_attn .*layers=\[…\] by name", sam, given, multimask_output=False
    )
    names = [f"image_encoder.{name}" for name in GLOBAL]
    store = ac.capture(sam, given, multimask_output=False, layers=names, reading=image(8, 8, False))
    with by_hand(*names)(sam) as seen:
        sam(given, multimask_output=False)
    assert torch.allclose(store.maps(), torch.stack(seen, 1).detach(), atol=1e-5)
