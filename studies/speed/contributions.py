"""Rows of contributions: what chains of them cost beyond a forward, and what memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.capture import Maps
from studies.speed.measurement import memory_of, paired
from studies.speed.rows import Bar, Figure, Row

TOKENS: Final = 512
HEADS: Final = 9
WORDS: Final = 49152
BARS: Final[dict[Maps, float]] = {"projection": 1.5, "norm": 1.5, "alti": 4}


@cache
def llama(layers: int = 30) -> nn.Module:
    """A Llama of the shape of SmolLM2-135M with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: dict[str, Any] = {"vocab_size": WORDS, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": layers}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(num_attention_heads=HEADS, num_key_value_heads=3, **sizes))
    return model.eval().requires_grad_(False)


def prompt(tokens: int = TOKENS) -> Tensor:
    """The numbers (1, token) of a prompt."""
    return torch.randint(0, WORDS, (1, tokens), generator=torch.Generator().manual_seed(0))


def decoder() -> tuple[nn.Module, Tensor]:
    """The Llama, and a prompt of 512 tokens."""
    return llama(), prompt()


@cache
def vit() -> tuple[nn.Module, Tensor]:
    """A timm ViT-S/16 nobody trained, and an image of 577 tokens."""
    from timm.models import create_model

    torch.manual_seed(0)
    return create_model("vit_small_patch16_384").eval().requires_grad_(False), torch.randn(1, 3, 384, 384)


def against_a_forward(of: Callable[[], tuple[nn.Module, Tensor]]) -> list[Figure]:
    """The time of a capture with the TokenRank of its chain, a forward under no_grad being 1."""
    model, given = of()

    @torch.no_grad()
    def forward() -> Any:
        return model(given)

    def figure(maps: Maps, bar: float) -> Figure:
        times = paired(lambda: ac.TokenRank().score(ac.capture(model, given, maps=maps)), forward, 3)
        return times.times_as_long(f"time of {maps} with TokenRank, forward = 1", bar)

    return [figure(maps, bar) for maps, bar in BARS.items()]


def forward_alone() -> Callable[[], Any]:
    """The job of the forward of the decoder."""
    model, ids = decoder()

    @torch.no_grad()
    def forward(tokens: int = TOKENS) -> Any:
        return model(ids[:, :tokens], logits_to_keep=1)

    forward(8)
    return forward


def reduced(maps: Maps) -> Callable[[], Any]:
    """The job of a capture that keeps the TokenRank of each layer."""
    model, ids = decoder()

    def capture(tokens: int = TOKENS) -> Any:
        return ac.capture(model, ids[:, :tokens], maps=maps, keep=[ac.StationaryVectors()], logits_to_keep=1)

    capture(8)
    return capture


def memory() -> list[Figure]:
    """Memory of reducers over contributions, beyond that of the forward, in maps of all heads of a layer."""
    bare, layer = memory_of(forward_alone).extra, HEADS * TOKENS**2 * 4
    found = [(maps, memory_of(reduced, maps).extra) for maps in ("projection", "alti")]
    return [
        Figure(
            f"peak memory of {name} beyond the forward, a layer of maps = 1",
            (extra - bare) / layer,
            "×",
            Bar(4),
            f"{extra / 1e6:.0f} MB against {bare / 1e6:.0f} MB; a layer of maps is {layer / 1e6:.0f} MB",
        )
        for name, extra in found
    ]


ROWS: Final = [
    Row(
        "contributions-decoder",
        f"contributions and the TokenRank of their chain, against one forward: {TOKENS} tokens, a Llama as SmolLM2-135M",
        lambda: against_a_forward(decoder),
    ),
    Row(
        "contributions-vit",
        "contributions and the TokenRank of their chain, against one forward: 577 tokens, a timm ViT-S/16",
        lambda: against_a_forward(vit),
    ),
    Row(
        "contributions-memory", f"reducers over contributions, against one forward: {TOKENS} tokens of the same Llama", memory
    ),
]
