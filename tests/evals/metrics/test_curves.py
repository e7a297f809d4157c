"""Curve metrics beside replicas written from their papers, and beside other libraries."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
import quantus
import torch
from sklearn.metrics import auc
from torch import Tensor
from torchcam.metrics import DeletionInsertionMetric

from attnchain_evals import perturbation_curve
from attnchain_evals.metrics import (
    AOPC,
    SRG,
    Comprehensiveness,
    Deletion,
    Insertion,
    Protocol,
    ReverseDeletion,
    Sufficiency,
    Trial,
    preset,
)
from attnchain_evals.metrics.protocol import equally_spaced, trapezoid
from attnchain_evals.perturbation.curve import PerturbationCurve, Rounding
from attnchain_evals.perturbation.occlusion import Blur, Zero
from attnchain_interp import AttentionError

from ..summed_tokens import ORACLE, p
from ..summed_tokens import trial as text_trial
from .planted import Planted, curve_by_hand, lit, trial, upscaled


def test_areas_and_mean_drops(grid: Tensor) -> None:
    on, counts = trial(), [0, 4, 8, 12, 16]
    fractions = [count / 16 for count in counts]
    protocol = Protocol(fractions=(0.25, 0.5, 0.75))
    for row, example in enumerate(grid):
        morf, lerf = curve_by_hand(example, counts), curve_by_hand(-example, counts)
        assert Deletion(protocol).measure(on, grid)[row, 0] == pytest.approx(auc(fractions, morf), abs=1e-6)
        assert Insertion(protocol).measure(on, grid)[row, 0] == pytest.approx(auc(fractions, lerf), abs=1e-6)
        gains = [auc(fractions, lerf) - auc(fractions, morf), auc(fractions, lerf), auc(fractions, morf)]
        assert SRG(protocol).measure(on, grid)[row].tolist() == pytest.approx(gains, abs=1e-6)
        assert AOPC(protocol).measure(on, grid)[row, 0] == pytest.approx((morf[0] - morf).mean(), abs=1e-6)
        assert Comprehensiveness(protocol).measure(on, grid)[row, 0] == pytest.approx((morf[0] - morf[1:4]).mean(), abs=1e-6)
        kept = lerf[::-1][1:4]  # what is left when all but the first k are removed
        assert Sufficiency(protocol).measure(on, grid)[row, 0] == pytest.approx((morf[0] - kept).mean(), abs=1e-6)


def test_eraser_rounds_up_to_whole_tokens() -> None:
    """Of four ranked tokens 1 % is one, 30 % two: of x = 0.5, −1.5 without the first and −2.5 without two."""
    settings: dict[str, Any] = {"occlusion": "pad-token", "features": "token", "fractions": (0.01, 0.3, 0.5)}
    clean, without_one, without_two, one, two = p(0.5, -1.5, -2.5, 0.5, 1.5)
    needed = preset("comprehensiveness", **settings).measure(text_trial(), ORACLE)
    assert needed[:, 0].tolist() == pytest.approx([clean - (without_one + 2 * without_two) / 3] * 2)
    enough = preset("sufficiency", **settings).measure(text_trial(), ORACLE)
    assert enough[:, 0].tolist() == pytest.approx([clean - (one + 2 * two) / 3] * 2)


def test_eraser_fills_the_settings_that_a_protocol_leaves_open(grid: Tensor) -> None:
    for kind, name in ((Comprehensiveness, "comprehensiveness"), (Sufficiency, "sufficiency")):
        expected = preset(name, occlusion="zero").measure(trial(), grid)
        assert torch.equal(kind(Protocol("zero")).measure(trial(), grid), expected)
        up = kind(Protocol("zero", fractions=(0.03, 0.4, 0.52))).measure(trial(), grid)
        assert torch.equal(up, kind(Protocol("zero", fractions=[1 / 16, 7 / 16, 9 / 16])).measure(trial(), grid))
        nearest = kind(Protocol("zero", fractions=(0.03, 0.4, 0.52), rounding="nearest")).measure(trial(), grid)
        assert torch.equal(nearest, kind(Protocol("zero", fractions=[0, 6 / 16, 8 / 16])).measure(trial(), grid))
        assert not torch.allclose(nearest, up)


@pytest.mark.parametrize("area", [trapezoid, equally_spaced])
def test_figures_of_an_example_do_not_depend_on_the_batch(area: Callable[[PerturbationCurve], Tensor]) -> None:
    """Four words beside two: of x = 0.5, −1.5, −2.5, −2.5, −1.5 and of x = 0.5, −2.5, −1.5."""
    words = torch.tensor([[-1, 0, 1, 2, 3], [-1, 0, 0, 1, 1]])
    protocol = Protocol("pad-token", "word", area=area)
    on, scores = text_trial(words=words), [p(0.5, -1.5, -2.5, -2.5, -1.5), p(0.5, -2.5, -1.5)]
    expected = [row[0] - np.mean(row) for row in scores]
    assert AOPC(protocol).measure(on, ORACLE)[:, 0].tolist() == pytest.approx(expected)
    for kind in (Deletion, Insertion, SRG, AOPC, Comprehensiveness, Sufficiency):
        alone = [kind(protocol).measure(one, ORACLE[:1]) for one in (part(on, 0), part(on, 1))]
        assert torch.allclose(kind(protocol).measure(on, ORACLE), torch.cat(alone), atol=1e-6)


def part(on: Trial, row: int) -> Trial:
    assert on.words is not None
    assert on.target is not None
    return Trial(on.model, on.inputs[row, None], on.target[row, None], words=on.words[row, None])


def test_aopc_without_ends_is_a_drop_from_the_clean_score(grid: Tensor) -> None:
    found = AOPC(Protocol(fractions=(0.25, 0.5, 0.75), ends=False)).measure(trial(), grid)[:, 0]
    for row, example in enumerate(grid):
        clean, *removed = curve_by_hand(example, [0, 4, 8, 12])
        assert found[row] == pytest.approx(clean - np.mean(removed), abs=1e-6)


def test_equal_scores_keep_raster_order_in_both_orders(grid: Tensor) -> None:
    """The gain of a constant map is zero for each example. Without ties the insertion curve is that of LeRF, to the bit."""
    tied = torch.stack([torch.ones(4, 4), (grid[1] * 3).round(), grid[0]])
    srg = SRG().measure(trial(3), tied)
    assert srg[0, 0] == 0
    assert srg[:, 1].tolist() == pytest.approx(ReverseDeletion().measure(trial(3), tied)[:, 0].tolist(), abs=1e-6)
    assert torch.equal(srg[2, 1], Insertion().measure(trial(3), tied)[2, 0])


@pytest.mark.parametrize("side", [4, 5, 7])
@pytest.mark.parametrize("rounding", ["nearest", "up"])
def test_the_gain_of_the_reversed_map_is_the_negative_gain(side: int, rounding: Rounding) -> None:
    """At odd numbers of features, and rounded up, the numbers of removed features are not symmetric."""
    scores = torch.rand(4, side, side, generator=torch.Generator().manual_seed(0))
    srg, on = SRG(Protocol(fractions=20, rounding=rounding)), trial(4)
    assert srg.measure(on, -scores)[:, 0].tolist() == pytest.approx((-srg.measure(on, scores)[:, 0]).tolist(), abs=1e-6)


def test_a_tie_that_no_step_divides_does_not_change_the_gain() -> None:
    scores = torch.rand(1, 5, 5, generator=torch.Generator().manual_seed(0))
    tied = torch.where(scores == scores.max(), scores.flatten().topk(2).values[1], scores)
    srg = SRG(Protocol(fractions=10))  # the first two features go together, and so do the last two
    assert torch.equal(srg.measure(trial(1), tied), srg.measure(trial(1), scores))


@pytest.mark.parametrize("kind", [Deletion, ReverseDeletion, Insertion, SRG])
def test_an_area_needs_two_fractions(kind: type[Deletion]) -> None:
    for fractions in ((0.5,), (0.5, 0.5), np.array([0.5])):
        with pytest.raises(AttentionError, match=r"fractions is \(0.5,.* is an area, which needs two fractions.\n.*ends=True"):
            kind(Protocol(fractions=fractions, ends=False))  # type: ignore[arg-type]
    kind(Protocol(fractions=(0.5,)))
    kind(Protocol(fractions=1, ends=False))
    AOPC(Protocol(fractions=(0.5,), ends=False))


class Given:
    """What torch-cam asks of a method: here the saliency is there already."""

    _hooks_off = nullcontext

    def __init__(self, model: torch.nn.Module, saliency: Tensor) -> None:
        self.model, self.saliency = model, saliency

    def __call__(self, *_: Any, **__: Any) -> list[Tensor]:
        return [self.saliency]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("occlusion", "baseline"), [(Zero(), None), (Blur(2.0), Blur(2.0))])
@pytest.mark.parametrize("side", [16, 4])
def test_areas_of_torch_cam(images: Tensor, occlusion: Zero | Blur, baseline: Any, side: int) -> None:
    """Pixels, 16 steps of 16; a map of another size is enlarged bilinearly, ties keep raster order."""
    model, saliency = Planted().eval(), torch.rand(3, side, side, generator=torch.Generator().manual_seed(1))
    metric = DeletionInsertionMetric(Given(model, saliency), partial(torch.softmax, dim=-1), steps=16, baseline=baseline)
    metric.update(images)
    trial = Trial(model, images, model(images).argmax(1))
    protocol = Protocol(occlusion, "pixel", fractions=16)
    for ours, theirs in ((Deletion(protocol), "deletion_auc"), (Insertion(protocol), "insertion_auc")):
        assert float(ours.measure(trial, saliency)[:, 0].mean()) == pytest.approx(metric.summary()[theirs], abs=1e-6)


def test_curves_of_quantus() -> None:
    """Where definitions coincide: one channel, a constant baseline, no ties. Its areas do not run on this numpy."""
    model, images = Planted(1).eval(), lit(2, 1)
    x, y = images.numpy(), np.ones(2, int)
    saliency = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0))
    shared: dict[str, Any] = {
        "perturb_baseline": 0.0,
        "normalise": False,
        "abs": False,
        "disable_warnings": True,
        "display_progressbar": False,
    }
    flipped = quantus.PixelFlipping(features_in_step=16, return_auc_per_sample=False, **shared)(
        model=model, x_batch=x, y_batch=y, a_batch=saliency[:, None].numpy()
    )
    ours = perturbation_curve(model, images, saliency, 1, occlusion="zero", features="pixel", fractions=16)
    assert np.allclose(np.array(flipped), ours.scores[:, 1:], atol=1e-5)
    grid = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(1))
    regions = quantus.RegionPerturbation(patch_size=4, regions_evaluation=16, order="morf", **shared)(
        model=model, x_batch=x, y_batch=y, a_batch=upscaled(grid)[:, None].numpy()
    )
    ours = perturbation_curve(model, images, grid, 1, occlusion="zero", fractions=16)
    assert np.allclose(np.array(regions), ours.scores[:, :1] - ours.scores[:, 1:], atol=1e-5)
