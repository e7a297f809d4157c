"""Blocks written out with the rules of AttnLRP: a part of a product that gets no relevance is detached by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def shared(product: Tensor) -> Tensor:
    """Half of the gradient of a product of two."""
    return product / 2 + (product / 2).detach()


def gated(x: Tensor, activation: Any) -> Tensor:
    return x * (activation(x) / x).detach()


def layer_norm(x: Tensor, norm: Any) -> Tensor:
    deviation = (x.var(-1, correction=0, keepdim=True) + norm.eps).sqrt().detach()
    return (x - x.mean(-1, keepdim=True)) / deviation * norm.weight + norm.bias


def rms_norm(x: Tensor, norm: Any) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).sqrt().detach() * norm.weight


def split(x: Tensor, width: int) -> Tensor:
    """(batch, token, …) → (batch, head, token, width)."""
    return x.unflatten(-1, (-1, width)).transpose(1, 2)


def attended(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    """(batch, token, width) from queries, keys and values (batch, head, token, dim)."""
    logits = shared(query @ key.mT) / query.shape[-1] ** 0.5
    if causal:
        logits = logits.masked_fill(torch.ones_like(logits).triu(1).bool(), -torch.inf)
    return shared(logits.softmax(-1) @ value).transpose(1, 2).flatten(2)


def llama(model: Any, x: Tensor) -> Tensor:
    """Logits (batch, token, class) from embeddings."""
    places = torch.arange(x.shape[1])[None]
    cosine, sine = (part[:, None] for part in model.model.rotary_emb(x, places))

    def rotated(t: Tensor) -> Tensor:
        first, second = t.chunk(2, -1)
        return t * cosine + torch.cat([-second, first], -1) * sine

    for layer in model.model.layers:
        own, h = layer.self_attn, rms_norm(x, layer.input_layernorm)
        q, k, v = (split(linear(h), own.head_dim) for linear in (own.q_proj, own.k_proj, own.v_proj))
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        x = x + own.o_proj(attended(rotated(q), rotated(k), v, causal=True))
        h, mlp = rms_norm(x, layer.post_attention_layernorm), layer.mlp
        x = x + mlp.down_proj(shared(gated(mlp.gate_proj(h), F.silu) * mlp.up_proj(h)))
    return model.lm_head(rms_norm(x, model.model.norm))


def gpt2(model: Any, x: Tensor) -> Tensor:
    x = x + model.transformer.wpe.weight[: x.shape[1]]
    for block in model.transformer.h:
        q, k, v = block.attn.c_attn(layer_norm(x, block.ln_1)).chunk(3, -1)
        width = block.attn.head_dim
        x = x + block.attn.c_proj(attended(split(q, width), split(k, width), split(v, width), causal=True))
        h = gated(block.mlp.c_fc(layer_norm(x, block.ln_2)), lambda t: F.gelu(t, approximate="tanh"))
        x = x + block.mlp.c_proj(h)
    return model.lm_head(layer_norm(x, model.transformer.ln_f))


def bert(model: Any, x: Tensor) -> Tensor:
    """Logits (batch, class) from embeddings of words."""
    given = model.bert.embeddings
    x = x + given.token_type_embeddings.weight[0] + given.position_embeddings.weight[: x.shape[1]]
    x = layer_norm(x, given.LayerNorm)
    for layer in model.bert.encoder.layer:
        own, out = layer.attention.self, layer.attention.output
        width = own.attention_head_size
        q, k, v = (split(linear(x), width) for linear in (own.query, own.key, own.value))
        x = layer_norm(out.dense(attended(q, k, v, causal=False)) + x, out.LayerNorm)
        h = gated(layer.intermediate.dense(x), F.gelu)
        x = layer_norm(layer.output.dense(h) + x, layer.output.LayerNorm)
    return model.classifier(gated(model.bert.pooler.dense(x[:, 0]), torch.tanh))


def timm_vit(model: Any, images: Tensor) -> Tensor:
    """Logits (batch, class) from pixels."""
    patches = model.patch_embed.proj(images).flatten(2).mT
    x = torch.cat([model.cls_token.expand(len(images), -1, -1), patches], 1) + model.pos_embed
    for block in model.blocks:
        q, k, v = (split(part, block.attn.head_dim) for part in block.attn.qkv(layer_norm(x, block.norm1)).chunk(3, -1))
        x = x + block.attn.proj(attended(q, k, v, causal=False))
        x = x + block.mlp.fc2(gated(block.mlp.fc1(layer_norm(x, block.norm2)), F.gelu))
    return model.head(layer_norm(x, model.norm)[:, 0])


def dinov2(model: Any, images: Tensor) -> Tensor:
    """Logits (batch, class) of transformers' DINOv2 with a linear head, from pixels."""
    given, inner = model.dinov2.embeddings, model.dinov2
    patches = given.patch_embeddings.projection(images).flatten(2).mT
    x = torch.cat([given.cls_token.expand(len(images), -1, -1), patches], 1) + given.position_embeddings
    for layer in inner.encoder.layer:
        own, h = layer.attention, layer_norm(x, layer.norm1)
        q, k, v = (split(linear(h), own.head_dim) for linear in (own.q_proj, own.k_proj, own.v_proj))
        x = x + layer.layer_scale1.lambda1 * own.o_proj(attended(q, k, v, causal=False))
        h = layer.mlp.fc2(gated(layer.mlp.fc1(layer_norm(x, layer.norm2)), F.gelu))
        x = x + layer.layer_scale2.lambda1 * h
    x = layer_norm(x, inner.layernorm)
    return model.classifier(torch.cat([x[:, 0], x[:, 1:].mean(1)], 1))


def relevance(logits: Tensor, tensor: Tensor) -> Tensor:
    """x ⊙ ∂Σ logits/∂x."""
    (gradient,) = torch.autograd.grad(logits.sum(), tensor)
    return (tensor * gradient).detach()
