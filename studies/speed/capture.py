"""Rows of capture: reduced layer by layer against `output_attentions=True`, and a long decoder as factors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

import attnchain_interp as ac
from studies.speed.measurement import memory_of, paired
from studies.speed.rows import Bar, Figure, Row

Work = Callable[[], Any]

SHARPER: Final = 3  # times the queries' and keys' initial weights, so that rows of a model nobody trained are not all uniform
LONG: Final = 16_384  # tokens of the decoder
QUARTER_OF_A_MAP: Final = LONG * LONG * 4 / 4


def encoder(implementation: str, size: int = 512) -> tuple[nn.Module, Tensor]:
    """A transformers ViT of 12 layers, 6 heads and width 384, and an image: 1,025 tokens at 512 pixels."""
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        image_size=size,
        patch_size=16,
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        intermediate_size=1536,
    )
    torch.manual_seed(0)
    model: Any = ViTModel(config, add_pooling_layer=False).eval()
    model.set_attn_implementation(implementation)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                weight *= SHARPER
    return model, torch.randn(1, 3, size, size)


def with_maps(size: int = 512) -> Work:
    model, image = encoder("eager", size)

    @torch.no_grad()
    def work() -> Any:
        attentions = model(image, output_attentions=True).attentions
        if len(attentions) != 12 or attentions[0] is None:
            raise RuntimeError("the eager model returned no attentions")
        return attentions

    return work


def with_reducers(reducers: Sequence[Any], size: int = 512) -> Work:
    model, image = encoder("sdpa", size)
    return lambda: ac.capture(model, image, keep=list(reducers))


def with_maps_solved(*solvers: Callable[[Tensor], Any]) -> Work:
    """The eager model, and then from its maps what the reducers compute."""
    work = with_maps()
    return lambda: [solve(maps) for maps in work() for solve in solvers]


def bare_forward(size: int = 512) -> Work:
    model, image = encoder("sdpa", size)
    return torch.no_grad()(lambda: model(image))


WORKS: Final[dict[str, Callable[[int], Work]]] = {
    "maps": with_maps,
    "forward": bare_forward,
    "column sums": lambda size: with_reducers([ac.ColumnSums()], size),
    "stationary vectors": lambda size: with_reducers([ac.StationaryVectors()], size),
    "stationary vectors and |λ₂|": lambda size: with_reducers([ac.StationaryVectors(), ac.SecondEigenvalues()], size),
}


def job(name: str) -> Work:
    WORKS[name](64)()  # 17 tokens, through the same code
    return WORKS[name](512)


def reduced(name: str, *solvers: Callable[[Tensor], Any]) -> list[Figure]:
    """Time and peak extra memory of a capture with reducers, against the eager model that returns its maps.

    Where a reducer solves for something, the bar on the time is against the eager model and the same solver on its maps.
    """
    maps, own, forward = (memory_of(job, each) for each in ("maps", name, "forward"))
    note = f"{own.extra / 1e6:.0f} MB against {maps.extra / 1e6:.0f} MB; the bare forward {forward.extra / 1e6:.0f} MB"
    figures = [
        Figure("peak extra memory, eager = 1", own.extra / maps.extra, "×", Bar(0.3), note),
        paired(WORKS[name](512), with_maps(), 4).times_as_long("time, eager = 1", None if solvers else 1.1),
    ]
    if solvers:
        against = paired(WORKS[name](512), with_maps_solved(*solvers), 4)
        figures.append(against.times_as_long("time, eager and the same from its maps = 1", 1.1))
    return figures


def decoder() -> tuple[nn.Module, Callable[[int], Tensor]]:
    """A transformers Llama of 2 layers, 4 heads on 2 key heads and width 64, and random ids (1, token) of any number."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LONG,
    )
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    return LlamaForCausalLM(config).eval(), lambda n: torch.randint(256, (1, n), generator=generator)


def token_rank_job() -> Work:
    model, ids = decoder()

    def rank(tokens: Tensor) -> Tensor:
        return ac.TokenRank().score(ac.capture(model, tokens, keep="factors"))

    rank(ids(64))
    tokens = ids(LONG)
    return lambda: rank(tokens)


def decoder_forward_job() -> Work:
    model, ids = decoder()
    forward = torch.no_grad()(lambda tokens: model(tokens, use_cache=False))
    forward(ids(64))
    tokens = ids(LONG)
    return lambda: forward(tokens)


def long_decoder() -> list[Figure]:
    """TokenRank of 16,384 tokens, capture and score together; no map of a head (1 GiB) may come about."""
    own, forward = memory_of(token_rank_job), memory_of(decoder_forward_job)
    bar = Bar(QUARTER_OF_A_MAP / 2**20)
    return [
        Figure("peak extra memory", own.extra / 2**20, "MiB", bar, "a quarter of one head's map"),
        Figure("the same, the model's own forward", forward.extra / 2**20, "MiB"),
        Figure("time", own.seconds, "s", note=f"the model's own forward {forward.seconds:.2g} s"),
    ]


_AGAINST = "reduced layer by layer, against `output_attentions=True`; a ViT of 12 layers × 6 heads, 1,025 tokens"
ROWS: Final = [
    Row("capture-column-sums", f"column sums {_AGAINST}", lambda: reduced("column sums")),
    Row("capture-stationary", f"stationary vectors {_AGAINST}", lambda: reduced("stationary vectors", ac.stationary)),
    Row(
        "capture-stationary-eigenvalues",
        f"stationary vectors and |λ₂| {_AGAINST}",
        lambda: reduced("stationary vectors and |λ₂|", ac.mixing),
    ),
    Row("decoder-memory", "capture as factors, then TokenRank, of a small Llama on 16,384 tokens", long_decoder),
]
