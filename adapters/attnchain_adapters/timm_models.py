"""Attention out of timm vision transformers."""

from __future__ import annotations

from typing import Any, final

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from timm.models import Beit, Eva, VisionTransformer, VisionTransformerDistilled
from torch import nn

from attnchain_adapters.checks import check_image, check_ready, check_shown
from attnchain_adapters.recording import AttentionRecorder
from attnchain_interp import (
    AttentionStore,
    Keeping,
    LayerSelection,
    Loaded,
    Reductions,
    Role,
    TokenLayout,
    select_layers,
)


@final
class TimmAdapter:
    """Vision transformers whose blocks attend globally over [prefix tokens, patches]."""

    supported = "VisionTransformer (ViT, DeiT, DINO, DINOv2, CLIP and SigLIP towers), BEiT, Eva (EVA-02, DINOv3)"

    def recognises(self, model: nn.Module) -> bool:
        return isinstance(model, VisionTransformer | VisionTransformerDistilled | Beit | Eva)

    def capture(
        self, model: nn.Module, inputs: tuple[Any, ...], layers: LayerSelection, keeping: Keeping, **kwargs: Any
    ) -> AttentionStore | Reductions:
        check_ready(model)
        vit: Any = model
        name = type(model).__name__
        images: Any = inputs[0] if inputs else kwargs.get("x")
        any_size = vit.patch_embed.dynamic_img_pad or not vit.patch_embed.strict_img_size
        height, width = check_image(name, images, None if any_size else vit.patch_embed.img_size)
        attention: dict[str, Any] = {name: module for name, module in model.named_modules() if _is_attention(name, module)}
        wanted = select_layers(list(attention), layers)
        tokens = TokenLayout.image(len(images), vit.patch_embed.dynamic_feat_size((height, width)), _prefix(vit))
        chosen = [attention[layer] for layer in wanted]
        keeping.expect(tokens, len(chosen), max(m.num_heads for m in chosen), all(m.fused_attn for m in chosen))
        with AttentionRecorder(model, {name: [name] for name in attention}, set(wanted), keeping) as recorder:
            model(*inputs, **kwargs)
        check_shown(recorder.routes, wanted, "This version of timm computes it in a way that is not known here.")
        return keeping.result(wanted, {"adapter": "timm", "model": name, "route": recorder.route})

    def load(self, name: str) -> Loaded:
        model = timm.create_model(name, pretrained=True).eval()
        config = resolve_model_data_config(model)
        transform: Any = create_transform(**config)

        def preprocess(image: Any) -> torch.Tensor:
            return transform(image.convert("RGB"))[None]

        return Loaded(model, preprocess, {"x": torch.rand(1, *config["input_size"])})


def _is_attention(name: str, module: nn.Module) -> bool:
    """Self-attention of a block; the pooling head has its own, which is no chain."""
    return name.startswith("blocks.") and hasattr(module, "fused_attn") and hasattr(module, "attn_drop")


def _prefix(vit: Any) -> list[Role]:
    """[class, distillation or registers …], as many as the model puts before the patches."""
    count: int = vit.num_prefix_tokens
    has_class = getattr(vit, "cls_token", None) is not None
    rest = Role.SPECIAL if isinstance(vit, VisionTransformerDistilled) else Role.REGISTER
    return [Role.CLASS] * has_class + [rest] * (count - has_class)
