"""Perturbation of texts on a model whose logit is a sum over its tokens, where every figure is known by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

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
from attnchain_evals.cli import app as cli
from attnchain_evals.metrics import TEXT


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
    def invoke(*options: str) -> None:
        arguments = ["bench", "run", "--model", "bundled-encoder", "--data", "key-values:test", "--limit", "3", *options]
        result = CliRunner().invoke(cli.app, [*arguments, "-o", str(tmp_path)], catch_exceptions=False)
        assert result.exit_code == 0, result.output

    metrics = ("--metrics", "comprehensiveness,srg(features='word', fractions=4)", "--methods", "Rollout,RandomRanking")
    invoke(*metrics, "--sanity", "2")
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["scores"]["Rollout"]) == {"comprehensiveness", "srg(features='word', fractions=4)"}
    protocol = report["run"]["configuration"]["metrics"]["comprehensiveness"]["protocol"]
    assert (protocol["occlusion"], protocol["features"], protocol["rounding"]) == ("attention-mask", "token", "up")
    assert report["sanity"]["Rollout"]["follows"]["passed"]
    page = (tmp_path / "report.html").read_text()
    assert page.count("<rect") == 3 * 2 * 27, "examples × methods × tokens"
    assert ">&lt;start&gt;</span>" in page
    before = (tmp_path / "rows-00000.csv").read_bytes()
    invoke(*metrics)
    assert (tmp_path / "rows-00000.csv").read_bytes() == before
    with pytest.raises(ac.AttentionError, match="'input magnitude' is a control for images"):
        invoke("--methods", "input magnitude")


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
