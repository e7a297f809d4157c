import numpy as np
import pytest
import torch

from attnchain_evals.report.diffusion_figures import region_figure, sample_figure
from attnchain_evals.tasks.textured_digits import TexturedDigits


def test_a_row_of_samples_for_each_guidance() -> None:
    samples = {"none": torch.zeros(3, 1, 4, 4), "TokenRank, scale 2": torch.ones(2, 1, 4, 4)}
    figure = sample_figure(samples)
    assert len(figure.axes) == 6
    assert [len(axis.images) for axis in figure.axes] == [1, 1, 1, 1, 1, 0]
    assert [text.get_text() for axis in figure.axes for text in axis.texts] == ["none", "TokenRank\nscale 2"]


def test_neither_object_nor_background_is_grey() -> None:
    batch = next(TexturedDigits("test", 2).batches(2))
    regions = torch.zeros(2, 32, 32).long()
    regions[:, 0, 0], regions[:, 0, 1] = 1, -1
    figure = region_figure(batch, {"a method": regions})
    assert len(figure.axes) == 2 * 3
    shown = np.asarray(figure.axes[2].images[0].get_array())
    assert shown[0, :3].tolist() == pytest.approx([1, 0.5, 0])
