import numpy as np
import pytest
import torch

from attnchain_evals.tasks.textured_digits import TexturedDigits
from studies.diffusion.pictures import region_figure


def test_neither_object_nor_background_is_grey() -> None:
    batch = next(TexturedDigits("test", 2).batches(2))
    regions = torch.zeros(2, 32, 32).long()
    regions[:, 0, 0], regions[:, 0, 1] = 1, -1
    figure = region_figure(batch, {"a method": regions})
    assert len(figure.axes) == 2 * 3
    shown = np.asarray(figure.axes[2].images[0].get_array())
    assert shown[0, :3].tolist() == pytest.approx([1, 0.5, 0])
