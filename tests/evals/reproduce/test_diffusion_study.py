from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from attnchain_evals import bundled_diffusion
from attnchain_evals.bundled.diffusion_model import WEIGHTS, build_unet
from attnchain_evals.bundled.digit_classifier import bundled_digit_classifier
from attnchain_evals.cli.app import app
from attnchain_evals.cli.diffusion_demo import DiffusionDemo, run
from attnchain_evals.metrics.segment_matching import acc_and_miou, counts
from attnchain_evals.reproduce.diffusion_study import guidance_tables, segmentation_table, study_guidance, study_segmentation
from attnchain_evals.reproduce.digit_segmentation import CEILING, READINGS, attention_of, found, points, tuned
from attnchain_evals.reproduce.guided_samples import NONE, Guidance, sample
from attnchain_evals.tasks.textured_digits import TexturedDigits
from studies.training.diffusion_model import train


@pytest.fixture(scope="module")
def pipe() -> Any:
    return bundled_diffusion()


def test_samples_are_deterministic_and_of_the_class_asked_for(pipe: Any) -> None:
    assert WEIGHTS.stat().st_size < 5_000_000

    def drawn(labels: torch.Tensor, steps: int, seed: int) -> torch.Tensor:
        noise = torch.Generator().manual_seed(seed)
        return pipe(labels, num_inference_steps=steps, guidance_scale=3.0, generator=noise).images

    few, labels = torch.tensor([3, 7]), torch.arange(30) % 10
    assert torch.equal(drawn(few, 2, seed=0), drawn(few, 2, seed=0))
    assert not torch.equal(drawn(few, 2, seed=0), drawn(few, 2, seed=1))
    images = drawn(labels, 8, seed=0)
    assert images.shape == (30, 1, 32, 32)
    with torch.no_grad():
        right = bundled_digit_classifier()(images).argmax(1) == labels
    assert float(right.float().mean()) > 0.8  # 1.00 and 0.97 of these seeds 0 and 1


def test_guidances_start_from_the_same_noise_and_differ(pipe: Any) -> None:
    plain, labels = sample(pipe, NONE, 4, 0, 2, classes=True)
    assert labels is not None
    assert labels.tolist() == [0, 1, 2, 3]
    assert torch.equal(sample(pipe, Guidance("token-rank", 0.0), 4, 0, 2, classes=True)[0], plain)
    guided = [sample(pipe, Guidance(name, 1.0), 4, 0, 2, classes=True)[0] for name in ("column-sum", "token-rank", "random")]
    for one in guided:
        assert 0 < float((one - plain).abs().mean()) < 0.2
    assert not torch.equal(guided[1], guided[2])
    assert sample(pipe, NONE, 4, 0, 2, classes=False)[1] is None


def test_the_study_of_guidance_chooses_on_other_seeds(pipe: Any) -> None:
    study = study_guidance(pipe, (0.5, 1.0), images=4, choosing_seeds=1, seeds=2, steps=2, classes=True)
    assert len(study.tried) == 6
    assert [guidance.importance for guidance in study.reported] == ["none", "column-sum", "token-rank", "random"]
    for guidance in list(study.reported)[1:]:
        rival = next(one for one in study.tried if one.importance == guidance.importance and one != guidance)
        assert study.tried[guidance][0, 0] <= study.tried[rival][0, 0]
    assert all(scores.shape == (2, 3) for scores in study.reported.values())
    text = guidance_tables(study)
    assert "of the class asked for" in text
    assert "TokenRank, scale" in text


def test_points_lie_on_the_mask() -> None:
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[0, 4:6, 8:10], masks[1, 30:, 30:] = True, True
    assert points(masks).tolist() == [2 * 16 + 4, 255]


def test_attention_is_one_chain_on_the_fine_grid_and_repeats(pipe: Any) -> None:
    images = next(TexturedDigits("validation", 2).batches(2)).image
    both = attention_of(pipe, images, READINGS[2])
    assert (len(READINGS[2].grids), both.tokens.grid) == (2, (16, 16))
    torch.testing.assert_close(both.maps().sum(-1), torch.ones(2, 1, 1, 256))
    assert torch.equal(both.maps(), attention_of(pipe, images, READINGS[2]).maps())
    assert not torch.equal(both.maps(), attention_of(pipe, images, READINGS[0]).maps())


def test_the_study_of_segments_finds_digits_better_than_nothing(pipe: Any) -> None:
    batch = next(TexturedDigits("validation", 6).batches(6))
    chosen = tuned(pipe, batch, READINGS[1:2])
    regions = found(pipe, batch, chosen)
    miou = {name: float(acc_and_miou(counts(region, batch.mask).mean(0))[1]) for name, region in regions.items()}
    assert miou == pytest.approx({name: choice.miou for name, choice in chosen.items()})
    nothing = float(acc_and_miou(counts(torch.zeros_like(batch.mask).long(), batch.mask).mean(0))[1])
    assert miou["two metastable states"] > nothing + 0.2
    assert miou["multi-bounce from a point"] > nothing + 0.1
    assert miou[CEILING] == max(score for name, score in miou.items() if "brightness" not in name)
    test = next(TexturedDigits("test", 4).batches(4))
    text = segmentation_table(study_segmentation(pipe, batch, test, READINGS[1:2]))
    assert text.count("\n") == 2 + len(chosen)


def test_training_writes_weights_that_load(tmp_path: Path) -> None:
    train(32, 0, tmp_path / "weights.safetensors")
    build_unet().load_state_dict(load_file(tmp_path / "weights.safetensors"))


def test_the_demo_writes_tables_and_pictures(tmp_path: Path) -> None:
    demo = run(tmp_path, images=2, seed=0, steps=2, readings=READINGS[1:2])
    assert "DiffSeg, TokenRank anchors" in demo.tables
    assert "docs/diffusion-results.md" in demo.tables
    assert sorted(file.name for file in demo.files) == ["bounces.png", "samples.png", "segments.png", "tables.md"]
    assert sorted(demo.files) == sorted(tmp_path.iterdir())


def test_the_command_runs_it_and_prints_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ran(out: Path, images: int, seed: int, say: Any) -> DiffusionDemo:
        return DiffusionDemo(f"{images} images, seed {seed}", [out / "tables.md"])

    monkeypatch.setattr("attnchain_evals.cli.diffusion_demo.run", ran)
    said = CliRunner().invoke(app, ["demo", "--diffusion", "--images", "5", "--seed", "2", "--out", str(tmp_path)]).output
    assert "5 images, seed 2" in said
    assert str(tmp_path / "tables.md") in said.replace("\n", "")
