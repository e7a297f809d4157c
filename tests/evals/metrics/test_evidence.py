from __future__ import annotations

import pytest
import torch

import attnchain_interp as ac
from attnchain_evals.metrics import (
    preset,
)

from ..summed_tokens import ORACLE, trial


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


def test_images_and_texts_without_evidence_are_refused() -> None:
    with pytest.raises(ac.AttentionError, match="needs texts"):
        preset("evidence-ap").measure(trial(), ORACLE)
