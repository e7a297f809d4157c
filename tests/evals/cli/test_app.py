"""The command line, called as its user calls it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

import attnchain_interp as ac
from attnchain_evals.cli import app as cli
from attnchain_interp.capture import verification

from ...word_tokenizer import word_tokenizer
from .command_line import commands, refused, run


def test_attribute_and_inspect(photo: Path, timm_folder: str, hf_folder: str, tmp_path: Path) -> None:
    for model, side, route in (("bundled", 14, "timm"), (timm_folder, 4, "timm"), (hf_folder, 4, "transformers")):
        out = tmp_path / "out" / str(len(model))
        printed = run("attribute", model, photo, "--output", out, "--method", "ColumnSum").split()
        assert printed == [str(out / "photo-ColumnSum.png"), str(out / "photo-ColumnSum.json")]
        scores = json.loads(Path(printed[1]).read_text())
        assert np.shape(scores["grid"]) == (side, side)
        shown = run("inspect", model)
        assert f"by the {route} adapter, route sdpa" in shown
        assert f"grid {side}×{side}" in shown
        assert "row sums 1.000000 … 1.000000" in shown or "row sums 0.999999" in shown
        assert "   1 heads" in run("inspect", model, "--maps", "norm")


def test_inspect_of_models_of_text_and_sound(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes: dict[str, Any] = {"vocab_size": 9, "d_model": 48, "num_layers": 2, "num_heads": 3, "d_kv": 16, "d_ff": 32}
    transformers.T5Model(transformers.T5Config(**sizes)).save_pretrained(tmp_path / "text")
    word_tokenizer(["[UNK]", "Attention", "moves"]).save_pretrained(tmp_path / "text")
    text = f"hf:{tmp_path / 'text'}"
    shown = run("inspect", text, "--strong", "--kind", "cross")
    assert "decoder.block.1.layer.1.EncDecAttention" in shown
    assert shown.count("overwritten, the output moves by") == 2
    assert "the strong check holds" in shown
    assert 'Reading(…) with kind="encoder"' in refused(monkeypatch, capsys, "inspect", text)
    assert "takes no images" in refused(monkeypatch, capsys, "attribute", text, photo)
    sound = transformers.Wav2Vec2Config(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=32, conv_dim=[8] * 7
    )
    transformers.Wav2Vec2Model(sound).save_pretrained(tmp_path / "sound")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "sound")
    assert "49 tokens: 49 frame" in run("inspect", f"hf:{tmp_path / 'sound'}")


def test_the_strong_check_of_a_model_of_16_bits_is_made_in_32(hf_folder: str) -> None:
    path = hf_folder.removeprefix("hf:")
    transformers.AutoModel.from_pretrained(path).bfloat16().save_pretrained(path)
    shown = run("inspect", hf_folder, "--strong")
    assert "in float32, with the captured maps in the model's place, its output deviates by" in shown
    assert "the strong check holds" in shown


def test_the_strong_check_of_a_model_of_images(timm_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the strong check holds" in run("inspect", timm_folder, "--strong")
    monkeypatch.setattr(verification, "_overwritten", lambda _, maps: maps)
    with pytest.raises(ac.AttentionError, match="these are not the maps that the model uses, or a layer does not count"):
        run("inspect", timm_folder, "--strong")


def test_what_is_refused(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    truncated = tmp_path / "half.png"
    truncated.write_bytes(photo.read_bytes()[:2000])
    for file, message in ((text, "not a readable image"), (truncated, "not a readable image"), ("no.png", "no file")):
        assert message in refused(monkeypatch, capsys, "attribute", "bundled", file)
    names = "bundled, bundled-decoder, bundled-encoder, timm:NAME, hf:NAME or hf:FOLDER"
    assert f"\nUse {names}" in refused(monkeypatch, capsys, "inspect", "vit")
    assert "timm knows no model 'no_such_model'" in refused(monkeypatch, capsys, "inspect", "timm:no_such_model")
    assert "there is no folder" in refused(monkeypatch, capsys, "inspect", f"hf:{tmp_path / 'none'}")
    assert "greater than or equal to 2" in refused(monkeypatch, capsys, "demo", "--images", "1", status=2)


def test_a_programming_error_has_its_traceback_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ValueError("not ours")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert "error: this was not foreseen: ValueError: not ours\nPlease report it" in capsys.readouterr().err
    monkeypatch.setenv("ATTNCHAIN_TRACEBACK", "1")
    with pytest.raises(ValueError, match="not ours"):
        cli.main()


def test_a_warning_is_said_without_a_place_in_the_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = warnings.showwarning
    monkeypatch.setattr(cli, "app", lambda: warnings.warn("Rollout is worse.", stacklevel=1))
    cli.main()
    assert capsys.readouterr().err == "warning: Rollout is worse.\n"
    assert warnings.showwarning is before


def test_the_usage_of_every_command_is_plain() -> None:
    """An argument has a name in capitals, without dots: typer adds them. No help text sends to another command's."""
    for name, command in commands().items():
        for each in command.params:
            assert each.param_type_name == "option" or re.fullmatch("[A-Z]+", each.metavar or ""), (name, each.name)
            assert "--help" not in (each.help or ""), (name, each.name)
    texts = {name: next(each.help for each in commands()[name].params if each.name == "model") for name in TAKES}
    assert {name: [known for known in NAMED if known in text] for name, text in texts.items()} == TAKES


NAMED = ("bundled-decoder", "diffusers:NAME", "file of a store", "python:MODULE:FUNCTION")
TAKES = {
    "attribute": ["python:MODULE:FUNCTION"],
    "bench run": ["bundled-decoder", "python:MODULE:FUNCTION"],
    "explore": ["python:MODULE:FUNCTION"],
    "figure layers": ["python:MODULE:FUNCTION"],
    "inspect": ["bundled-decoder", "file of a store", "python:MODULE:FUNCTION"],
    "reproduce imagenet-segmentation": ["python:MODULE:FUNCTION"],
    "segment": ["diffusers:NAME", "python:MODULE:FUNCTION"],
}


def test_the_installed_command() -> None:
    command = Path(sys.executable).with_name("attnchain")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)  # noqa: S603
    assert all(name in done.stdout for name in ("demo", "attribute", "inspect"))
