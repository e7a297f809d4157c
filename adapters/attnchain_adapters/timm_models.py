"""Attention out of timm vision transformers."""

from __future__ import annotations

from typing import Any, final

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from timm.models import Beit, Eva, VisionTransformer, VisionTransformerDistilled
from torch import nn

from attnchain_adapters.image_models import check_image, image_store, refuse_dropout
from attnchain_adapters.recording import MapRecorder
from attnchain_interp import AttentionStore, LayerSelection, Loaded, Role, select_layers


@final
class TimmAdapter:
    """Vision transformers whose blocks attend globally over [prefix tokens, patches]."""

    supported = "VisionTransformer (ViT, DeiT, DINO, DINOv2, CLIP and SigLIP towers), BEiT, Eva (EVA-02, DINOv3)"

    def recognises(self, model: nn.Module) -> bool:
        return isinstance(model, VisionTransformer | VisionTransformerDistilled | Beit | Eva)

    def capture(self, model: nn.Module, inputs: tuple[Any, ...], layers: LayerSelection, **kwargs: Any) -> AttentionStore:
        refuse_dropout(model)
        vit: Any = model
        name = type(model).__name__
        images = inputs[0] if inputs else kwargs.get("x")
        any_size = vit.patch_embed.dynamic_img_pad or not vit.patch_embed.strict_img_size
        height, width = check_image(name, images, None if any_size else vit.patch_embed.img_size)
        attention = {name: module for name, module in model.named_modules() if _is_attention(name, module)}
        wanted = select_layers(list(attention), layers)
        with MapRecorder({name: attention[name] for name in wanted}) as recorder:
            for layer in wanted:
                drop: Any = attention[layer].attn_drop

                def eager(_: nn.Module, args: tuple[Any, ...], layer: str = layer) -> None:
                    recorder.record(layer, args[0], "eager")

                recorder.keep(drop.register_forward_pre_hook(eager))
            model(*inputs, **kwargs)
        grid = vit.patch_embed.dynamic_feat_size((height, width))
        advice = "This version of timm computes it in a way that is not known here."
        return image_store(recorder, wanted, _prefix(vit), grid, {"adapter": "timm", "model": name}, advice)

    def load(self, name: str) -> Loaded:
        model = timm.create_model(name, pretrained=True).eval()
        transform: Any = create_transform(**resolve_model_data_config(model))

        def preprocess(image: Any) -> torch.Tensor:
            return transform(image.convert("RGB"))[None]

        return Loaded(model, preprocess)


def _is_attention(name: str, module: nn.Module) -> bool:
    """Self-attention of a block; the pooling head has its own, which is no chain."""
    return name.startswith("blocks.") and hasattr(module, "fused_attn") and hasattr(module, "attn_drop")


def _prefix(vit: Any) -> list[Role]:
    """[class, distillation or registers …], as many as the model puts before the patches."""
    count: int = vit.num_prefix_tokens
    has_class = getattr(vit, "cls_token", None) is not None
    rest = Role.SPECIAL if isinstance(vit, VisionTransformerDistilled) else Role.REGISTER
    return [Role.CLASS] * has_class + [rest] * (count - has_class)
