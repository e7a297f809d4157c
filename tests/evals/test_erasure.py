import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals.erasure import TokenErasure, evidence_scores, top

WEIGHTS = torch.tensor([9.0, 2.0, 1.0, 0.0, -1.0])
IDS = torch.arange(1, 6).expand(2, -1)  # token t + 1 has weight WEIGHTS[t]; token 9 has none
RANKED = torch.tensor([[False, True, True, True, True]] * 2)
ORACLE = WEIGHTS.expand(2, -1)


def predict(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Two classes with logits 0 and the sum of the weights of the tokens that are there."""
    weights = torch.cat([torch.zeros(1), WEIGHTS, torch.zeros(4)])[input_ids] * attention_mask
    logit = weights[:, 1:].sum(1) - 1.5  # the first token is special and says nothing
    return torch.stack([torch.zeros_like(logit), logit], 1)


def probability(logit: float) -> float:
    return float(torch.tensor(logit).sigmoid())


@pytest.mark.parametrize("by", ["mask", 9])
def test_by_hand(by) -> None:  # type: ignore[no-untyped-def]
    """x: 2 + 1 + 0 − 1 − 1.5 = 0.5. Without the two best: −2.5. Only the two best: 1.5."""
    erasure = TokenErasure(predict, IDS, RANKED, by)
    assert erasure.target.tolist() == [1, 1]
    assert erasure.clean.tolist() == pytest.approx([probability(0.5)] * 2)
    assert erasure.comprehensiveness(ORACLE, 2).tolist() == pytest.approx([probability(0.5) - probability(-2.5)] * 2)
    assert erasure.sufficiency(ORACLE, 2).tolist() == pytest.approx([probability(0.5) - probability(1.5)] * 2)
    assert erasure.comprehensiveness(ORACLE, 0).tolist() == [0, 0]
    assert erasure.sufficiency(ORACLE, 4).tolist() == [0, 0]


def test_the_mean_over_thresholds() -> None:
    """Of four ranked tokens 1 % is one, 30 % two."""
    erasure = TokenErasure(predict, IDS, RANKED)
    comprehensiveness, sufficiency = erasure.aopc(ORACLE, (0.01, 0.3, 0.5))
    for found, measure in ((comprehensiveness, erasure.comprehensiveness), (sufficiency, erasure.sufficiency)):
        assert torch.allclose(found, (measure(ORACLE, 1) + 2 * measure(ORACLE, 2)) / 3)


def test_the_oracle_is_best_and_its_reverse_worst() -> None:
    erasure = TokenErasure(predict, IDS, RANKED)
    generator = torch.Generator().manual_seed(0)
    best, worst = erasure.aopc(ORACLE), erasure.aopc(-ORACLE)
    for _ in range(20):
        comprehensiveness, sufficiency = erasure.aopc(torch.rand(2, 5, generator=generator))
        assert bool(((worst[0] - 1e-6 <= comprehensiveness) & (comprehensiveness <= best[0] + 1e-6)).all())
        assert bool(((best[1] - 1e-6 <= sufficiency) & (sufficiency <= worst[1] + 1e-6)).all())
    assert bool((worst[0] < best[0]).all())


def test_the_target_stays_the_clean_prediction() -> None:
    """Without the two best tokens class 0 wins, and the probability is still that of class 1."""
    erasure = TokenErasure(predict, IDS, RANKED)
    assert float(erasure.comprehensiveness(ORACLE, 2)[0]) > 0.5
    other = TokenErasure(predict, IDS, RANKED, target=torch.tensor([0, 0]))
    assert torch.allclose(other.comprehensiveness(ORACLE, 2), -erasure.comprehensiveness(ORACLE, 2))


def test_what_is_not_ranked_is_never_erased() -> None:
    seen: list[Tensor] = []

    def watched(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        seen.append(attention_mask)
        return predict(input_ids, attention_mask)

    padding = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
    ranked = RANKED & padding.bool()
    TokenErasure(watched, IDS, ranked, attention_mask=padding).sufficiency(ORACLE, torch.tensor([1, 2]))
    assert seen[1].tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]


def test_top_is_stable() -> None:
    scores = torch.tensor([[5.0, 1.0, 1.0, -torch.inf, 1.0]])
    assert top(scores, 2, RANKED[:1]).tolist() == [[False, True, True, False, False]]
    assert top(scores, 4, RANKED[:1]).tolist() == RANKED[:1].tolist()
    assert top(scores, 9, RANKED[:1]).tolist() == RANKED[:1].tolist()
    scores[0, 0] = torch.nan  # not ranked
    assert top(scores, 1, RANKED[:1]).tolist() == [[False, True, False, False, False]]


def test_evidence_by_hand() -> None:
    """Evidence at ranks 1 and 3 of 4: (1/1 + 2/3) / 2; at ranks 3 and 4: (1/3 + 2/4) / 2. All equal: the base rate."""
    evidence = torch.tensor([[False, True, False, True, False], [False, False, False, True, True]])
    precision, hit = evidence_scores(ORACLE, evidence, RANKED)
    assert precision.tolist() == pytest.approx([5 / 6, 5 / 12])
    assert hit.tolist() == [1, 0]
    precision, hit = evidence_scores(torch.zeros(2, 5), evidence, RANKED)
    assert precision.tolist() == pytest.approx([0.5, 0.5])
    assert hit.tolist() == [1, 0]


def test_bad_arguments() -> None:
    with pytest.raises(ac.AttentionError, match="by='delete' is unknown"):
        TokenErasure(predict, IDS, RANKED, "delete")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="ranked is torch.bool of shape"):
        TokenErasure(predict, IDS, RANKED[:1])
    with pytest.raises(ac.AttentionError, match="no ranked token"):
        TokenErasure(predict, IDS, torch.zeros_like(RANKED))
    with pytest.raises(ac.AttentionError, match="must be logits"):
        TokenErasure(lambda ids, mask: torch.zeros(2, 5, 3), IDS, RANKED)
    erasure = TokenErasure(predict, IDS, RANKED)
    with pytest.raises(ac.AttentionError, match="1 examples have NaN"):
        erasure.comprehensiveness(torch.tensor([[0, torch.nan, 0, 0, 0], [0.0] * 5]), 1)
    with pytest.raises(ac.AttentionError, match="k is -1"):
        erasure.sufficiency(ORACLE, -1)
    with pytest.raises(ac.AttentionError, match="thresholds="):
        erasure.aopc(ORACLE, (0.0,))
    with pytest.raises(ac.AttentionError, match="of every example"):
        evidence_scores(ORACLE, torch.zeros_like(RANKED), RANKED)
