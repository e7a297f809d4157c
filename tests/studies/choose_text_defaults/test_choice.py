import numpy as np

from studies.choose_text_defaults.candidates import Candidate
from studies.choose_text_defaults.choice import FIGURES, MARGIN, METRICS, choose, figures_of


def of(method: str, settings: str) -> Candidate:
    return Candidate(method, settings, "attention", lambda seen: seen.batch.evidence.float())


def test_the_plainest_within_the_margin_is_chosen() -> None:
    made = [of("A", "plain"), of("A", "best"), of("B", "plain"), of("B", "best")]
    figures = [np.full((2, len(FIGURES)), value) for value in (0.5, 0.5 + MARGIN / 2, 0.5, 0.5 + 2 * MARGIN)]
    assert choose(made, figures) == {"A": 0, "B": 3}


def test_faithfulness_is_the_mean_difference_over_both_ways_to_erase() -> None:
    ((figures,), right) = figures_of(True, "validation", 8, 0, [of("evidence", "")])
    assert figures.shape == (8, len(FIGURES)) == (8, len(METRICS) + 1)
    np.testing.assert_allclose(figures[:, 4], (figures[:, 0] - figures[:, 1] + figures[:, 2] - figures[:, 3]) / 2, atol=1e-6)
    assert right == 1
    assert figures[:, 5].tolist() == [1.0] * 8  # the evidence ranks the evidence first
