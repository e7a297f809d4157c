"""Pages of SmolLM2 on 300 tokens and of DINOv2 on a photograph: size on disk and on screen, and what they show first."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from transformers import AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoTokenizer

import attnchain_interp as ac
from attnchain_interp.explorer import Explorer

from .screen import Screen

Screens = Callable[..., Screen]
SCREEN: Final = {"width": 1400, "height": 900}
TOKENS: Final = 300
OUTPUTS: Final = 4
PROMPT: Final = "".join(
    f"The house number {number} in Harbour Street has a {colour} door — שלום 🙂.\n"
    for number, colour in enumerate(["red", "green", "blue", "white"] * 5)
)


@pytest.fixture(scope="module")
def text_page(real_weights: Callable[[str], Path]) -> Explorer:
    folder = real_weights("smollm2")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids[:, :TOKENS]
    assert ids.shape == (1, TOKENS)
    attention, alti = (
        ac.capture(model, ids, maps=maps, reading=ac.Reading(tokenizer=tokenizer)) for maps in ("attention", "alti")
    )
    return ac.explore(attention, contributions=alti, outputs=OUTPUTS)


@pytest.fixture(scope="module")
def photograph_page(real_weights: Callable[[str], Path]) -> Explorer:
    folder = real_weights("dinov2-small")
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoImageProcessor.from_pretrained(folder)
    photograph = Image.fromarray(data.coffee()).crop((100, 0, 500, 400))
    pixels = processor(images=photograph, return_tensors="pt").pixel_values
    return ac.explore(ac.capture(model, pixels), np.asarray(photograph.resize((800, 800))))


def test_a_prompt_of_300_tokens_fits_three_megabytes_and_two_screens(screen: Screens, text_page: Explorer) -> None:
    assert len(text_page.html.encode()) <= 3_000_000
    assert text_page.payload.header["maps"]["what"] == "heads"
    one = screen(viewport=SCREEN).open(text_page.html)
    width, height = one.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert width <= SCREEN["width"]
    assert height <= 2 * SCREEN["height"]
    text = one.page.locator(".text-view").inner_text()
    assert "in Harbour Street has a green door — שלום 🙂.↵" in text
    assert "Ġ" not in text
    tokens = one.page.locator(".token")
    parts = [k for k, told in enumerate(tokens.all_inner_texts()) if not told]
    one.page.locator(".text-view").focus()
    one.page.keyboard.press("Home")
    for _ in range(parts[0]):
        one.page.keyboard.press("ArrowRight")
    assert re.search("from a part of “(\u2068ם\u2069|🙂)”", one.sentence)


def test_the_sink_of_a_prompt_is_marked_and_contributions_are_shown_first(screen: Screens, text_page: Explorer) -> None:
    sinks = text_page.payload.header["sinks"]
    assert 0 in sinks
    one = screen(viewport=SCREEN).open(text_page.html)
    assert one.page.locator(".token.sink").count() == len(sinks)
    assert one.page.get_by_role("radio", name="Contributions", exact=True).is_checked()
    before = np.array(one.values())
    one.choose("Maps", "Attention")
    attention = np.array(one.values())
    assert attention[0] > 0.5 > 5 * before[0], "attention counts the sink, contributions do not"


def test_a_photograph_is_shown_at_its_resolution_from_the_class_token(screen: Screens, photograph_page: Explorer) -> None:
    assert len(photograph_page.html.encode()) <= 3_000_000
    one = screen(viewport=SCREEN).open(photograph_page.html)
    assert re.match(r"2 bounces from class 0( \(an attention sink\))?, balanced, layers 10 to 11:", one.sentence)
    shown = base64.b64decode(photograph_page.payload.header["image"].partition(",")[2])
    assert Image.open(io.BytesIO(shown)).size == (800, 800)
    grid = photograph_page.payload.header["grid"]
    values = np.array(one.values())[1:].reshape(grid)
    cup, wood = values[3:11, 3:11], values[:, 14:]
    assert cup.mean() > 2 * wood.mean()
    one.choose("Show", "States")
    one.settle()
    weights = photograph_page.payload.header["regions"][0]["weights"]
    assert one.page.locator(".key li").count() == len(weights) >= 2
