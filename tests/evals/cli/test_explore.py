"""`attnchain explore`, of images and of texts."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import transformers
from PIL import Image

from attnchain_evals.report import explorer_pages
from attnchain_interp import Reading, capture, explore

from ...word_tokenizer import word_tokenizer
from .command_line import refused, run


def header(page: Path) -> dict[str, Any]:
    """What an explorer page says of itself."""
    found = re.search(r'id="header">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert found is not None
    return json.loads(found[1])


def test_explore_images(
    photo: Path,
    timm_folder: str,
    hf_folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "page.html"
    assert run("explore", "bundled", "--output", out, "--methods", "TokenRank,ExpectedVisits").strip() == str(out)
    bundled = header(out)
    assert bundled["title"] == "bundled · test image"
    assert [method["name"] for method in bundled["methods"]] == ["TokenRank", "ExpectedVisits"]
    assert all(len(method["curve"]["scores"]) == 21 for method in bundled["methods"])
    assert len(bundled["targets"]) == 2
    run("explore", timm_folder, photo, "--output", out, "--methods", "ColumnSum", "--target", "7", "--max-mb", "0.2")
    named = header(out)
    assert named["title"] == f"{timm_folder} · photo.png, the part that the model reads"
    assert named["targets"][0].startswith("class 7, ")
    assert out.stat().st_size <= 200_000
    run("explore", hf_folder, photo, "--output", out, "--methods", "ColumnSum")
    without = header(out)
    with Image.open(io.BytesIO(base64.b64decode(without["image"].partition(",")[2]))) as shown:
        assert shown.size == (100, 80), "the photograph, not the model's input"
    assert (without["targets"], [method["name"] for method in without["methods"]]) == ([], ["ColumnSum"])
    assert without["methods"][0]["curve"] is None
    said = refused(monkeypatch, capsys, "explore", hf_folder, photo, "--methods", "ColumnSum,GradientTokenRank", status=2)
    assert "method 'GradientTokenRank' needs logits" in said
    said = refused(monkeypatch, capsys, "explore", hf_folder, photo, "--target", "3")
    assert f"--target has no effect on {hf_folder}, which has no classes" in said


def test_explore_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = word_tokenizer(["[UNK]", "[PAD]", "attention", "moves", "on"], pad_token="[PAD]")
    small: dict[str, Any] = {"vocab_size": 5, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    encoder = transformers.BertConfig(**small, num_attention_heads=2, id2label={0: "dull", 1: "<b>"})
    models = {
        "encoder": transformers.BertForSequenceClassification(encoder),
        "decoder": transformers.LlamaForCausalLM(transformers.LlamaConfig(**small, num_attention_heads=2)),
        "headless": transformers.BertModel(encoder),
    }
    out = tmp_path / "page.html"
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        run("explore", f"hf:{tmp_path / name}", "attention moves on and on", "--output", out)
        found = header(out)
        assert found["labels"][:5] == ["attention", "moves", "on", "[UNK]", "on"]
        assert found["outputs"] == list(range(5, len(found["labels"])))
        assert (1 if name == "decoder" else 0) <= len(found["outputs"]) <= 8
        assert found["contributions"]["what"] == "means"
        assert found["causal"] == (name == "decoder")
        if name == "headless":
            assert found["targets"] == []
            continue
        assert ("Rollout" in [method["name"] for method in found["methods"]]) == (name == "encoder")
        assert len(found["methods"]) == (5 if name == "encoder" else 4)
        expected = {"dull", "<b>"} if name == "encoder" else {repr(word) for word in tokenizer.get_vocab()}
        assert {target.rsplit(",", 1)[0] for target in found["targets"]} <= expected
        assert all(method["curve"]["fractions"][-1] == 1 for method in found["methods"])
    run("explore", f"hf:{tmp_path / 'decoder'}", "attention moves", "--max-new-tokens", "0", "--output", out)
    assert header(out)["labels"] == ["attention", "moves"]
    said = refused(monkeypatch, capsys, "explore", f"hf:{tmp_path / 'encoder'}", "attention moves", "--max-new-tokens", "3")
    assert "--max-new-tokens has no effect on hf:" in said
    assert "needs an INPUT" in refused(monkeypatch, capsys, "explore", f"hf:{tmp_path / 'decoder'}")
    assert "has no tokenizer for a text" in refused(monkeypatch, capsys, "explore", "bundled-decoder"), "no text would do"
    said = refused(monkeypatch, capsys, "explore", f"hf:{tmp_path / 'decoder'}", out, "--output", tmp_path / "other.html")
    assert f"takes no images, and {out} is a file" in said
    assert "the text has no tokens" in refused(monkeypatch, capsys, "explore", f"hf:{tmp_path / 'decoder'}", "")
    t5: dict[str, Any] = {"d_model": 32, "d_kv": 16, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 1}
    both = transformers.T5ForConditionalGeneration(transformers.T5Config(vocab_size=5, **t5))
    both.save_pretrained(tmp_path / "both")
    tokenizer.save_pretrained(tmp_path / "both")
    said = refused(monkeypatch, capsys, "explore", f"hf:{tmp_path / 'both'}", "attention moves")
    assert "T5ForConditionalGeneration is an encoder–decoder" in said
    inputs = tokenizer("attention moves", return_tensors="pt")
    store = capture(both.eval(), **inputs, decoder_input_ids=inputs.input_ids, reading=Reading(kind="encoder"))
    assert explore(store).write(out).exists(), "as the message says"
    monkeypatch.setattr(explorer_pages, "_LONGEST", 3)
    run("explore", f"hf:{tmp_path / 'encoder'}", "attention moves on and on", "--output", out)
    assert {method["curve"] for method in header(out)["methods"]} == {None}
