from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from attnchain_evals import Perturbation
from attnchain_evals.perturbation.class_score import class_score
from attnchain_evals.perturbation.known_scores import KnownScores

from ..summed_tokens import IDS, ORACLE, WORDS, Next

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
