"""COCO-Stuff-27 on a tiny folder, with the bundled model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnchain_evals import bundled, bundled_vit, covering, segment
from attnchain_evals.bundled import preprocess
from attnchain_evals.metrics.matched_segments import matched_counts
from attnchain_evals.reproduce.coco_segmentation import METHODS
from attnchain_evals.tasks.coco_panoptic import CocoPanoptic
from attnchain_interp import AttentionError

from ..miniatures import write_coco
from .commands import reproduce, row_of


def test_beside_the_same_by_hand(workplace: Path) -> None:
    write_coco(workplace / "coco")
    arguments = ("coco-segmentation", "--model", "bundled", "-o", "run")  # the folder by its default name
    page = reproduce(*arguments)
    ours, reported = page.split("## Reported by others")
    assert row_of(reported, "DiffSeg, uniform anchors")[1:4] == ["SD 1.4 UNet", "72.50", "43.60"]
    assert all(f"| {method} |" in ours for method in METHODS)

    data = CocoPanoptic("coco")
    whole, covered = torch.zeros(3, 2), []
    for image, mask in (data[0], data[1]):
        photograph = Image.fromarray(image.permute(1, 2, 0).numpy())
        labels = torch.from_numpy(np.ascontiguousarray(segment(bundled_vit(), photograph, preprocess, k=6).labels))
        whole += matched_counts(labels, mask[0], 2)
        inside = mask[1] >= 0
        covered.append(covering(labels[inside][None], mask[1][inside][None, None]).item())
    right, extra, lacking = whole
    expected = [
        100 * right.sum() / (right + lacking).sum(),
        100 * (right / (right + extra + lacking)).mean(),
        np.mean(covered),
    ]
    found = [float(cell.split()[0]) for cell in row_of(ours, "regions, k = 6")[1:]]
    assert found == pytest.approx([float(value) for value in expected], abs=0.006)
    one = [float(cell.split()[0]) for cell in row_of(ours, "one segment")[1:]]
    assert one == pytest.approx([100 * 24 / 44, 50 * 24 / 44, (24**2 + 20**2) / 44**2], abs=0.006)
    before = (workplace / "run" / "rows-00000.csv").read_bytes()
    assert reproduce(*arguments) == page
    assert (workplace / "run" / "rows-00000.csv").read_bytes() == before, "a finished run is not done again"


def test_another_preprocessing_is_another_run(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_coco(workplace / "coco")
    arguments = ("coco-segmentation", "--model", "bundled", "--limit", "1", "-o", "run")
    reproduce(*arguments)
    monkeypatch.setattr(bundled, "preprocess", lambda image: preprocess(image) - 0.5)
    with pytest.raises(AttentionError, match=r"holds another run \(preprocessing: "):
        reproduce(*arguments)
