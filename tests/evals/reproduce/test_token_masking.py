from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import attnchain_interp as ac
from attnchain_evals import perturbation_curve
from attnchain_evals.bench.model_loading import load
from attnchain_evals.perturbation.curve import Order
from attnchain_evals.tasks.image_folder import open_image

from ...published import PLAIN
from ..miniatures import write_classes, write_gtsegs, write_timm
from .commands import reproduce, row_of


def test_token_masking(workplace: Path) -> None:
    write_classes(workplace / "imagenet" / "val")
    name = write_timm(workplace / "vit")
    page = reproduce("token-masking", "--model", name, "--output", "run", "--batch-size", "4")
    ours, reported = page.split("## Reported by others")
    assert row_of(reported, "TokenRank")[2] == "0.26 to 0.64"
    model = load(name)
    assert model.preprocess is not None
    files = sorted((workplace / "imagenet" / "val").rglob("*.png"))
    images = torch.cat([model.preprocess(open_image(file)) for file in files])
    labels = torch.tensor([0] * 3 + [2] * 3)
    grid = ac.TokenRank(model.model, **PLAIN).attribute(images, output="grid")
    orders: tuple[tuple[int, Order], ...] = ((1, "morf"), (2, "lerf"))
    for column, order in orders:
        curve = perturbation_curve(model.model, images, grid, labels, occlusion="token-drop", score="accuracy", order=order)
        assert float(row_of(ours, "plain TokenRank")[column].split()[0]) == pytest.approx(float(curve.auc.mean()), abs=6e-4)
        assert 0 < float(curve.auc.mean()) < 1
    clean = (model.model(images).argmax(1) == labels).double().mean()
    assert float(row_of(ours, "plain TokenRank")[3]) == pytest.approx(float(clean), abs=6e-4)


def test_token_masking_needs_labels(workplace: Path) -> None:
    write_gtsegs(workplace / "small.mat", 2)
    name = write_timm(workplace / "vit")
    with pytest.raises(ac.AttentionError, match="the trial has no labels"):
        reproduce("token-masking", "--data", "imagenet-segmentation:small.mat", "--model", name, "--output", "run")


def test_folders_that_are_fewer_than_the_classes_are_refused(workplace: Path) -> None:
    """The first folder would be class 0, whatever its name."""
    for number, name in enumerate(("cat", "dog")):
        (workplace / "pets" / name).mkdir(parents=True)
        Image.new("RGB", (20, 20), (90 * number, 0, 0)).save(workplace / "pets" / name / "0.png")
    with pytest.raises(ac.AttentionError, match="the data have 2 classes and the model has 10, so the numbers"):
        reproduce("token-masking", "--data", "classes:pets", "--model", "bundled", "--output", "run")
