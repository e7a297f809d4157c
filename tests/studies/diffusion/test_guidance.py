from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from attnchain_evals import bundled_diffusion
from attnchain_evals.metrics.statistics import Score
from attnchain_interp import AttentionError
from studies.diffusion.guidance import guidance_tables, over_seeds, study_guidance


@pytest.fixture(scope="module")
def pipe() -> Any:
    return bundled_diffusion()


def test_the_study_of_guidance_chooses_on_other_seeds(pipe: Any) -> None:
    study = study_guidance(pipe, (0.5, 1.0), images=4, choosing_seeds=1, seeds=2, steps=2, classes=True)
    assert len(study.tried) == 6
    assert [guidance.importance for guidance in study.reported] == ["none", "column-sum", "token-rank", "random"]
    for guidance in list(study.reported)[1:]:
        rival = next(one for one in study.tried if one.importance == guidance.importance and one != guidance)
        assert study.tried[guidance][0, 0] <= study.tried[rival][0, 0]
    assert all(scores.shape == (2, 3) for scores in study.reported.values())
    text = guidance_tables(study)
    assert "of the class asked for" in text
    assert "TokenRank, scale" in text


def test_intervals_over_seeds_are_those_of_the_t_test() -> None:
    values = np.array([1.0, 2.0, 4.0, 3.5])
    low, high = ttest_1samp(values, 0).confidence_interval()
    assert over_seeds(values) == pytest.approx(Score(2.625, float(low), float(high)))
    with pytest.raises(AttentionError, match="two seeds"):
        over_seeds(values[:1])
