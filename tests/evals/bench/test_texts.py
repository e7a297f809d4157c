"""Perturbation of texts on a model whose logit is a sum over its tokens, where every figure is known by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import attnchain_interp as ac
from attnchain_evals import (
    AttentionMask,
    KeyValues,
    MeanColour,
    PadToken,
    Passage,
    Perturbation,
    ReplaceToken,
    TokenDelete,
    Trial,
    benchmark,
    bundled_decoder,
    bundled_encoder,
    perturbation_curve,
    preset,
    words_of,
)
from attnchain_evals.bench.sanity_checks import sanity_checks
from attnchain_evals.bench.shared_capture import Reading
from attnchain_evals.cli import app as cli
from attnchain_evals.metrics import OF_TEXT, TEXT
from attnchain_evals.perturbation.features import each_token, ranked

WEIGHTS = torch.tensor([9.0, 2.0, 1.0, 0.0, -1.0])
IDS = torch.arange(1, 6).expand(2, -1).clone()  # token t + 1 has weight WEIGHTS[t]; tokens 0 and 9 have none
WORDS = torch.tensor([[-1, 0, 1, 2, 3]] * 2)  # the first token is special
ORACLE = WEIGHTS.expand(2, -1)


class Sum(nn.Module):
    """Logits 0 and the sum of the weights of the tokens but the first, minus 1.5."""

    config = type("Config", (), {"pad_token_id": 0})

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        weights = torch.cat([torch.zeros(1), WEIGHTS, torch.zeros(4)])[input_ids]
        weights = weights if attention_mask is None else weights * attention_mask
        logit = (weights * (input_ids != 1)).sum(1) - 1.5
        return torch.stack([torch.zeros_like(logit), logit], 1)


class Next(Sum):
    """The same at the last of several positions, as a language model has it."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        logits = super().forward(input_ids, attention_mask)[:, None]
        return type("Output", (), {"logits": torch.cat([torch.randn_like(logits), logits], 1)})


def trial(model: nn.Module | None = None, words: Tensor | None = WORDS, mask: Tensor | None = None) -> Trial:
    return Trial((model or Sum()).eval(), IDS, torch.tensor([1, 1]), mask, words=words)


def p(*logits: float) -> list[float]:
    return torch.tensor(logits).sigmoid().tolist()


@pytest.mark.parametrize("occlusion", [AttentionMask(), ReplaceToken(9), PadToken(), TokenDelete(), "pad-token"])
@pytest.mark.parametrize("model", [Sum(), Next()])
def test_curves_by_hand(occlusion: Any, model: nn.Module) -> None:
    """x: 2 + 1 + 0 − 1 − 1.5 = 0.5; then without 2, without 1, without 0, without all. The first token stays."""
    options: dict[str, Any] = {"occlusion": occlusion, "features": WORDS, "fractions": 4, "target": 1}
    curve = perturbation_curve(model.eval(), IDS, ORACLE, **options)
    assert curve.fractions.tolist() == [[0, 0.25, 0.5, 0.75, 1]] * 2
    assert curve.scores[1].tolist() == pytest.approx(p(0.5, -1.5, -2.5, -2.5, -1.5))
    insertion = perturbation_curve(model, IDS, ORACLE, mode="insertion", **options)
    assert insertion.scores[0].tolist() == pytest.approx(p(-1.5, 0.5, 1.5, 1.5, 0.5))
    random = perturbation_curve(model, IDS, ORACLE, order="random", **options)
    assert random.scores[0, [0, -1]].tolist() == pytest.approx(p(0.5, -1.5))


