"""Attention that also returns its log-sum-exp, by the fused kernel that serves a device, tried before it is used.

Every route computes, for queries, keys and values (batch, head, token, dim) and logits q·k (+ mask), the output of
attention and the log-sum-exp of each query's logits, in memory linear in the number of tokens. The names of the kernels are
private to torch and change. Each route is therefore tried on a small problem first; a route that fails or deviates is passed
over.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_interp.operators.operator import full_precision

Route = Callable[[Tensor, Tensor, Tensor, bool], tuple[Tensor, Tensor]]


def cpu_flash(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """Calls torch's flash attention for CPUs, which returns the log-sum-exp."""
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, causal, scale=1.0)


def cuda_efficient(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """Calls torch's memory-efficient attention, the fused CUDA kernel in float32. Its widths are multiples of 8."""
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    wide = [F.pad(tensor, (0, -tensor.shape[-1] % 8)) for tensor in (query, key, value)]
    out, total, *_ = kernel(*wide, None, True, 0.0, causal, scale=1.0)
    return out[..., : value.shape[-1]], total[..., : query.shape[2]]  # its last axis is padded to a multiple of 32


def dummy_key(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """Calls the public function with one more key, of logit 0, whose share w of the attention gives the sum of all others.

    The output is (the function's output) / (1 − w), and the log-sum-exp is log((1 − w) / w). The dummy key stands first:
    causal attention sees it from everywhere.
    """
    width = max(query.shape[-1], value.shape[-1] + 1)
    query, key = (F.pad(tensor, (0, width - tensor.shape[-1], 1, 0)) for tensor in (query, key))
    values = F.pad(value, (0, width - value.shape[-1], 1, 0))
    values[..., 0, value.shape[-1]] = 1
    out = F.scaled_dot_product_attention(query, key, values, is_causal=causal, scale=1.0)[..., 1:, :]
    share = out[..., value.shape[-1]].double()
    rest = torch.log1p(-share)
    return out[..., : value.shape[-1]] / (1 - share[..., None]).to(out.dtype), (rest - share.log()).to(out.dtype)


_ROUTES: Final[dict[str, tuple[Route, ...]]] = {"cpu": (cpu_flash, dummy_key), "cuda": (cuda_efficient, dummy_key)}


@lru_cache
def fused_route(device: str, dtype: torch.dtype) -> Route | None:
    """Returns the first route that gives the right answer on this kind of device in this type; None if no route does."""
    return next((route for route in _ROUTES.get(device, (dummy_key,)) if proves_itself(route, device, dtype)), None)


@full_precision()
@torch.no_grad()
def proves_itself(route: Route, device: str, dtype: torch.dtype) -> bool:
    """Returns whether a route equals the dense product on 64 tokens, full and causal."""
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(3, 1, 2, 64, 17, generator=generator, dtype=torch.float32, device="cpu")
    query, key, value = random.to(device, dtype)
    for causal in (False, True):
        logits = query @ key.mT
        if causal:
            logits = logits.masked_fill(torch.ones_like(logits, dtype=torch.bool).triu(1), -torch.inf)
        try:
            out, total = route(query, key, value, causal)
        except (RuntimeError, NotImplementedError, AttributeError, TypeError):
            return False
        if out.shape != value.shape or not torch.allclose(out, logits.softmax(-1) @ value, atol=1e-5, rtol=1e-4):
            return False
        if total.shape != out.shape[:-1] or not torch.allclose(total.to(dtype), logits.logsumexp(-1), atol=1e-4):
            return False
    return True
