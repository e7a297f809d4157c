"""An answer of one token is the next token; one of two is the sum of two attributions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals import Passage, benchmark
from attnchain_evals.bench import shared_capture
from attnchain_evals.bench.answer_scores import answer_scores
from attnchain_evals.bench.benchmark import standard_metrics
from attnchain_evals.bench.sanity_checks import rank_correlation, sanity_checks
from attnchain_evals.bench.shared_capture import SharedCapture
from attnchain_evals.metrics import EvidenceAP, SentenceCorrelation, preset, text_metrics
from attnchain_interp.attribution import AttnLRP

from ...attribution import small_models as small

EXACT = (ac.TokenRank, ac.MultiBounce, AttnLRP, ac.LogitTokenRank)


def likeliest(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(ids).logits[:, -1].argmax(-1, keepdim=True)


def test_an_answer_of_one_token_has_the_scores_of_the_next_token() -> None:
    model, ids = small.llama(), small.ids()
    shared, whole = SharedCapture(model, ids), SharedCapture(model, ids, answers=likeliest(model, ids))
    for build in EXACT:
        one, other = shared.scores(build(model)), whole.scores(build(model))
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-8), build
        assert torch.equal(one.argsort(-1), other.argsort(-1))
    assert torch.equal(whole.scores(ac.TokenRank()), whole.scores(ac.TokenRank(model))), "a method is given the model"
    assert whole.known_target is None


def test_an_answer_of_two_tokens_is_the_sum_of_two_attributions() -> None:
    model, ids = small.llama(), small.ids()
    answers = likeliest(model, ids)
    answers = torch.cat([answers, likeliest(model, torch.cat([ids, answers], 1))], 1)
    longer = torch.cat([ids, answers[:, :1]], 1)
    found = [answer_scores(build(model), model, ids, answers) for build in EXACT]
    for build, both in zip(EXACT, found, strict=True):
        first, second = (SharedCapture(model, texts).scores(build(model)) for texts in (ids, longer))
        assert torch.allclose(first + second[:, : ids.shape[1]], both, rtol=1e-5, atol=1e-8), build


def test_gradients_are_those_of_log_probabilities() -> None:
    model, ids = small.llama(), small.ids(1)
    answers = torch.tensor([[5, 9]])
    both = answer_scores(ac.GradientTokenRank(), model, ids, answers)

    def explained(texts: Tensor, token: int) -> Tensor:
        def log_probability(output: Any) -> Tensor:
            return output.logits[:, -1].log_softmax(-1)[:, token]

        return ac.GradientTokenRank(model).attribute(texts, log_probability, output="tokens")[:, : ids.shape[1]]

    assert torch.allclose(
        explained(ids, 5) + explained(torch.cat([ids, answers[:, :1]], 1), 9), both.to(ids.device), atol=1e-6
    )


def test_random_scores_differ_from_text_to_text() -> None:
    model, ids = small.llama(), small.ids()
    answers = torch.tensor([[5, 9], [5, 9]])
    found = answer_scores(ac.RandomRanking(), model, ids, answers, first=3)
    assert torch.equal(found[1:], answer_scores(ac.RandomRanking(), model, ids[1:], answers[1:], first=4))
    assert not torch.allclose(found[0], found[1])


def test_metrics_of_the_evidence_judge_whole_answers() -> None:
    """The evidence is the token with the greatest score; metrics of one token of the output refuse."""
    model, ids = small.llama(), small.ids()
    answers = torch.tensor([[5, 9], [7, 3]])
    best = answer_scores(ac.TokenRank(), model, ids, answers).argmax(-1)
    where = torch.arange(ids.shape[1])
    data = [
        Passage(text, evidence=where == place, sentences=(where > 3).long(), explained=answer)
        for text, place, answer in zip(ids, best, answers, strict=True)
    ]
    methods = {"TokenRank": ac.TokenRank(), "RandomRanking": ac.RandomRanking()}
    result = benchmark(model, data, methods, batch_size=2)
    assert (
        list(result.metrics) == ["evidence-ap", "evidence-first", "sentence-hit"] == [m.name for m in standard_metrics(data)]
    )
    assert result.scores["TokenRank"]["evidence-ap"].value == 1
    assert result.scores["TokenRank"]["evidence-first"].value == 1
    for metric in (*text_metrics(), SentenceCorrelation(), preset("srg", occlusion="attention-mask", features="token")):
        with pytest.raises(ac.AttentionError, match="the data explain whole answers.\nTake evidence-ap"):
            benchmark(model, data, methods, [metric])
    with pytest.raises(ac.AttentionError, match="BertForSequenceClassification writes none.\nLoad a decoder"):
        benchmark(small.bert(), [Passage(ids[0], evidence=where > 2, explained=torch.tensor([1]))], methods, [EvidenceAP()])


def test_sanity_of_whole_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    model, texts, answers = small.llama(), small.ids(), torch.tensor([[3, 5], [4, 6]])
    methods = {"GradientTokenRank": ac.GradientTokenRank(), "TokenRank": ac.TokenRank()}
    explained: list[Tensor] = []

    def whole(method: Any, model: Any, texts: Tensor, answers: Tensor, first: int = 0) -> Tensor:
        explained.append(answers)
        return answer_scores(method, model, texts, answers, first)

    monkeypatch.setattr(shared_capture, "answer_scores", whole)
    checks = sanity_checks(model, texts, lambda _: methods, answers=answers)
    assert len(explained) == 4 * len(methods), "of the model twice, of its randomised copy, and of the second run"
    assert all(each is answers for each in explained)
    found = rank_correlation(*(answer_scores(ac.TokenRank(), model, texts, each) for each in (answers, answers[:, :1])))
    assert (found < 1 - 1e-9).all(), "the whole answer has other scores than its first token"
    for check in checks.values():
        assert (check["class"].passed, check["follows"].passed, check["agreement"].value) == (None, None, pytest.approx(1))
        assert check["randomised"].passed is not None