def test_words_are_removed_together_and_score_the_sum_of_their_tokens() -> None:
    words = torch.tensor([[-1, 0, 1, 1, 0], [-1, 0, 0, 0, 1]])
    found = ranked(ORACLE, IDS, words)
    assert found.scores.tolist() == [[1, 1], [3, -1]]
    assert found.sizes.tolist() == [2, 2]
    curve = perturbation_curve(Sum().eval(), IDS, ORACLE, 1, occlusion="pad-token", features=words, fractions=2)
    assert curve.scores[0].tolist() == pytest.approx(p(0.5, -0.5, -1.5))
    assert curve.scores[1].tolist() == pytest.approx(p(0.5, -2.5, -1.5))
    metric = preset("srg", occlusion="pad-token", features="word", fractions=2)
    areas = metric.measure(trial(words=words), ORACLE)[1].tolist()
    clean, last, first, none = p(0.5, 1.5, -2.5, -1.5)
    assert areas[1:] == pytest.approx([(clean + none) / 4 + last / 2, (clean + none) / 4 + first / 2])
    assert each_token(words).tolist() == [[-1, 0, 1, 2, 3]] * 2


def test_words_of_a_tokenizer() -> None:
    class Encoding(dict[str, Any]):
        def word_ids(self, k: int) -> list[int | None]:
            return [[None, 0, 0, 2, None], [None, 5, 6, None, None]][k]

    assert words_of(Encoding(input_ids=[0, 0])).tolist() == [[-1, 0, 0, 1, -1], [-1, 0, 1, -1, -1]]
    with pytest.raises(ac.AttentionError, match="(?s)dict knows no words .* fast tokenizer"):
        words_of({"input_ids": [0]})


def test_eraser_rounds_up_to_whole_tokens() -> None:
    """Of four ranked tokens 1 % is one, 30 % two: of x = 0.5, −1.5 without the first and −2.5 without two."""
    settings: dict[str, Any] = {"occlusion": "pad-token", "features": "token", "fractions": (0.01, 0.3, 0.5)}
    clean, without_one, without_two, one, two = p(0.5, -1.5, -2.5, 0.5, 1.5)
    needed = preset("comprehensiveness", **settings).measure(trial(), ORACLE)
    assert needed[:, 0].tolist() == pytest.approx([clean - (without_one + 2 * without_two) / 3] * 2)
    enough = preset("sufficiency", **settings).measure(trial(), ORACLE)
    assert enough[:, 0].tolist() == pytest.approx([clean - (one + 2 * two) / 3] * 2)


@pytest.mark.parametrize("name", OF_TEXT)
def test_the_oracle_is_best_and_its_reverse_worst(name: str) -> None:
    settings = {**TEXT, "occlusion": "pad-token"} | ({"groups": 4} if name == "saco" else {})
    metric = preset(name, **settings)
    sign = 1 if metric.higher_is_better else -1
    generator = torch.Generator().manual_seed(0)

    def score(scores: Tensor) -> float:
        return sign * float(metric.measure(trial(), scores)[:, 0].mean())

    best, worst = score(ORACLE), score(-ORACLE)
    others = [score(torch.rand(2, 5, generator=generator)) for _ in range(20)]
    assert worst < best
    assert best >= max(others) - 1e-6
    assert name == "saco" or worst <= min(others) + 1e-6


def test_a_text_is_in_no_batch_of_its_own_making() -> None:
    experiments = [Perturbation(Sum().eval(), IDS, "pad-token", batch_size=size) for size in (1, 64)]
    curves = [each.curve(torch.rand(2, 5, generator=torch.Generator().manual_seed(0)), features=WORDS) for each in experiments]
    assert torch.equal(curves[0].scores, curves[1].scores)


def test_evidence_by_hand() -> None:
    """Evidence at ranks 1 and 3 of 4: (1/1 + 2/3) / 2; at ranks 3 and 4: (1/3 + 2/4) / 2. All equal: the base rate."""
    evidence = torch.tensor([[False, True, False, True, False], [False, False, False, True, True]])
    on = trial(mask=evidence)
    precision, first = preset("evidence-ap"), preset("evidence-first")
    assert precision.measure(on, ORACLE)[:, 0].tolist() == pytest.approx([5 / 6, 5 / 12])
    assert first.measure(on, ORACLE)[:, 0].tolist() == [1, 0]
    assert precision.measure(on, torch.zeros(2, 5))[:, 0].tolist() == pytest.approx([0.5, 0.5])
    assert first.measure(on, torch.zeros(2, 5))[:, 0].tolist() == [0.5, 0.5]
    assert precision.measure(trial(mask=torch.zeros_like(evidence)), ORACLE).isnan().all()


