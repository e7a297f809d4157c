"""Rows of texts: what the attribution of a generated answer costs beyond its generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch

import attnchain_interp as ac
from studies.speed.measurement import paired
from studies.speed.real_models import loaded
from studies.speed.rows import Figure, Row

PROMPT: Final = (
    "The old lighthouse on the northern cape was built of red granite in the year when the harbour froze, and its keeper, who"
    " had sailed as a boy to Lisbon and back, wrote down every ship that passed. One evening in November he saw"
)
OPTIONS: Final = {"max_new_tokens": 25, "min_new_tokens": 25, "do_sample": False, "num_beams": 1}
METHODS: Final[dict[Callable[..., Any], float]] = {
    ac.TokenRank: 1.3,
    ac.MultiBounce: 1.3,
    ac.Rollout: 1.3,
    ac.GradientAttention: 3,
    ac.GradientTokenRank: 3,
    ac.ExpectedVisits: 3,
}


def of_an_answer() -> list[Figure]:
    """`attribute_text` of each method, the generation alone being 1. It includes the generation."""
    model, tokenizer = loaded("smollm2", "AutoModelForCausalLM"), loaded("smollm2", "AutoTokenizer")
    ids = torch.tensor([tokenizer(PROMPT)["input_ids"]])

    def figure(build: Callable[..., Any], bar: float) -> Figure:
        def attribute() -> Any:
            return ac.TextAttribution(build(model), tokenizer).attribute(PROMPT, gen_args=OPTIONS)

        times = paired(attribute, lambda: model.generate(ids, **OPTIONS), 3, 6)
        return times.times_as_long(f"time of {build.__name__} with the generation, generation = 1", bar)

    return [figure(build, bar) for build, bar in METHODS.items()]


ROWS: Final = [
    Row(
        "answer",
        "`attribute_text` of 25 new tokens after a prompt of 50, SmolLM2-135M, against the generation alone",
        of_an_answer,
    )
]
