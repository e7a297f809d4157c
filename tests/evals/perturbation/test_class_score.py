from __future__ import annotations

import pytest
import torch

import attnchain_interp as ac
from attnchain_evals.perturbation.class_score import class_logits, class_score, next_logits


def test_scores_of_a_class() -> None:
    values = torch.tensor([[1.0, 2.0, 0.5], [3.0, 1.0, 3.0]], dtype=torch.float64)
    target = torch.tensor([1, 2])
    p = values.softmax(1)[[0, 1], [1, 2]]
    assert torch.equal(class_score(values, target), p)
    assert torch.allclose(class_score(values, target, "log-probability"), p.log())
    assert class_score(values, target, "logit").tolist() == [2, 3]
    assert torch.allclose(class_score(values, target, "log-odds"), (p / (1 - p)).log())
    assert class_score(values, target, "accuracy").tolist() == [1, 0], "of equal logits the first counts"
    with pytest.raises(ac.AttentionError, match="(?s)score='odds' is unknown.*Use 'probability'"):
        class_score(values, target, "odds")  # type: ignore[arg-type]


def test_logits_are_those_of_a_class_or_of_the_last_token() -> None:
    logits, texts, images = torch.rand(2, 5), torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, 4, 4)
    assert class_logits(logits, images) is logits
    by_token = torch.rand(2, 3, 5)
    assert torch.equal(class_logits(by_token, texts), by_token[:, -1])
    with pytest.raises(ac.AttentionError, match=r"returned shape \(2, 3, 5\); logits \(batch, class\) are needed"):
        class_logits(by_token, images)
    with pytest.raises(ac.AttentionError, match="dict without logits"):
        class_logits({}, images)


def test_the_next_token_alone_is_computed_where_a_model_can() -> None:
    asked: list[int | None] = []

    def model(texts: torch.Tensor, logits_to_keep: int | None = None, scale: float = 1) -> torch.Tensor:
        asked.append(logits_to_keep)
        return scale * torch.nn.functional.one_hot(texts, 9).double()[:, -(logits_to_keep or 0) :]

    texts = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert next_logits(model, texts, scale=2).argmax(1).tolist() == [3, 6]
    assert next_logits(lambda ids: model(ids), texts).argmax(1).tolist() == [3, 6]
    assert asked == [1, None]
