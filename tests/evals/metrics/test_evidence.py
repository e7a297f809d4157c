from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import attnchain_interp as ac
from attnchain_evals.metrics import (
    SentenceCorrelation,
    SentenceHit,
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


WORDS_OF_TWO = torch.tensor([[-1, 0, 1, 1, 2], [-1, 0, 0, 1, 1]])


def test_evidence_of_words_by_hand() -> None:
    """Sums 2, 1 + 0, −1: the evidence is the second of three words, by one token. Sums 2 + 1, 0 − 1: it is the first."""
    evidence = torch.tensor([[False, False, False, True, False], [False, True, False, False, False]])
    on = trial(words=WORDS_OF_TWO, mask=evidence)
    precision, first = (preset(name, features="word") for name in ("evidence-ap", "evidence-first"))
    assert (precision.name, first.name) == ("evidence-ap/word", "evidence-first/word")
    assert precision.measure(on, ORACLE)[:, 0].tolist() == pytest.approx([1 / 2, 1])
    assert first.measure(on, ORACLE)[:, 0].tolist() == [0, 1]
    assert preset("evidence-ap").measure(on, ORACLE)[:, 0].tolist() == pytest.approx([1 / 3, 1]), "of the same tokens"
    split = torch.tensor([[0, 3, 2, 2, 0], [0, 0, 0, 0, 0]]).float()
    assert precision.measure(on, split)[0, 0] == 1, "the pieces of a word are strong together"
    assert precision.measure(trial(words=WORDS_OF_TWO, mask=WORDS_OF_TWO >= 0), ORACLE).isnan().all()


def test_words_must_be_known() -> None:
    on = trial(words=None, mask=torch.eye(2, 5, dtype=torch.bool))
    with pytest.raises(ac.AttentionError, match="(?s)features='word' are not features.*give the trial words"):
        preset("evidence-ap", features="word").measure(on, ORACLE)
    with pytest.raises(ac.AttentionError, match="features='sentence' is unknown"):
        preset("evidence-ap", features="sentence")


def test_images_and_texts_without_evidence_are_refused() -> None:
    with pytest.raises(ac.AttentionError, match="needs texts"):
        preset("evidence-ap").measure(trial(), ORACLE)


SENTENCES = torch.tensor([[-1, 0, 0, 1, 2], [-1, 0, 1, 1, 1]])
EVIDENCE = torch.tensor([[False, False, True, False, False], [False, False, False, True, False]])


def test_the_sentence_of_the_greatest_sum() -> None:
    """Sums by hand: 2 + 1, 0, −1 and 2, 1 + 0 − 1."""
    on = replace(trial(mask=EVIDENCE), sentences=SENTENCES)
    hit = SentenceHit()
    assert hit.measure(on, ORACLE)[:, 0].tolist() == [1, 0]
    assert hit.measure(on, -ORACLE)[:, 0].tolist() == [0, 1]
    assert hit.measure(on, torch.zeros(2, 5))[:, 0].tolist() == pytest.approx([1 / 3, 1 / 2]), "ties share"
    assert hit.measure(replace(on, mask=torch.zeros_like(EVIDENCE)), ORACLE).isnan().all()
    assert hit.measure(replace(on, sentences=SENTENCES.clamp_max(0)), ORACLE).isnan().all(), "one sentence"


@pytest.mark.parametrize("occlusion", ["attention-mask", "token-delete", "pad-token"])
def test_the_sum_of_weights_is_what_a_sentence_costs(occlusion: str) -> None:
    """The logit is a sum over tokens, so the true weights correlate perfectly; the second text has two sentences only."""
    on = replace(trial(), sentences=SENTENCES)
    metric = SentenceCorrelation(occlusion, score="logit")
    found = metric.measure(on, ORACLE)[:, 0]
    assert found[0] == pytest.approx(1)
    assert found[1].isnan()
    assert metric.measure(on, -ORACLE)[0, 0] == pytest.approx(-1)
    likely = preset("sentence-correlation").measure(on, ORACLE)[0, 0]
    assert 0.9 < float(likely) < 1, "the log-probability bends"


def test_what_is_refused() -> None:
    with pytest.raises(ac.AttentionError, match="(?s)has no sentences; sentence-hit needs.*whose sentences are known"):
        preset("sentence-hit").measure(trial(mask=EVIDENCE), ORACLE)
    with pytest.raises(ac.AttentionError, match="has no mask; sentence-hit needs one"):
        preset("sentence-hit").measure(replace(trial(), sentences=SENTENCES), ORACLE)
    with pytest.raises(ac.AttentionError, match="label map has gaps"):
        preset("sentence-correlation").measure(replace(trial(), sentences=SENTENCES.where(SENTENCES != 1, 3)), ORACLE)
