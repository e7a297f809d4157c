"""The published experiments, end to end on small copies of the real files with tiny models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import attnchain_interp as ac
from attnchain_evals import ImageNetSegmentation, WholeImage, benchmark, perturbation_curve, segmentation_scores
from attnchain_evals.bench.model_loading import load, open_image
from attnchain_evals.cli import app as cli
from attnchain_evals.perturbation.perturbation_curve import Order
from attnchain_evals.reproduce.imagenet_segmentation import METHODS
from attnchain_evals.reproduce.reported import IMAGENET_SEGMENTATION, TOKEN_MASKING
from attnchain_evals.reproduce.sweep import bounces, sweep
from attnchain_evals.reproduce.token_masking import HIGHEST
from attnchain_evals.tasks.examples import Picture
from attnchain_evals.tasks.selection import Selection

from ..bench_tasks import tiny_vit
from ..miniatures import write_classes, write_gtsegs, write_timm


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reproduce(*arguments: str | Path) -> str:
    result = CliRunner().invoke(cli.app, ["reproduce", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def row_of(page: str, method: str) -> list[str]:
    (line,) = (line for line in page.splitlines() if line.startswith(f"| {method} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


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
        ("MultiBounce(steps=2)", ac.MultiBounce(model.model, steps=2)),
        ("GradientAttention", ac.GradientAttention(model.model)),
    ):
        expected = segmentation_scores(attribution.attribute(images, target, output="grid"), masks)
        found = [float(cell.split()[0]) for cell in row_of(ours, method)[1:]]
        assert found == pytest.approx([100 * expected[key] for key in ("acc", "miou", "map")], abs=0.006)
    assert all(f"| {method} |" in ours for method in METHODS)
    before = (workplace / "run" / "rows-00000.csv").read_bytes()
    assert reproduce(*arguments) == page
    assert (workplace / "run" / "rows-00000.csv").read_bytes() == before, "a finished run is not done again"


def test_a_model_without_classes_or_with_a_limit(workplace: Path) -> None:
    write_gtsegs(workplace / "small.mat", 4)
    name = write_timm(workplace / "dino", num_classes=0)
    arguments = ("--data", "imagenet-segmentation:small.mat", "--model", name, "--limit", "3", "-o", "run")
    page = reproduce("imagenet-segmentation", *arguments)
    assert "For testing only: limited to 3 examples" in page
    assert "| Rollout |" in page
    assert not any(f"| {method} |" in page for method in ("GradientAttention", "GradientRollout", "LeGrad"))


def test_the_number_of_bounces_is_chosen_on_other_images(workplace: Path) -> None:
    write_gtsegs(workplace / "small.mat", 12)
    name = write_timm(workplace / "vit")
    page = reproduce(
        "imagenet-segmentation", "--sweep", "--data", "imagenet-segmentation:small.mat", "--model", name, "-o", "run"
    )
    assert "mean IoU of 3 validation images; the others are 9 test images" in page
    shown = [line.split("|") for line in page.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert [cells[1].split()[0] for cells in shown] == [str(step) for step in range(1, 9)]
    scores = [float(cells[2].split()[0]) for cells in shown]
    (chosen,) = (k for k, cells in enumerate(shown) if "chosen" in cells[1])
    assert scores[chosen] == max(scores)


def test_a_sweep_is_two_benchmarks(tmp_path: Path) -> None:
    class Pictures:
        identity = "random"

        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> Picture:
            generator = torch.Generator().manual_seed(index)
            image = torch.rand(3, 16, 16, generator=generator)
            return Picture(image, torch.rand(16, 16, generator=generator) > 0.5)

    model, data = tiny_vit(), Pictures()
    parts = Selection(data, range(0, 6, 2)), Selection(data, range(1, 6, 2))
    found = sweep(model, *parts, tmp_path, steps=(1, 2, 3))
    alone = benchmark(model, parts[1], {"m": ac.MultiBounce(steps=3)}, list(found.test.metrics.values()))
    assert found.test.scores[bounces(3)]["miou"].value == pytest.approx(alone.scores["m"]["miou"].value)
    best = max((1, 2, 3), key=lambda step: found.validation.scores[bounces(step)]["miou"].value)
    assert found.chosen == best
    assert parts[0].identity["numbers"] == [0, 2, 4]
    with pytest.raises(ac.AttentionError, match="at least two numbers of bounces, each once"):
        sweep(model, *parts, tmp_path, steps=(2, 2))


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
    grid = ac.TokenRank(model.model).attribute(images, output="grid")
    orders: tuple[tuple[int, Order], ...] = ((1, "morf"), (2, "lerf"))
    for column, order in orders:
        curve = perturbation_curve(model.model, images, grid, labels, occlusion="token-drop", score="accuracy", order=order)
        assert float(row_of(ours, "TokenRank")[column].split()[0]) == pytest.approx(float(curve.auc.mean()), abs=6e-4)
        assert 0 < float(curve.auc.mean()) < 1
    clean = (model.model(images).argmax(1) == labels).double().mean()
    assert float(row_of(ours, "TokenRank")[3]) == pytest.approx(float(clean), abs=6e-4)


def test_token_masking_needs_labels(workplace: Path) -> None:
    write_gtsegs(workplace / "small.mat", 2)
    name = write_timm(workplace / "vit")
    with pytest.raises(ac.AttentionError, match="these data say none"):
        reproduce("token-masking", "--data", "imagenet-segmentation:small.mat", "--model", name, "--output", "run")


def test_every_reported_number_has_a_source_and_how_sure_it_is() -> None:
    for row in (*IMAGENET_SEGMENTATION, *TOKEN_MASKING):
        assert row.figures
        assert row.source
        assert row.certainty.startswith("reported")
    erel = [row for row in (*IMAGENET_SEGMENTATION, *TOKEN_MASKING) if "Erel" in row.source]
    assert len(erel) == 3
    assert all("secondary" in row.certainty for row in erel)
    assert HIGHEST.startswith("token-masking")
    assert np.isfinite([float(figure) for row in IMAGENET_SEGMENTATION for figure in row.figures.values()]).all()
