"""The demo of real models. Chat templates need a newer jinja2 than pygpcca accepts; .ci/run has an environment for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jinja2
import pytest
import torch
from PIL import Image
from skimage import data

if tuple(int(part) for part in jinja2.__version__.split(".")[:2]) < (3, 1):
    pytest.skip("jinja2 3.1 is not installed; .ci/run runs this with it", allow_module_level=True)

from transformers import AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoTokenizer

from attnchain_evals.cli.real_demo import PASSAGE, PROMPT, QUESTION, WORD, answered, continued, greatest, read_photograph


def test_an_answer_is_traced_to_the_word_that_it_copies(real_weights: Callable[[str], Path]) -> None:
    folder = real_weights("smollm2")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = answered(model, tokenizer, PASSAGE, QUESTION)
    shares = dict(found.sources)[WORD]
    (first, share), (_, second) = greatest(found.words, shares, 2)
    assert first == WORD
    assert share > 5 * second
    token, (contributions, attention) = continued(model, tokenizer, PROMPT)
    assert token == "Paris"
    assert attention.shares[0] > 0.9, "Rollout counts the sink"
    assert contributions.shares[0] < 0.2


def test_the_object_is_found(real_weights: Callable[[str], Path]) -> None:
    folder = real_weights("dinov2-small")
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoImageProcessor.from_pretrained(folder)
    grid = next(iter(read_photograph(model, processor, "cup", Image.fromarray(data.coffee())).maps.values()))
    assert grid.shape == (24, 36)
    assert grid[2:14, 12:22].mean() > 5 * grid[:, 28:].mean(), "the cup, against the wood to its right"
