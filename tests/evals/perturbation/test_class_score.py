from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals import Perturbation
from attnchain_evals.perturbation.class_score import KnownScores, class_logits, class_score, next_logits

from ..summed_tokens import IDS, ORACLE, WORDS, Next


def test_scores_of_a_class() -> None:
    values = torch.tensor([[1.0, 2.0, 0.5], [3.0, 1.0, 3.0]], dtype=torch.float64)
    target = torch.tensor([1, 2])
    p = values.softmax(1)[[0, 1], [1, 2]]
    assert torch.equal(class_score(values, target), p)
    assert torch.allclose(class_score(values, target, "log-probability"), p.log())
    assert class_score(values, target, "logit").tolist() == [2, 3]
    assert torch.allclose(class_score(values, target, "log-odds"), (p / (1 - p)).log())
    assert class_score(values, target, "accuracy").tolist() == [1, 0], "of equal logits the first counts"
    broken = torch.tensor([[torch.nan, 2.0], [3.0, 1.0]])
    assert class_score(broken, torch.zeros(2, dtype=torch.long), "accuracy").isnan().tolist() == [True, False]
    with pytest.raises(ac.AttentionError, match="(?s)score='odds' is unknown.*Use 'probability'"):
        class_score(values, target, "odds")  # type: ignore[arg-type]


def test_logits_are_those_of_a_class_or_of_the_last_token() -> None:
    logits, texts, images = torch.rand(2, 5), torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, 4, 4)
    assert class_logits(logits, images) is logits
    by_token = torch.rand(2, 3, 5)
    assert torch.equal(class_logits(by_token, texts), by_token[:, -1])
    with pytest.raises(ac.AttentionError, match=r"returned shape \(2, 3, 5\); logits \(batch, class\) are needed"):
        class_logits(by_token, images)
    with pytest.raises(ac.AttentionError, match=r"(?s)dict without logits.*lambda x: model\(x\)\[0\]"):
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


TARGET = torch.tensor([1, 0])


def counting() -> tuple[KnownScores, list[int]]:
    """Logits of which the removed tokens are known by their places."""
    rows: list[int] = []

    def logits(text: Tensor, removed: Tensor) -> Tensor:
        rows.append(len(text))
        weight = (removed * 2.0 ** torch.arange(removed.shape[1])).sum(1)
        return torch.stack([text.float(), weight / 8], 1)

    return KnownScores(logits, 3), rows


def test_each_set_is_run_once() -> None:
    known, rows = counting()
    removed = torch.tensor([[[1, 0, 0], [1, 1, 0], [1, 0, 0]], [[1, 0, 0], [0, 0, 1], [0, 1, 1]]]).bool()
    first = known.of(removed, TARGET, "probability")
    assert rows == [3, 2], "five sets are different, three rows a forward"
    logits = torch.stack([torch.tensor([[0.0] * 3, [1.0] * 3]), (removed * torch.tensor([1, 2, 4])).sum(2) / 8], 2)
    for kind in ("probability", "log-probability", "logit", "log-odds", "accuracy"):
        torch.testing.assert_close(known.of(removed, TARGET, kind), class_score(logits, TARGET, kind))
    torch.testing.assert_close(known.of(removed.flip(1), TARGET, "probability"), first.flip(1))
    assert rows == [3, 2], "whatever the score and the order"
    known.of(removed, 1 - TARGET, "probability")
    assert sum(rows) == 10, "another class is another score"


@pytest.mark.parametrize("occlusion", ["attention-mask", "token-delete"])
def test_curves_share_their_forwards(occlusion: Any) -> None:
    model, asked = Next().eval(), []
    model.register_forward_hook(lambda _module, _inputs, output: asked.append(len(output.logits)))
    experiment = Perturbation(model, IDS, occlusion)
    options: dict[str, Any] = {"features": WORDS, "fractions": 4, "target": 1}
    experiment.curve(ORACLE, **options)
    first = sum(asked)
    same = experiment.curve(-ORACLE, order="lerf", score="log-probability", **options)
    inserted = experiment.curve(-ORACLE, mode="insertion", **options)
    assert sum(asked) == first
    fresh = Perturbation(model, IDS, occlusion)
    torch.testing.assert_close(same.scores, fresh.curve(-ORACLE, order="lerf", score="log-probability", **options).scores)
    torch.testing.assert_close(inserted.scores, fresh.curve(-ORACLE, mode="insertion", **options).scores)
    experiment.curve(-ORACLE, **options)
    assert sum(asked) > first