def test_the_bundled_models_answer_by_the_asked_pair() -> None:
    """Without the asked pair, and of it alone, in every way of removal that the models know."""
    batch = next(KeyValues("validation", 8).batches(8))
    for model in (bundled_encoder(), bundled_decoder()):
        target = Reading(model, batch.input_ids).target
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
    assert ">&lt;start&gt;</text>" in page
    before = (tmp_path / "rows-00000.csv").read_bytes()
    invoke(*metrics)
    assert (tmp_path / "rows-00000.csv").read_bytes() == before
    with pytest.raises(ac.AttentionError, match="'input magnitude' is of images"):
        invoke("--methods", "input magnitude")


def test_sanity_of_texts() -> None:
    texts = next(KeyValues("validation", 3).batches(3)).input_ids
    methods = {"GradientAttention": ac.GradientAttention(), "RandomRanking": ac.RandomRanking()}
    for model, follows in ((bundled_encoder(), True), (bundled_decoder(), None)):
        checks = sanity_checks(model, texts, lambda _: methods)
        assert checks["GradientAttention"]["follows"].passed is follows
        assert checks["GradientAttention"]["randomised"].passed
        assert not any(check.passed for check in checks["RandomRanking"].values())


def test_bad_calls() -> None:
    model = Sum().eval()
    for options, message in (
        ({"occlusion": MeanColour()}, "'mean' removes no parts of texts"),
        ({"features": "patch"}, "features='patch' are not features of a text"),
        ({"features": "word"}, 'Use "token", or a label map'),
        ({"features": WORDS[:, :4]}, r"label map is \(2, 4\) .* need \(2, 5\) of integers from -1"),
        ({"features": torch.full((2, 5), -1)}, "an example has no feature"),
        ({"features": torch.tensor([[0, 2, 2, 2, 2]] * 2)}, "has gaps"),
        ({"attributions": ORACLE[:, :4]}, '(?s)not one score per token.*Ask the method for output="tokens"'),
        ({"occlusion": "token-delete", "features": "token"}, "has no token left"),
        ({"rounding": "down"}, "rounding='down' is unknown.\nUse 'nearest' or 'up'"),
        ({"inputs": IDS.float()}, "or token numbers"),
    ):
        arguments: dict[str, Any] = {
            "inputs": IDS,
            "attributions": ORACLE,
            "occlusion": "pad-token",
            "features": WORDS,
        } | options
        with pytest.raises(ac.AttentionError, match=message):
            perturbation_curve(model, **arguments)
    with pytest.raises(ac.AttentionError, match="takes no attention_mask"):
        Perturbation(lambda ids: model(ids), IDS, "attention-mask")
    with pytest.raises(ac.AttentionError, match="reads tokens past the attention mask"):
        Perturbation(lambda ids, attention_mask=None: model(ids), torch.tensor([[1, 2, 3, 4, 5, 5]]), "attention-mask")
    with pytest.raises(ac.AttentionError, match="names no padding"):
        Perturbation(lambda ids: model(ids), IDS, "pad-token")
    with pytest.raises(ac.AttentionError, match="give the trial words"):
        preset("srg", occlusion="pad-token", features="word").measure(trial(words=None), ORACLE)
    with pytest.raises(ac.AttentionError, match="needs texts"):
        preset("evidence-ap").measure(trial(), ORACLE)
    with pytest.raises(ac.AttentionError, match=r"shape \(2, 4\) for 2 inputs; srg needs \(batch, token\)"):
        preset("srg", **TEXT).measure(trial(), ORACLE[:, :4])
    with pytest.raises(ac.AttentionError, match="batch 0 has inputs of the shapes"):
        benchmark(
            bundled_encoder(), [Passage(IDS[0]), Passage(IDS[0, :4])], {"Rollout": ac.Rollout()}, [preset("srg", **TEXT)]
        )
