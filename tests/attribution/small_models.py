"""Small trained-looking models in float64 with an odd number of heads, and their maps and gradients by their own means."""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers
from timm.models import VisionTransformer
from torch import Tensor, nn

BERT = {"vocab_size": 60, "hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 32, "max_position_embeddings": 32}


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
