"""Every method of docs/methods.md has a picture, which a command draws."""

from __future__ import annotations

import re

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from attnchain_evals.bench.names import method_classes
from studies.method_pictures import FOLDER, methods, picture, text_picture
from studies.speed.measurement import ROOT


def test_every_method_has_a_picture_on_the_page() -> None:
    page = (ROOT / "docs/methods.md").read_text("utf-8")
    shown = set(re.findall(r"\]\(images/methods/(\w+)\.png\)", page))
    assert set(methods(None)) == {*method_classes(), "MetastableStates", "RolloutOfContributions"}
    assert shown == {*methods(None), "text"} == {file.stem for file in FOLDER.glob("*.png")}
    assert all(file.stat().st_size <= 30_000 for file in FOLDER.glob("*.png"))


def test_a_picture_outlines_the_digit_and_colours_the_scores() -> None:
    images, masks = torch.rand(2, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[:, 2:6, 2:6] = True
    grids = torch.tensor([[[0.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 2.0]]])
    axes = picture(images, masks, grids, labels=False).axes
    assert len(axes) == 4
    for axis, grid in zip(axes[1::2], grids, strict=True):
        drawn = axis.images[0]
        assert np.array_equal(np.asarray(drawn.get_array()), grid.numpy())
        assert drawn.get_extent() == [-0.5, 7.5, 7.5, -0.5]
        assert len(axis.collections) == 1


def test_the_evidence_of_a_text_is_bold() -> None:
    figure = text_picture({"A": torch.tensor([1.0, 2.0])}, ["k0", "v3"], torch.tensor([False, True]))
    FigureCanvasAgg(figure).draw()
    weights = [label.get_fontweight() for label in figure.axes[0].get_xticklabels()]
    assert weights == ["normal", "bold"]
