"""The command line, called as its user calls it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import transformers
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from typer.testing import CliRunner

import attnchain_interp as ac
from attnchain_evals.cli import app as cli
from attnchain_interp.capture import verification


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What the program says when it exits with 1."""
    monkeypatch.setattr(sys, "argv", ["attnchain", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    return capsys.readouterr().err


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture
def timm_folder(tmp_path: Path) -> str:
    """A timm model on disk, as `timm:local-dir:…` reads it."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    arguments: dict[str, Any] = {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 3}
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, **arguments)
    save_file(model.state_dict(), folder / "model.safetensors")
    config: dict[str, Any] = {"architecture": "vit_tiny_patch16_224", "num_classes": 1000, "model_args": arguments}
    config["pretrained_cfg"] = {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.5] * 3}
    (folder / "config.json").write_text(json.dumps(config))
    return f"timm:local-dir:{folder}"


@pytest.fixture
def hf_folder(tmp_path: Path) -> str:
    folder = tmp_path / "dino"
    config = transformers.Dinov2Config(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, image_size=56, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(folder)
    size = {"height": 56, "width": 56}
    transformers.ViTImageProcessor(size=size).save_pretrained(folder)
    return f"hf:{folder}"


def test_demo(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    printed = run("demo", "--images", "3", "--out", out)
    pictures = {"attributions.png", "layers.png", "bounces.png", "heads.png", "states.png"}
    reports = {"report.json", "report.md", "report.html"}
    pages = {"explorer.html"}
    assert {file.name for file in out.iterdir()} == {
        *pictures,
        *reports,
        *pages,
        "run.json",
        "rows-00000.csv",
        "examples.safetensors",
    }
    assert all(str(out / name) in printed for name in pictures | reports | pages)
    report = json.loads((out / "report.json").read_text())
    assert set(report["scores"]) == set(cli.DEMO)
    data = report["run"]["configuration"]["data"]
    assert data == {"name": "ClutteredDigits", "split": "test", "length": 3, "seed": 0, "difficulty": 1.0}
    score = report["scores"]["TokenRank"]["srg/mean"]
    assert score["low"] <= score["value"] <= score["high"]
    for name in pictures:
        with Image.open(out / name) as picture:
            assert min(picture.size) > 100


def test_attribute_and_inspect(photo: Path, timm_folder: str, hf_folder: str, tmp_path: Path) -> None:
    for model, side, route in (("bundled", 14, "timm"), (timm_folder, 4, "timm"), (hf_folder, 4, "transformers")):
        out = tmp_path / "out" / str(len(model))
        printed = run("attribute", model, photo, "--out", out, "--method", "ColumnSum").split()
        assert printed == [str(out / "photo-ColumnSum.png"), str(out / "photo-ColumnSum.json")]
        scores = json.loads(Path(printed[1]).read_text())
        assert np.shape(scores["grid"]) == (side, side)
        shown = run("inspect", model)
        assert f"by the {route} adapter, route sdpa" in shown
        assert f"grid {side}×{side}" in shown
        assert "row sums 1.000000 … 1.000000" in shown or "row sums 0.999999" in shown


def test_attribute_for_a_class(photo: Path, tmp_path: Path) -> None:
    grids = []
    for target in (("--target", "3"), ("--target", "7")):
        options = ("--method", "GradientMultiBounce(steps=1)", *target)
        printed = run("attribute", "bundled", photo, "--out", tmp_path, *options).split()
        assert Path(printed[0]).name == "photo-GradientMultiBounce-steps-1.png"
        grids.append(json.loads(Path(printed[1]).read_text())["grid"])
    assert not np.allclose(*grids)


def header(page: Path) -> dict[str, Any]:
    """What an explorer page says of itself."""
    found = re.search(r'id="header">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert found is not None
    return json.loads(found[1])


def test_explore_images(photo: Path, timm_folder: str, hf_folder: str, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert run("explore", "bundled", "--out", out, "--methods", "TokenRank,ExpectedVisits").strip() == str(out)
    bundled = header(out)
    assert bundled["title"] == "bundled · test image"
    assert [method["name"] for method in bundled["methods"]] == ["TokenRank", "ExpectedVisits"]
    assert all(len(method["curve"]["scores"]) == 21 for method in bundled["methods"])
    assert len(bundled["targets"]) == 2
    run("explore", timm_folder, photo, "--out", out, "--methods", "ColumnSum", "--target", "7", "--max-mb", "0.2")
    named = header(out)
    assert named["title"] == f"{timm_folder} · photo.png"
    assert named["targets"][0].startswith("class 7, ")
    assert out.stat().st_size <= 200_000
    run("explore", hf_folder, photo, "--out", out, "--methods", "ColumnSum,GradientTokenRank")
    without = header(out)
    assert (without["targets"], [method["name"] for method in without["methods"]]) == ([], ["ColumnSum"])
    assert without["methods"][0]["curve"] is None


def test_explore_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = Tokenizer(WordLevel({"[UNK]": 0, "[PAD]": 1, "attention": 2, "moves": 3, "on": 4}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]")
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
        run("explore", f"hf:{tmp_path / name}", "attention moves on and on", "--out", out)
        found = header(out)
        assert found["labels"] == ["attention", "moves", "on", "[UNK]", "on"]
        assert found["causal"] == (name == "decoder")
        if name == "headless":
            assert found["targets"] == []
            continue
        assert len(found["methods"]) == 5
        expected = {"dull", "<b>"} if name == "encoder" else {repr(word) for word in words.get_vocab()}
        assert {target.rsplit(",", 1)[0] for target in found["targets"]} <= expected
        assert all(method["curve"]["fractions"][-1] == 1 for method in found["methods"])
    assert "needs an INPUT" in refused(monkeypatch, capsys, "explore", f"hf:{tmp_path / 'decoder'}")


def test_inspect_of_models_of_text_and_sound(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = Tokenizer(WordLevel({"[UNK]": 0, "Attention": 1, "moves": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words)
    sizes: dict[str, Any] = {"vocab_size": 9, "d_model": 48, "num_layers": 2, "num_heads": 3, "d_kv": 16, "d_ff": 32}
    transformers.T5Model(transformers.T5Config(**sizes)).save_pretrained(tmp_path / "text")
    tokenizer.save_pretrained(tmp_path / "text")
    text = f"hf:{tmp_path / 'text'}"
    shown = run("inspect", text, "--strong", "--kind", "cross")
    assert "decoder.block.1.layer.1.EncDecAttention" in shown
    assert shown.count("overwritten, the output moves by") == 2
    assert "the strong check holds" in shown
    assert 'say which is meant: kind="encoder"' in refused(monkeypatch, capsys, "inspect", text)
    assert "takes no images" in refused(monkeypatch, capsys, "attribute", text, photo)
    sound = transformers.Wav2Vec2Config(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=32, conv_dim=[8] * 7
    )
    transformers.Wav2Vec2Model(sound).save_pretrained(tmp_path / "sound")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "sound")
    assert "49 tokens: 49 frame" in run("inspect", f"hf:{tmp_path / 'sound'}")


def test_the_strong_check_of_a_model_of_images(timm_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the strong check holds" in run("inspect", timm_folder, "--strong")
    monkeypatch.setattr(verification, "_overwritten", lambda _, maps: maps)
    with pytest.raises(ac.AttentionError, match="these are not the maps that the model uses, or a layer does not count"):
        run("inspect", timm_folder, "--strong")


def test_attribute_without_a_class_token_names_the_way_out(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("attribute", "bundled", photo, "--method", "nothing")
    assert "method 'nothing' is unknown. Use one of AttentionFlow" in refused(monkeypatch, capsys, *arguments)


def test_what_is_refused(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    truncated = tmp_path / "half.png"
    truncated.write_bytes(photo.read_bytes()[:2000])
    for file, message in ((text, "not a readable image"), (truncated, "not a readable image"), ("no.png", "no file")):
        assert message in refused(monkeypatch, capsys, "attribute", "bundled", file)
    names = "bundled, bundled-decoder, bundled-encoder, timm:NAME, hf:NAME or torchvision:NAME"
    assert f"Write {names}" in refused(monkeypatch, capsys, "inspect", "vit")
    assert "timm could not load 'no_such_model'" in refused(monkeypatch, capsys, "inspect", "timm:no_such_model")
    assert "transformers could not load" in refused(monkeypatch, capsys, "inspect", f"hf:{tmp_path / 'none'}")
    assert "needs at least two" in refused(monkeypatch, capsys, "demo", "--images", "1")


def test_a_programming_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ValueError("not ours")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(ValueError, match="not ours"):
        cli.main()


def test_the_installed_command() -> None:
    command = Path(sys.executable).with_name("attnchain")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)  # noqa: S603
    assert all(name in done.stdout for name in ("demo", "attribute", "inspect"))


def test_the_deciding_patch_is_found() -> None:
    from attnchain_evals import ClutteredDigits, bundled_vit
    from attnchain_evals.cli.demo import patch_on
    from attnchain_interp import capture

    example = ClutteredDigits("test", 1)[0]
    store = capture(bundled_vit(), example.image[None], layers=-1)
    row, column = divmod(patch_on(example.mask, store) - 1, 14)
    assert bool(example.mask[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].any())
