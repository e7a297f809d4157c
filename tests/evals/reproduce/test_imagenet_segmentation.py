from __future__ import annotations

from pathlib import Path

import pytest
import torch

import attnchain_interp as ac
from attnchain_evals import ImageNetSegmentation, WholeImage, segmentation_scores
from attnchain_evals.bench.model_loading import load
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.metrics import localisation_metrics
from attnchain_evals.reproduce.imagenet_segmentation import BOUNCES, METHODS

from ...published import PLAIN
from ..miniatures import write_gtsegs, write_timm
from .commands import reproduce, row_of


def test_imagenet_segmentation(workplace: Path) -> None:
    write_gtsegs(workplace / "gtsegs_ijcv.mat", 4)
    name = write_timm(workplace / "vit")
    arguments = ("imagenet-segmentation", "--model", name, "--output", "run")  # the file by its default name
    page = reproduce(*arguments)
    ours, reported = page.split("## Reported by others")
    assert "not measured here" in reported
    assert row_of(reported, "ConceptAttention")[1:6] == ["FLUX DiT", "83.07", "71.04", "90.45", "[1]"]
    assert "secondary note" in reported
    assert (workplace / "run" / "reproduction.md").read_text() == page.rstrip("\n") + "\n"
    assert (workplace / "run" / "report.html").exists()

    model = load(name)
    assert model.preprocess is not None
    data = ImageNetSegmentation("gtsegs_ijcv.mat", WholeImage(model.preprocess))
    pictures = [data[index] for index in range(4)]
    images = torch.stack([picture.image for picture in pictures])
    masks = torch.stack([picture.mask for picture in pictures if picture.mask is not None])
    target = model.model(images).argmax(1)
    for method, attribution in (
        ("Rollout", ac.Rollout(model.model)),
        ("plain MultiBounce(steps=2)", ac.MultiBounce(model.model, steps=2, **PLAIN)),
        ("GradientAttention", ac.GradientAttention(model.model)),
    ):
        expected = segmentation_scores(attribution.attribute(images, target, output="grid"), masks)
        found = [float(cell.split()[0]) for cell in row_of(ours, method)[1:]]
        assert found == pytest.approx([100 * expected[key] for key in ("acc", "miou", "map")], abs=0.006)
    assert all(f"| {method} |" in ours for method in METHODS)
    before = (workplace / "run" / "rows-00000.csv").read_bytes()
    assert reproduce(*arguments) == page
    assert (workplace / "run" / "rows-00000.csv").read_bytes() == before, "a finished run is not done again"
    with pytest.raises(ac.AttentionError, match=r"run holds another run \(run/run\.json\)"):
        reproduce(*arguments, "--sweep")
    assert (workplace / "run" / "reproduction.md").read_text() == page.rstrip("\n") + "\n"


def test_the_number_of_bounces_is_chosen_on_other_images(workplace: Path) -> None:
    write_gtsegs(workplace / "small.mat", 12)
    name = write_timm(workplace / "vit")
    arguments = ("imagenet-segmentation", "--data", "imagenet-segmentation:small.mat", "--model", name, "-o", "run")
    page = reproduce(*arguments, "--sweep")
    assert "mean IoU of 3 validation images; the others are 9 test images" in page
    shown = [line.split("|") for line in page.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert [cells[1].split()[0] for cells in shown] == [str(step) for step in range(1, 9)]
    scores = [float(cells[2].split()[0]) for cells in shown]
    (chosen,) = (k for k, cells in enumerate(shown) if "chosen" in cells[1])
    assert scores[chosen] == max(scores)
    kept = BenchmarkResult.read("run/test", localisation_metrics())
    assert [cells[5].split()[0] for cells in shown] == [f"{kept.scores[name]['map'].value:.3f}" for name in BOUNCES]
    (gain,) = (cells[6].strip().rstrip("*") for cells in shown if cells[1].split()[0] == "2")
    assert gain == str(kept.differences[BOUNCES[1]]["miou"].score)
    assert not shown[0][6].strip()
    with pytest.raises(ac.AttentionError, match=r"run holds another run \(run/test/run\.json\)"):
        reproduce(*arguments)
