"""Rows of nnsight traces: TokenRank of every head, reduced layer by layer inside the trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

from studies.speed.capture import Work, encoder
from studies.speed.measurement import memory_of, paired
from studies.speed.rows import Bar, Figure, Row

HEADS: Final = 6
TOKENS: Final = 1025
LAYER_OF_MAPS: Final = HEADS * TOKENS * TOKENS * 4
Model = tuple[nn.Module, Tensor]  # and its input


def decoder(implementation: str, tokens: int = TOKENS) -> Model:
    """A transformers Llama of 12 layers, 6 heads and width 384, and random ids."""
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=256, hidden_size=64 * HEADS, intermediate_size=1024, num_hidden_layers=12, num_attention_heads=HEADS
    )
    torch.manual_seed(0)
    model: Any = LlamaModel(config).eval()
    model.set_attn_implementation(implementation)
    return model, torch.randint(256, (1, tokens))


def forward(model: nn.Module, inputs: Tensor) -> Work:
    return torch.no_grad()(lambda: model(inputs)[0])


def reduced(model: nn.Module, inputs: Tensor) -> Work:
    """A trace that reduces every layer as it passes."""
    import nnsight

    from attnchain_adapters.tracing import token_rank

    traced: Any = nnsight.NNsight(model)

    @torch.no_grad()
    def work() -> list[Tensor]:
        with traced.trace(inputs):
            ranks = nnsight.save(token_rank(traced))
        return [ranks]

    return work


def saved(model: nn.Module, inputs: Tensor) -> Work:
    """A trace that saves every layer's maps, and the same from them."""
    import nnsight

    from attnchain_adapters.tracing import attention_modules, stationary

    traced: Any = nnsight.NNsight(model)
    states = torch.ones(1, 1, TOKENS, dtype=torch.bool)

    @torch.no_grad()
    def work() -> Tensor:
        with traced.trace(inputs):
            maps = nnsight.save([module.output[1] for module in attention_modules(traced)])
        return torch.stack([torch.cat([stationary(one[:, [i]], states) for i in range(HEADS)], 1) for one in maps], 1)

    return work


MODELS: Final[dict[str, Callable[..., Model]]] = {"encoder": encoder, "decoder": decoder}
WORKS: Final[dict[str, Callable[[nn.Module, Tensor], Work]]] = {"forward": forward, "reduced": reduced}


def job(name: str, work: str, implementation: str) -> Work:
    WORKS[work](*MODELS[name](implementation, 64))()
    return WORKS[work](*MODELS[name](implementation))


def against(name: str) -> list[Figure]:
    """Memory beyond the fused forward, which holds no map, in layers of maps; and the time of saving all maps first."""
    build, sides = MODELS[name], (("forward", "sdpa"), ("forward", "eager"), ("reduced", "eager"))
    base, model, ours = (memory_of(job, name, *side) for side in sides)
    note = f"{ours.extra / 1e6:.0f} MB against {base.extra / 1e6:.0f} MB; a layer of maps is {LAYER_OF_MAPS / 1e6:.0f} MB"
    more, of_the_model = ((side.extra - base.extra) / LAYER_OF_MAPS for side in (ours, model))
    return [
        Figure("peak memory beyond the fused forward, a layer of maps = 1", more, "×", Bar(2), note),
        Figure("the same of the eager forward, with nothing read", of_the_model, "×"),
        paired(reduced(*build("eager")), saved(*build("eager")), 3).times_as_long("time, all maps saved and then reduced = 1"),
    ]


_OF = "token_rank inside an nnsight trace, 12 layers × 6 heads, 1,025 tokens, of a transformers"
ROWS: Final = [
    Row("trace-encoder", f"{_OF} ViT", lambda: against("encoder")),
    Row("trace-decoder", f"{_OF} Llama", lambda: against("decoder")),
]
