from typing import Any

import numpy as np
import pytest
import torch

from attnchain_evals import perturbation_curve
from attnchain_evals.perturbation.label_map import check_features, label_map
from attnchain_interp import AttentionError

LABELS = torch.tensor([[[0, 1, 2, 3]] * 2, [[0, 0, 1, 1]] * 2])
IMAGES = torch.rand(2, 1, 2, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("given", [LABELS, LABELS.numpy(), LABELS.numpy().astype(np.uint16), lambda images: LABELS.numpy()])
def test_a_label_map_is_a_tensor_an_array_or_made_of_the_images(given: Any) -> None:
    found = label_map(given, IMAGES)
    assert torch.equal(found, LABELS)
    assert found.dtype == torch.long

    def model(images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)

    curves = [perturbation_curve(model, IMAGES, IMAGES[:, 0], 0, features=each, fractions=4) for each in (given, LABELS)]
    assert torch.equal(curves[0].scores, curves[1].scores)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (LABELS[:, :, :3], r"the label map is \(2, 2, 3\) of torch.int64; these inputs need \(2, 2, 4\) of integers from 0"),
        (LABELS.float().numpy(), "of torch.float32"),
        (LABELS > 0, "of torch.bool"),
        (LABELS - 1, "integers from 0"),
        (LABELS * 2, "has gaps"),
        ([2, 2], r"features is \[2, 2\], of another type"),
        (5, "features is 5, of another type"),
        (lambda images: 5, r"the label map is \(\) of torch.int64"),
    ],
)
def test_what_is_refused(given: Any, named: str) -> None:
    with pytest.raises(AttentionError, match=named):
        label_map(given, IMAGES)


def test_a_token_of_no_feature() -> None:
    texts = torch.zeros(2, 3, dtype=torch.long)
    assert label_map(torch.tensor([[-1, 0, 1]] * 2), texts).tolist() == [[-1, 0, 1]] * 2
    with pytest.raises(AttentionError, match="an example has no feature"):
        label_map(torch.tensor([[-1, 0, 1], [-1, -1, -1]]), texts)
    with pytest.raises(AttentionError, match="another type"):
        check_features({})
