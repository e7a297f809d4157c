"""Images are tested with `inspect`, in test_app.py."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers.processors import TemplateProcessing

from ...word_tokenizer import word_tokenizer
from .command_line import refused, run


@pytest.fixture
def tokenizer() -> transformers.PreTrainedTokenizerFast:
    return word_tokenizer(["[PAD]", "[UNK]", "a", "walk", "moves", "<on>"], pad_token="[PAD]")


@pytest.fixture
def decoder(tokenizer: transformers.PreTrainedTokenizerFast, tmp_path: Path) -> str:
    size: dict[str, Any] = {"vocab_size": 6, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    config = transformers.LlamaConfig(num_attention_heads=2, bos_token_id=None, eos_token_id=None, **size)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "decoder")
    tokenizer.save_pretrained(tmp_path / "decoder")
    return f"hf:{tmp_path / 'decoder'}"


@pytest.fixture
def encoder(tokenizer: transformers.PreTrainedTokenizerFast, tmp_path: Path) -> str:
    size: dict[str, Any] = {"vocab_size": 6, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    transformers.BertModel(transformers.BertConfig(num_attention_heads=2, **size)).save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    return f"hf:{tmp_path / 'encoder'}"


def test_attribute_for_a_class(photo: Path, tmp_path: Path) -> None:
    grids = []
    for target in (("--target", "3"), ("--target", "7")):
        options = ("--method", "GradientMultiBounce(steps=1)", *target)
        printed = run("attribute", "bundled", photo, "--output", tmp_path, *options).split()
        assert Path(printed[0]).name == "photo-GradientMultiBounce-steps-1.png"
        grids.append(json.loads(Path(printed[1]).read_text())["grid"])
    assert not np.allclose(*grids)


def test_a_text_is_shaded_for_each_token_after_it(decoder: str, tmp_path: Path) -> None:
    printed = run("attribute", decoder, "a walk moves", "--target", "walk a", "--output", tmp_path / "out").splitlines()
    assert printed[:2] == [
        str(tmp_path / "out/a-walk-moves-TokenRank.html"),
        str(tmp_path / "out/a-walk-moves-TokenRank.json"),
    ]
    assert sorted(line.split()[1] for line in printed[2:]) == ["a", "moves", "walk"], "the greatest words"
    scores = json.loads(Path(printed[1]).read_text())
    assert (scores["text"], scores["target"]) == ("a walk moves", "walk a")
    assert (scores["input_tokens"], scores["output_tokens"]) == (["a", "walk", "moves"], ["walk", "a"])
    assert np.shape(scores["scores"]) == (2, 3)
    page = Path(printed[0]).read_text("utf-8")
    assert re.findall(r'<span id="\w+" class="w"[^>]*>(\w+)<', page) == ["a", "walk", "moves"]
    assert page.count('type="radio"') == 2, "one for each output token"
    assert "<title>TokenRank(LlamaForCausalLM) · hf:" in page


def test_a_text_as_a_figure_and_by_its_sentences(decoder: str, tmp_path: Path) -> None:
    picture = tmp_path / "new" / "walk.svg"
    options = ("--target", "walk a", "--features", "word", "--output", picture)
    printed = run("attribute", decoder, "a walk moves", *options).splitlines()
    assert printed[:2] == [str(picture), str(picture.with_suffix(".json"))]
    assert sorted(line.split()[1] for line in printed[2:]) == ["a", "moves", "walk"]
    assert sum(float(line.split()[0].rstrip("%")) for line in printed[2:]) == pytest.approx(100, abs=0.2)
    assert ">moves</text>" in picture.read_text("utf-8")


def test_photographs_side_by_side_at_their_own_resolution(photo: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (90, 40), "red").save(other := tmp_path / "red.png")
    options = ("--output", tmp_path / "two.svg", "--smooth", "--keep-sinks", "--method", "ColumnSum")
    printed = run("attribute", "bundled", photo, other, *options).split()
    assert np.shape(json.loads(Path(printed[1]).read_text())["grids"])[0] == 2
    drawn = (tmp_path / "two.svg").read_text("utf-8")
    assert all(f">{said}</text>" in drawn for said in ("photo.png", "red.png", "bundled"))
    assert ">score" in drawn


def test_resolution_is_chosen(photo: Path, tmp_path: Path) -> None:
    from PIL import Image

    widths = []
    for dpi in ("50", "100"):
        run("attribute", "bundled", photo, "--output", tmp_path / "x.png", "--dpi", dpi)
        widths.append(Image.open(tmp_path / "x.png").width)
    assert widths[1] == pytest.approx(2 * widths[0], abs=1)


def test_a_decoder_goes_on_where_no_target_is_given(decoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("attnchain_evals.cli.attribute.announce", said.append)
    for options, written in (((), 25), (("--max-new-tokens", "3"), 3)):
        printed = run("attribute", decoder, "a walk", "--method", "Rollout", "--output", tmp_path / "out", *options).split()
        tokens = json.loads(Path(printed[1]).read_text())["output_tokens"]
        assert len(tokens) == written
        assert said.pop().startswith("The model goes on: '")


def test_a_class_is_no_matter_of_attention_alone(
    photo: Path, encoder: str, decoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("attnchain_evals.cli.attribute.announce", told.append)
    for method, said in (("TokenRank", True), ("GradientTokenRank", False)):
        run("attribute", "bundled", photo, "--target", "3", "--method", method, "--output", tmp_path)
        assert ("it gives the same for every class" in told[-1]) is said
    for model, target, said in ((encoder, "3", True), (decoder, "walk", False)):
        told.clear()
        run("attribute", model, "a walk moves", "--target", target, "--output", tmp_path)
        assert any("it gives the same for every class" in each for each in told) is said


def test_a_text_of_an_encoder_has_one_row(encoder: str, tmp_path: Path) -> None:
    printed = run("attribute", encoder, "a walk", "--method", "ColumnSum", "--output", tmp_path / "out").split()
    assert np.shape(json.loads(Path(printed[1]).read_text())["scores"]) == (1, 2)


def classifier(tokenizer: transformers.PreTrainedTokenizerFast, folder: Path, bias: list[float]) -> str:
    size: dict[str, Any] = {"vocab_size": 6, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    config = transformers.BertConfig(num_attention_heads=2, **size, **dict[str, Any](num_labels=len(bias)))
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config)
    model.classifier.bias.data = torch.tensor(bias, dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return f"hf:{folder}"


def test_a_text_classifier_is_asked_about_the_class_that_it_predicts(
    tokenizer: transformers.PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model, found = classifier(tokenizer, tmp_path / "classifier", [0, 0, 9]), []
    for given in ([], ["--target", "2"]):
        method = ["--method", "GradientTokenRank", "--output", tmp_path / "out", *given]
        printed = run("attribute", model, "a walk moves", *method).split()
        found.append(json.loads(Path(printed[1]).read_text()))
    assert found[0]["output_tokens"] == ["LABEL_2"]
    assert found[0]["scores"] == found[1]["scores"]


def test_every_method_of_a_target_explains_the_predicted_class(
    tokenizer: transformers.PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    size: dict[str, Any] = {"vocab_size": 6, "n_embd": 32, "n_head": 2, "n_layer": 2, "pad_token_id": 0, "num_labels": 3}
    transformers.GPT2ForSequenceClassification(transformers.GPT2Config(**size)).save_pretrained(tmp_path / "classifier")
    tokenizer.save_pretrained(tmp_path / "classifier")
    outputs = list[list[str]]()
    for method in ("LogitTokenRank", "GradientTokenRank"):
        options = ["--method", method, "--output", tmp_path / "out"]
        printed = run("attribute", f"hf:{tmp_path / 'classifier'}", "a walk moves", *options).split()
        outputs.append(json.loads(Path(printed[1]).read_text())["output_tokens"])
    assert outputs[0] == outputs[1]
    assert outputs[0][0].startswith("LABEL_")


def test_the_class_is_that_of_the_tokens_that_are_attributed(
    tokenizer: transformers.PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A special token that the text begins with is not added once more."""
    tokenizer.add_special_tokens({"cls_token": "<on>"})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<on> $A", special_tokens=[("<on>", 5)])
    model, lengths = classifier(tokenizer, tmp_path / "classifier", [0, 0, 9]), set[int]()
    forward = transformers.BertForSequenceClassification.forward

    def seen(self: Any, input_ids: Any = None, **options: Any) -> Any:
        lengths.add(input_ids.shape[1])
        return forward(self, input_ids, **options)

    monkeypatch.setattr(transformers.BertForSequenceClassification, "forward", seen)
    for text in ("a walk moves", "<on> a walk moves"):
        run("attribute", model, text, "--method", "GradientTokenRank", "--output", tmp_path / "out")
        assert 4 in lengths
        assert 5 not in lengths


