from pathlib import Path

import pytest
import torch
from captum.attr import IntegratedGradients

import attnchain_interp as ac
from studies import class_specific
from studies.backbones import TRAINED
from studies.class_specific import OURS, Comparison, IntegratedPatches

from .comparisons import images


def test_patches_hold_the_mean_of_integrated_gradients() -> None:
    model, batch = TRAINED["small"].build().eval(), images()
    mean = batch.mean((2, 3), keepdim=True).expand_as(batch)
    pixels = IntegratedGradients(model).attribute(batch, mean, 1, n_steps=20).float()
    for absolute in (False, True):
        grid = IntegratedPatches(model, (8, 8), absolute).attribute(batch, 1)
        signed = pixels.abs() if absolute else pixels
        assert torch.allclose(grid[1, 2, 5] * 49, signed[1, :, 14:21, 35:42].sum(), atol=1e-4)


def test_a_comparison_is_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {OURS: ac.ExpectedVisits(), "Rollout": ac.Rollout()}
    monkeypatch.setattr(class_specific, "load", lambda *_: TRAINED["small"].build().eval())
    monkeypatch.setattr(class_specific, "methods", lambda _: few)
    made = class_specific.compare("small", "test", 3, 5, tmp_path)
    again = Comparison.read(class_specific.run_of(tmp_path, "small", "test"))
    assert (again.accuracy, again.images, again.seed, again.found.baseline) == (made.accuracy, 3, 5, OURS)
    assert again.found.table().equals(made.found.table())
