"""The demo of real models on tiny ones. `tests/other_tools/test_real_models.py` runs it on the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import decoders, pre_tokenizers
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from attnchain_evals.cli.real_demo import (
    PASSAGE,
    PROMPT,
    QUESTION,
    answered,
    greatest,
    photographs,
    read_photograph,
    real_models,
    run,
)
from attnchain_evals.weights import FetchedModel
from attnchain_interp import AttentionError

from ...word_tokenizer import word_tokenizer
from .command_line import refused

SHORT = "A bee dances.", "Where was it built?"


def asked(said: str) -> str:
    return f"user {said} assistant "


def vision(tmp_path: Path) -> FetchedModel:
    torch.manual_seed(0)
    size: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 112}
    Dinov2Model(Dinov2Config(patch_size=56, **size)).save_pretrained(tmp_path / "vision")
    BitImageProcessor(size={"shortest_edge": 56}).save_pretrained(tmp_path / "vision")
    return FetchedModel("vision", tmp_path / "vision", "from here", "", "")


def decoder(tmp_path: Path) -> FetchedModel:
    torch.manual_seed(0)
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    said = [asked("\n\n".join(each) + " Answer in a few words.") for each in (SHORT, (PASSAGE, QUESTION))]
    words = sorted({word for text in (*said, PROMPT) for word, _ in splitter.pre_tokenize_str(text)})
    saved = word_tokenizer(["[PAD]", "[UNK]", *words])
    saved.backend_tokenizer.pre_tokenizer, saved.backend_tokenizer.decoder = splitter, decoders.ByteLevel()
    saved.save_pretrained(tmp_path / "decoder")
    size: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(words) + 2, bos_token_id=1, eos_token_id=None, pad_token_id=0, **size)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "decoder")
    return FetchedModel("decoder", tmp_path / "decoder", "from there", "", "")


@pytest.fixture(autouse=True)
def plain_template(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chat template that needs no jinja2: the tests have an old one."""

    def fill(self: Any, messages: list[dict[str, str]], **options: Any) -> str:
        return asked(messages[0]["content"])

    monkeypatch.setattr(PreTrainedTokenizerFast, "apply_chat_template", fill)


def test_pictures_and_page_are_written(tmp_path: Path) -> None:
    (_, cat), *_ = photographs(None)
    cat.crop((100, 0, 250, 100)).save(tmp_path / "cat.png")
    files = run(tmp_path / "out", tmp_path, (vision(tmp_path), decoder(tmp_path)))
    assert [file.name for file in files] == ["photographs.jpg", "segments.jpg", "passage.jpg", "real.html"]
    for file in files[:3]:
        with Image.open(file) as picture:
            assert picture.format == "JPEG"
    page = files[3].read_text("utf-8")
    assert "DINOv2 from here; SmolLM2 from there" in page
    assert page.count('<p class="text">') == 4  # the passage, the answer, the prompt twice


def test_a_photograph_is_read_in_whole_patches(tmp_path: Path) -> None:
    folder = vision(tmp_path).path
    model, processor = Dinov2Model.from_pretrained(folder).eval(), BitImageProcessor.from_pretrained(folder)
    read = read_photograph(model, processor, "wide", Image.fromarray(np.zeros((100, 210, 3), np.uint8)))
    assert read.pixels.shape == (336, 728, 3)
    assert list(read.maps) == ["one bounce from the class token", "the class token's row", "column sum of all layers"]
    assert all(grid.shape == (6, 13) for grid in read.maps.values())
    walk, row, _ = read.maps.values()
    assert np.isclose(walk.sum(), 1), "it has left the class token"
    assert row.sum() < 1, "the class token sees itself too"


def test_each_word_of_the_answer_has_shares_of_the_words_before(tmp_path: Path) -> None:
    folder = decoder(tmp_path).path
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    found = answered(model, tokenizer, *SHORT)
    assert "".join(found.words) == "\n\n".join(SHORT)
    assert [word for word, _ in found.sources] == [word for word in found.answer.split() if word.isalnum()]
    for _, shares in found.sources:
        assert len(shares) == len(found.words)
        assert min(shares) > 0
        assert sum(shares) < 1, "the rest is on the template, and on the answer so far"


def test_the_greatest_shares_lose_their_punctuation() -> None:
    assert greatest(["ab", " cd."], [0.5, 0.6], 1) == [("cd", 0.6)]


def test_photographs_come_from_scikit_image_or_a_folder(tmp_path: Path) -> None:
    assert {name: image.size for name, image in photographs(None)} == {
        "chelsea": (451, 300),
        "coffee": (600, 400),
        "astronaut": (512, 512),
    }
    with pytest.raises(AttentionError, match="holds no image"):
        list(photographs(tmp_path))
    for k in range(8):
        Image.new("RGB", (30, 20)).save(tmp_path / f"{k}.png")
    assert [name for name, _ in photographs(tmp_path)] == [f"{k}.png" for k in range(6)]


def test_absent_models_name_the_line_to_write(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = refused(monkeypatch, capsys, "demo", "--real", "--weights", tmp_path, "--output", tmp_path / "out")
    assert (
        f"dinov2-small is not in {tmp_path}.\nFetch it: attnchain fetch dinov2-small --output {tmp_path}. Or add --fetch."
        in said
    )
    assert not (tmp_path / "out").exists()


def test_absent_models_are_fetched_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("attnchain_evals.cli.real_demo.fetch", lambda name, home: (name, home))
    assert real_models(tmp_path, fetching=True) == (("dinov2-small", tmp_path), ("smollm2", tmp_path))