@pytest.mark.parametrize("method", ["LeaveOneOut", "ShapleyValues", "IntegratedGradients", "GradientTokenRank"])
def test_a_model_with_one_logit_is_asked_about_it(
    tokenizer: transformers.PreTrainedTokenizerFast, tmp_path: Path, method: str
) -> None:
    """A regressor, or a reward model."""
    model = classifier(tokenizer, tmp_path / "regressor", [0])
    printed = run("attribute", model, "a walk moves", "--method", method, "--output", tmp_path / "out").split()
    assert np.any(json.loads(Path(printed[1]).read_text())["scores"])


def test_what_fits_no_model_is_refused(
    photo: Path, decoder: str, encoder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(monkeypatch, capsys, "attribute", decoder, photo)
    assert f"takes no images, and {photo} is a file.\nWrite a text in quotes." in said
    assert "no tokenizer for a text" in refused(monkeypatch, capsys, "attribute", "bundled-decoder", "a walk")
    assert "2 texts are given" in refused(monkeypatch, capsys, "attribute", encoder, "a walk", "moves")
    said = refused(monkeypatch, capsys, "attribute", "bundled", photo, "--output", "page.html", status=2)
    assert "ends in '.html'.\nEnd the name of the file in .png" in said
    said = refused(monkeypatch, capsys, "attribute", encoder, "a walk", "--max-new-tokens", "25")
    assert f"--max-new-tokens has no effect on {encoder}, which writes no text.\nLeave it out." in said
    assert not Path("page.html").exists()
    for model, source in (("bundled", str(photo)), (encoder, "a walk")):
        said = refused(monkeypatch, capsys, "attribute", model, source, "--target", "cat")
        assert "--target is 'cat'; it is the number of a class" in said


def test_an_unknown_method_is_refused_with_the_known_ones(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("attribute", "bundled", photo, "--method", "nothing")
    assert "method 'nothing' is unknown.\nUse one of AttentionFlow" in refused(monkeypatch, capsys, *arguments, status=2)


def test_the_maps_of_a_method(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    grids = []
    for maps in ((), ("--maps", "projection"), ("--maps", "attention")):
        printed = run("attribute", "bundled", photo, "--output", tmp_path, "--method", "TokenRank(damping=0.9)", *maps).split()
        grids.append(json.loads(Path(printed[1]).read_text())["grid"])
    assert np.allclose(grids[0], grids[2])
    assert not np.allclose(grids[0], grids[1])
    refusal = refused(
        monkeypatch, capsys, "attribute", "bundled", photo, "--method", "RandomRanking", "--maps", "alti", status=2
    )
    assert "has no setting 'maps'" in refusal
