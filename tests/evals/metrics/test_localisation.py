import numpy as np
import pytest
import quantus
import sklearn.metrics
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals import segmentation_scores
from attnchain_evals.metrics import EnergyInside, MeanAP, MeanIoU, PixelAccuracy, PointingGame, Trial
from attnchain_evals.metrics.localisation import LocalisationMetric

METRICS = (PixelAccuracy, MeanIoU, MeanAP, PointingGame, EnergyInside)


def judged(mask: Tensor) -> Trial:
    return Trial(lambda images: images[:, :2, 0, 0], torch.zeros(len(mask), 3, *mask.shape[1:]), torch.zeros(len(mask)), mask)


@pytest.fixture
def case() -> tuple[Trial, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(4, 8, 8, dtype=torch.bool)
    mask[:, 2:6, 1:5] = True
    return judged(mask), torch.rand(4, 8, 8, generator=generator) + 0.5 * mask


def test_three_as_segmentation_scores_pools_them(case: tuple[Trial, Tensor]) -> None:
    trial, maps = case
    assert trial.mask is not None
    expected = segmentation_scores(maps, trial.mask)
    for metric in (PixelAccuracy(), MeanIoU(), MeanAP()):
        metric.update(judged(trial.mask[:1]), maps[:1])
        metric.update(judged(trial.mask[1:]), maps[1:])
        assert float(metric.compute()) == pytest.approx(expected[metric.name])


def test_average_precision_is_taken_where_it_is_asked_for(case: tuple[Trial, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """It sorts all pixels, and takes most of the time of the three metrics."""
    sorted_by: list[str] = []
    taken = sklearn.metrics.average_precision_score
    for metric in (PixelAccuracy(), MeanIoU(), MeanAP()):
        monkeypatch.setattr(
            sklearn.metrics, "average_precision_score", lambda *pair, by=metric.name: sorted_by.append(by) or taken(*pair)
        )
        metric.measure(*case)
    assert sorted_by == ["map"] * 4


def test_the_pointing_game_of_quantus(case: tuple[Trial, Tensor]) -> None:
    trial, maps = case
    assert trial.mask is not None
    expected = quantus.PointingGame(disable_warnings=True, display_progressbar=False)(
        model=None,
        x_batch=trial.inputs.numpy(),
        y_batch=np.zeros(4, int),
        a_batch=maps[:, None].numpy(),
        s_batch=trial.mask[:, None].numpy(),
    )
    assert PointingGame().measure(trial, maps)[:, 0].tolist() == [float(hit) for hit in expected]
    assert PointingGame().measure(trial, maps - 2.0 * trial.mask)[:, 0].sum() == 0


def test_tied_maxima_share_the_hit() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 0, :2] = True
    tied = torch.zeros(1, 4, 4)
    tied[0, 0, :3] = 1
    assert float(PointingGame().measure(judged(mask), tied)) == pytest.approx(2 / 3)
    assert float(PointingGame().measure(judged(mask), torch.ones(1, 4, 4))) == pytest.approx(2 / 16)
    beside = torch.zeros(1, 4, 4)
    beside[0, 2, 0] = 1
    assert [float(PointingGame(reach).measure(judged(mask), beside)) for reach in (0, 1, 2)] == [0, 0, 1]


def test_energy_by_hand() -> None:
    mask = torch.zeros(1, 2, 2, dtype=torch.bool)
    mask[0, 0] = True
    assert float(EnergyInside().measure(judged(mask), torch.tensor([[[3.0, -5.0], [1.0, 0.0]]]))) == pytest.approx(3 / 4)
    assert EnergyInside().measure(judged(mask), -torch.ones(1, 2, 2)).isnan().all()


@pytest.mark.parametrize("kind", METRICS)
def test_masks_that_are_empty_full_missing_or_of_another_size(kind: type[LocalisationMetric]) -> None:
    mask = torch.zeros(3, 8, 8, dtype=torch.bool)
    mask[1] = True
    mask[2, :4] = True
    metric = kind()  # type: ignore[call-arg]
    figures = metric.measure(judged(mask), torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert figures.isnan().all(1).tolist() == [True, True, False]
    metric.update(judged(mask), torch.rand(3, 8, 8))
    assert (int(metric.defined), int(metric.undefined)) == (1, 2)
    trial = judged(mask)
    for wrong, said in (
        (None, "the data have no masks"),
        *((one, r"mask is .* needs \(3, 8, 8\)") for one in (mask[:, :4], mask[:2])),
        (mask.numpy(), "mask is of type ndarray"),
        (torch.arange(3 * 64).view(3, 8, 8), r"masks\[0\] holds 0, 1, 2 "),
    ):
        with pytest.raises(ac.AttentionError, match=said):
            metric.measure(Trial(trial.model, trial.inputs, trial.target, wrong), torch.rand(3, 8, 8))  # type: ignore[arg-type]


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_the_energy_inside_is_the_relevance_mass_accuracy_of_quantus(images: Tensor) -> None:
    maps = images.mean(1)
    mask = torch.zeros(3, 16, 16, dtype=torch.bool)
    mask[:, 3:9, 2:12] = True
    expected = quantus.RelevanceMassAccuracy(disable_warnings=True, display_progressbar=False, normalise=False)(
        model=None,
        x_batch=images.numpy(),
        y_batch=np.zeros(3, int),
        a_batch=maps[:, None].numpy(),
        s_batch=mask[:, None].numpy(),
    )
    found = EnergyInside().measure(Trial(lambda images: images[:, :2, 0, 0], images, torch.zeros(3), mask), maps)[:, 0]
    assert found.tolist() == pytest.approx([float(share) for share in expected], abs=1e-6)
