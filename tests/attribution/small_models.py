"""Small trained-looking models in float64 with an odd number of heads, and their maps and gradients by their own means."""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers
from timm.models import VisionTransformer
from torch import Tensor, nn

BERT = {"vocab_size": 60, "hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 32, "max_position_embeddings": 32}

# Points of an integral, and orders of an average: by method, enough where its result is compared with another of its own.
FEW = {"TransitionAttentionMaps": {"steps": 2}, "ShapleyValues": {"n_samples": 3}, "IntegratedGradients": {"n_steps": 4}}


def sharpened(model: nn.Module) -> nn.Module:
    """Weights of random models attend almost uniformly: make queries and keys count, in float64."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and any(part in name for part in ("qkv", "q_proj", "k_proj", "query", "key")):
            parameter.data = 0.4 * torch.randn(parameter.shape, generator=generator)
    return model.double().eval()


def vit(depth: int = 2, heads: int = 3, fused: bool = True, **options: Any) -> Any:
    """A class token and 2 × 3 patches, 4 classes."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"img_size": (8, 12), "patch_size": 4, "embed_dim": 16 * heads, "num_classes": 4}
    model = VisionTransformer(depth=depth, num_heads=heads, **{**sizes, **options})
    for block in model.blocks:
        block.attn.fused_attn = fused  # type: ignore[union-attr]
    return sharpened(model)


def bert(implementation: str = "sdpa", layers: int = 2) -> Any:
    torch.manual_seed(0)
    options: dict[str, Any] = {**BERT, "num_labels": 4, "attn_implementation": implementation}
    config = transformers.BertConfig(**options, num_hidden_layers=layers)
    return sharpened(transformers.BertForSequenceClassification(config))


def llama(implementation: str = "sdpa", layers: int = 3) -> Any:
    torch.manual_seed(0)
    options: dict[str, Any] = {**BERT, "num_key_value_heads": 1, "pad_token_id": 0, "attn_implementation": implementation}
    config = transformers.LlamaConfig(**options, num_hidden_layers=layers)
    return sharpened(transformers.LlamaForCausalLM(config))


def seq2seq_classifiers() -> list[Any]:
    """Encoder–decoders with 3 classes, in float64. Those of BART's kind read the class at the last token, 2."""
    torch.manual_seed(0)
    sizes = {f"{side}_{size}": n for side in ("encoder", "decoder") for size, n in (("layers", 2), ("ffn_dim", 32))}
    sizes |= {f"{side}_attention_heads": 3 for side in ("encoder", "decoder")}
    common: dict[str, Any] = {"vocab_size": 60, "d_model": 48, "num_labels": 3, "eos_token_id": 2}
    of_t5: dict[str, Any] = {"d_kv": 16, "d_ff": 32, "num_layers": 2, "num_heads": 3, "decoder_start_token_id": 0}
    models: list[Any] = [transformers.T5ForSequenceClassification(transformers.T5Config(**common, **of_t5))]
    for name in ("Bart", "MBart", "PLBart", "Mvp"):
        config = getattr(transformers, f"{name}Config")(**common, **sizes, max_position_embeddings=32, init_std=0.3)
        models.append(getattr(transformers, f"{name}ForSequenceClassification")(config))
    return [model.double().eval() for model in models]


def llava() -> Any:
    """A decoder in float64 whose tokens of number 50 are the four patches of an image 16 × 16."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 48, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = transformers.LlamaConfig(**sizes, vocab_size=60, num_key_value_heads=2, initializer_range=0.3)
    vision = transformers.CLIPVisionConfig(**sizes, image_size=16, patch_size=8, initializer_range=0.3)
    options: dict[str, Any] = {"text_config": text, "vision_config": vision, "image_token_index": 50, "image_token_id": 50}
    config = transformers.LlavaConfig(**options, vision_feature_layer=-1)
    return transformers.LlavaForConditionalGeneration(config).double().eval()


def qwen_vl() -> Any:
    """A decoder in float64 whose tokens of number 50 are images of any size: four patches 4 × 4 are a token."""
    torch.manual_seed(0)
    text: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    text |= {"vocab_size": 60, "num_key_value_heads": 2, "initializer_range": 0.3, "pad_token_id": 0}
    text |= {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e2}}
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 4, "initializer_range": 0.3}
    config = transformers.Qwen2VLConfig(
        text_config=text, vision_config=vision, image_token_id=50, video_token_id=51, vision_start_token_id=52
    )
    return transformers.Qwen2VLForConditionalGeneration(config).double().eval()


def texts_with_images(grids: list[tuple[int, int]], length: int = 10) -> list[dict[str, Tensor]]:
    """The arguments of `qwen_vl` for each text, with an image of so many rows and columns of patches."""
    generator, found = torch.Generator().manual_seed(4), []
    for rows, columns in grids:
        tokens = rows * columns // 4
        text = torch.randint(1, 49, (1, length - tokens - 2), generator=generator)
        ids = torch.cat([text[:, :2], torch.tensor([[52, *[50] * tokens]]), text[:, 1:]], 1)
        pixels = torch.randn(rows * columns, 96, generator=generator, dtype=torch.float64)
        given = {"input_ids": ids, "pixel_values": pixels, "image_grid_thw": torch.tensor([[1, rows, columns]])}
        found.append({**given, "mm_token_type_ids": (ids == 50).long()})
    return found


def two_towers(name: str) -> Any:
    """A model of images 16 × 16 and texts of up to 16 tokens in float64: "CLIP" or "Siglip"."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**sizes, "vocab_size": 60, "max_position_embeddings": 16, "projection_size": 32, "eos_token_id": 2}
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    config = getattr(transformers, f"{name}Config")(text_config=text, vision_config=vision, projection_dim=16)
    return getattr(transformers, f"{name}Model")(config).double().eval()


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 8, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def ids(batch: int = 2, length: int = 7) -> Tensor:
    return torch.randint(1, 60, (batch, length), generator=torch.Generator().manual_seed(3))


Maps = list[Tensor]


def of_vit(model: Any, pixels: Tensor, target: list[int]) -> tuple[Maps, Maps]:
    """Maps and gradients, one (batch, head, query, key) per layer: those that timm's own softmax keeps by `retain_grad`."""
    model, maps = copy.deepcopy(model), []

    def keep(_: Any, __: Any, output: Tensor) -> None:
        output.retain_grad()
        maps.append(output)

    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(keep)
    logits = model(pixels)
    torch.stack([logits[row, k] for row, k in enumerate(target)]).sum().backward()
    return [each.detach() for each in maps], [each.grad for each in maps]


def of_transformers(model: Any, target: list[Any], **inputs: Tensor) -> tuple[Maps, Maps]:
    """The same of transformers' eager attention, which gives out its maps."""
    model = copy.deepcopy(model)
    model.set_attn_implementation("eager")
    output = model(**inputs, output_attentions=True)
    maps = list(output.attentions)
    score = torch.stack([output.logits[(row, *(k if isinstance(k, tuple) else (k,)))] for row, k in enumerate(target)]).sum()
    gradients = torch.autograd.grad(score, maps)
    return [each.detach() for each in maps], list(gradients)
