from typing import Any

import pytest
import torch

from attnchain_evals import bundled_diffusion
from attnchain_evals.metrics.segmentation_scores import acc_and_miou, counts
from attnchain_evals.tasks.textured_digits import TexturedDigits
from studies.diffusion.digit_segmentation import (
    CANDIDATES,
    CEILING,
    attention_of,
    points,
    segment,
    segmentation_table,
    study_segmentation,
    tune,
)


@pytest.fixture(scope="module")
def pipe() -> Any:
    return bundled_diffusion()


def test_points_lie_on_the_mask() -> None:
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[0, 4:6, 8:10], masks[1, 30:, 30:] = True, True
    assert points(masks).tolist() == [2 * 16 + 4, 255]


def test_attention_is_one_chain_on_the_fine_grid_and_repeats(pipe: Any) -> None:
    images = next(TexturedDigits("validation", 2).batches(2)).image
    both = attention_of(pipe, images, CANDIDATES[2])
    assert (len(CANDIDATES[2].grids), both.tokens.grid) == (2, (16, 16))
    torch.testing.assert_close(both.maps().sum(-1), torch.ones(2, 1, 1, 256))
    assert torch.equal(both.maps(), attention_of(pipe, images, CANDIDATES[2]).maps())
    assert not torch.equal(both.maps(), attention_of(pipe, images, CANDIDATES[0]).maps())


def test_the_study_of_segments_finds_digits_better_than_nothing(pipe: Any) -> None:
    batch = next(TexturedDigits("validation", 6).batches(6))
    chosen = tune(pipe, batch, CANDIDATES[1:2])
    regions = segment(pipe, batch, chosen)
    miou = {name: float(acc_and_miou(counts(region, batch.mask).mean(0))[1]) for name, region in regions.items()}
    assert miou == pytest.approx({name: choice.miou for name, choice in chosen.items()})
    nothing = float(acc_and_miou(counts(torch.zeros_like(batch.mask).long(), batch.mask).mean(0))[1])
    assert miou["two metastable states"] > nothing + 0.2
    assert miou["multi-bounce from a point"] > nothing + 0.1
    assert miou[CEILING] == max(score for name, score in miou.items() if "brightness" not in name)
    test = next(TexturedDigits("test", 4).batches(4))
    text = segmentation_table(study_segmentation(pipe, batch, test, CANDIDATES[1:2]))
    assert text.count("\n") == 2 + len(chosen)
