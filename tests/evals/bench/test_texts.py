"""Perturbation of texts on a model whose logit is a sum over its tokens, where every figure is known by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import attnchain_interp as ac
from attnchain_evals import (
    AttentionMask,
    KeyValues,
    Passage,
    Perturbation,
    ReplaceToken,
    benchmark,
    bundled_decoder,
    bundled_encoder,
    preset,
)
from attnchain_evals.bench.sanity_checks import sanity_checks
from attnchain_evals.bench.shared_capture import SharedCapture
from attnchain_evals.metrics import TEXT

from ..cli.command_line import run
from ..published_texts import byte_tokenizer, write_lines


def test_the_bundled_models_answer_by_the_asked_pair() -> None:
    """Without the asked pair, and of it alone, in every way of removal that the models know."""
    batch = next(KeyValues("validation", 8).batches(8))
    for model in (bundled_encoder(), bundled_decoder()):
        target = SharedCapture(model, batch.input_ids).target
        for occlusion in (AttentionMask(), ReplaceToken(40)):
            experiment = Perturbation(model, batch.input_ids, occlusion)
            curve = experiment.curve(batch.evidence.float(), target, features=batch.words, fractions=[2 / 24])
            assert curve.scores[:, 0].mean() > 0.9
            assert curve.scores[:, 1].mean() < 0.2


def test_a_benchmark_of_texts_goes_on_where_it_stopped(tmp_path: Path) -> None:
    data, methods = (
        KeyValues("validation", 5),
        {"Rollout": ac.Rollout(), "GMAR": ac.GMAR(), "RandomRanking": ac.RandomRanking()},
    )
    metrics = [preset(name, **TEXT) for name in ("comprehensiveness", "sufficiency")] + [preset("evidence-ap")]
    for model, folder in ((bundled_encoder(), tmp_path / "encoder"), (bundled_decoder(), tmp_path / "decoder")):
        result = benchmark(model, data, methods, metrics, batch_size=3, output=folder)
        assert result.scores["GMAR"]["comprehensiveness"].value > result.scores["RandomRanking"]["comprehensiveness"].value
        part = folder / "rows-00000.csv"
        whole = part.read_bytes()
        part.write_bytes(whole[: len(whole) // 2])
        again = benchmark(model, data, methods, metrics, batch_size=3, output=folder)
        assert again.table().equals(result.table())
    standard = benchmark(
        bundled_encoder(), [Passage(text.input_ids) for text in (data[0], data[1])], {"Rollout": ac.Rollout()}
    )
    assert list(standard.metrics)[-2:] == ["comprehensiveness", "sufficiency"], "no evidence, no figure of it"


def test_the_command(tmp_path: Path) -> None:
    of = "--model", "bundled-encoder", "--data", "key-values:test", "--limit", "3", "-o", tmp_path
    metrics = ("--metrics", "comprehensiveness,srg(features='word', fractions=4)", "--methods", "Rollout,RandomRanking")
    run("bench", "run", *of, *metrics, "--sanity", "2")
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["scores"]["Rollout"]) == {"comprehensiveness", "srg(features='word', fractions=4)"}
    protocol = report["run"]["configuration"]["metrics"]["comprehensiveness"]["protocol"]
    assert (protocol["occlusion"], protocol["features"], protocol["rounding"]) == ("attention-mask", "token", "up")
    assert report["sanity"]["Rollout"]["follows"]["passed"]
    page = (tmp_path / "report.html").read_text()
    assert page.count("<rect") == 3 * 2 * 27, "examples × methods × tokens"
    assert ">&lt;start&gt;</span>" in page
    before = (tmp_path / "rows-00000.csv").read_bytes()
    run("bench", "run", *of, *metrics)
    assert (tmp_path / "rows-00000.csv").read_bytes() == before
    with pytest.raises(ac.AttentionError, match="'input magnitude' needs images, and bundled-encoder gives none"):
        run("bench", "run", *of, "--methods", "input magnitude")


def test_sanity_of_texts() -> None:
    texts = next(KeyValues("validation", 3).batches(3)).input_ids
    methods = {"GradientAttention": ac.GradientAttention(), "RandomRanking": ac.RandomRanking()}
    for model, follows in ((bundled_encoder(), True), (bundled_decoder(), None)):
        checks = sanity_checks(model, texts, lambda _: methods)
        assert checks["GradientAttention"]["follows"].passed is follows
        assert checks["GradientAttention"]["randomised"].passed
        assert not any(check.passed for check in checks["RandomRanking"].values())


def test_texts_of_a_batch_are_equally_long() -> None:
    texts = [Passage(torch.arange(1, 6)), Passage(torch.arange(1, 5))]
    with pytest.raises(ac.AttentionError, match="batch 0 has inputs of the shapes"):
        benchmark(bundled_encoder(), texts, {"Rollout": ac.Rollout()}, [preset("srg", **TEXT)])


def test_prompts_that_a_decoder_answers(tmp_path: Path) -> None:
    """Of each prompt the file has two answers, and the decoder puts the first letter of one of them next."""
    tokenizer, sizes = byte_tokenizer(begin=True), {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    torch.manual_seed(0)
    config: Any = LlamaConfig(vocab_size=300, max_position_embeddings=64, num_attention_heads=2, **sizes)  # type: ignore[arg-type]
    model = LlamaForCausalLM(config)
    letters = tokenizer.encode("IA", add_special_tokens=False)
    with torch.no_grad():
        model.lm_head.weight[letters[1]] = -10 * model.lm_head.weight[letters[0]]
        model.lm_head.weight[letters[0]] *= 10
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "decoder")
    subjects = ["Rome", "New York", "Bonn", "Oslo", "Lima"]
    facts = [
        {"known_id": number, "subject": subject, "attribute": answer, "prompt": f"{subject} is a city of"}
        for number, subject in enumerate(subjects)
        for answer in ("Italy", "America")
    ]
    name = f"facts:{write_lines(tmp_path / 'facts.jsonl', facts)}"

    metrics = "srg(score='log-probability', occlusion='mean-embedding', fractions=4),evidence-ap"
    of = "--model", f"hf:{tmp_path / 'decoder'}", "--data", name, "--methods", "Rollout,RandomRanking", "-o", tmp_path / "run"
    run("bench", "run", *of, "--metrics", metrics, "--sanity", "2")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["examples"] == 5
    assert report["notes"][0] == (
        "Left out are 5 of 10 prompts: 5 because the model puts another token than the answer's first."
    )
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<rect") == 2 * sum(len(f"_{subject} is a city of_") for subject in subjects[:4]), "methods × tokens"
    part = tmp_path / "run" / "rows-00000.csv"
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) // 2 + 40])
    run("bench", "run", *of, "--metrics", metrics, "--sanity", "2")
    rows = [sorted(text.decode().splitlines()) for text in (whole, part.read_bytes())]
    assert sorted(set(rows[1])) == rows[0], "a batch that was cut off is measured again, bit by bit"
