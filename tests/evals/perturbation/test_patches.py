"""Maps of patches on the pixels that a model reads, where its patches do not divide the images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from timm.models import VisionTransformer
from torch import Tensor, nn

from attnchain_evals import CentrePrior, InputMagnitude, Protocol, Trial, bundled_vit, perturbation_curve
from attnchain_evals.bench.names import build_methods
from attnchain_evals.metrics import NAOPC, Deletion, EnergyInside, PointingGame, SaCo
from attnchain_evals.metrics.attribution_metric import AttributionMetric
from attnchain_evals.perturbation.features import ranked
from attnchain_evals.perturbation.patches import Patches, enlarged, extent, fitted, patches_of, pooled

LESS, MORE = (23, 22), (18, 17)  # of patches of 4: 5 × 5 of them lie on 20 × 20 pixels
OPTIONS: dict[str, Any] = {"embed_dim": 16, "depth": 1, "num_heads": 2, "num_classes": 3}


def vit(size: tuple[int, int]) -> nn.Module:
    """Patches of 4 × 4 pixels: they leave a rest of images that are greater than 20 × 20, and are padded on smaller ones."""
    torch.manual_seed(0)
    pads = size == MORE
    padding: dict[str, Any] = {"dynamic_img_size": pads, "dynamic_img_pad": pads}
    return VisionTransformer(img_size=20 if pads else size, patch_size=4, **OPTIONS, **padding).eval()


def images_of(size: tuple[int, int], count: int = 1) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [LESS, MORE])
def test_a_model_tells_where_its_patches_lie(size: tuple[int, int]) -> None:
    assert patches_of(vit(size), images_of(size)) == Patches((5, 5), (20, 20))


def test_models_without_patches_or_with_those_that_divide_an_image() -> None:
    assert patches_of(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval(), images_of((2, 2))) is None
    assert patches_of(bundled_vit(), images_of((56, 56))) == Patches((14, 14), (56, 56))


def test_what_cells_cover() -> None:
    patches = Patches((5, 5), (20, 20))
    assert extent((5, 5), LESS, patches) == (20, 20)
    assert extent((5, 4), LESS, patches) == extent((5, 5), LESS, None) == LESS, "another grid, or unknown patches"


def test_maps_on_pixels_by_hand() -> None:
    cells = torch.tensor([[[0.0, 1.0]]])
    patches = Patches((1, 2), (1, 4))
    assert enlarged(cells, (1, 6), patches).tolist() == [[[0, 0.25, 0.75, 1, 1, 1]]]
    assert enlarged(cells, (1, 3), patches).tolist() == [[[0, 0.25, 0.75]]]
    pixels = torch.tensor([[[1.0, 3, 5, 7, 100]]])
    assert pooled(pixels, (1, 2), patches).tolist() == [[[2, 6]]]
    assert pooled(pixels[..., :3], (1, 2), patches).tolist() == [[[2, 5]]], "the mean of the pixels that are there"
    assert fitted(torch.tensor([[True], [False]]), (3, 1)).tolist() == [[True], [False], [False]]


@pytest.mark.parametrize("size", [LESS, MORE])
@pytest.mark.parametrize("features", ["auto", "patch", (5, 5)])
def test_a_patch_is_removed_where_the_model_reads_it(size: tuple[int, int], features: Any) -> None:
    """Row 3 and column 4 begin at pixels 12 and 16. Spread over the image, they began at 14 and 18 of 23 × 22."""
    model, images = vit(size), images_of(size)
    cells = torch.zeros(1, 5, 5)
    cells[0, 3, 4] = 1
    found = perturbation_curve(
        model, images, cells, 1, occlusion="zero", fractions=[1 / 25], ends=False, features=features, score="logit"
    )
    changed = images.clone()
    changed[..., 12:16, 16:] = 0  # a rest belongs to the nearest patch
    with torch.no_grad():
        expected, clean = model(changed)[:, 1], model(images)[:, 1]
    assert torch.allclose(found.scores[:, 0], expected, atol=1e-6)
    assert float((expected - clean).abs()) > 1e-4


def test_attributions_of_pixels_are_pooled_where_the_model_reads_them() -> None:
    model, images = vit(LESS), images_of(LESS)
    heat = torch.zeros(1, *LESS)
    heat[0, 12:16, 16:20] = 1
    assert perturbation_curve(model, images, heat, 1).features == "5 × 5 patches, the means of 23 × 22 pixels"
    scores = ranked(heat, images, (5, 5), Patches((5, 5), (20, 20))).scores.view(5, 5)
    assert scores[3, 4] == 1
    assert scores.sum() == 1


def test_tokens_are_dropped_of_images_that_patches_do_not_divide() -> None:
    torch.manual_seed(0)
    config = transformers.ViTConfig(image_size=23, patch_size=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    model, images = transformers.ViTForImageClassification(config).eval(), images_of((23, 23))
    cells = torch.arange(25.0).view(1, 5, 5)
    curve = perturbation_curve(model, images, cells, 1, occlusion="token-drop", fractions=5)
    unread = images.clone()
    unread[..., 20:, :] = unread[..., 20:] = 0
    same = perturbation_curve(model, unread, cells, 1, occlusion="token-drop", fractions=5)
    assert torch.equal(curve.scores, same.scores), "the rest is not read"


def test_localisation_looks_where_the_model_reads() -> None:
    """The last patch lies on pixels 16 to 19, and the pixels behind it are not read."""
    images, mask = images_of(LESS), torch.zeros(1, *LESS, dtype=torch.bool)
    mask[0, 16:20, 16:20] = True
    cells = torch.zeros(1, 5, 5)
    cells[0, 0, 0] = 1
    corner = mask.flip(1, 2).roll((-3, -2), (1, 2))
    assert corner[0, :4, :4].all()
    trial = Trial(vit(LESS), images, torch.tensor([1]), corner)
    share = float(EnergyInside().measure(trial, cells))
    expected = enlarged(cells, (20, 20)).clamp_min(0)
    assert share == pytest.approx(float(expected[0, :4, :4].sum() / expected.sum()))
    assert float(PointingGame().measure(trial, cells)) == 1
    one_more = corner.roll((1, 1), (1, 2))
    hit = float(PointingGame().measure(Trial(vit(LESS), images, torch.tensor([1]), one_more), cells))
    assert hit == pytest.approx(1 / 4), "the greatest pixels are 2 × 2"


METRICS = [Deletion(Protocol("zero", fractions=5)), SaCo(5, "zero", "patch"), NAOPC((5, 5), 2, "zero")]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_metrics_are_those_of_the_part_that_is_read(metric: AttributionMetric) -> None:
    model, images = vit(LESS), images_of(LESS)
    whole = vit((20, 20))
    whole.load_state_dict(model.state_dict())
    cells = torch.rand(1, 5, 5, generator=torch.Generator().manual_seed(1))
    found = metric.measure(Trial(model, images, torch.tensor([1])), cells)
    assert torch.allclose(found, metric.measure(Trial(whole, images[..., :20, :20], torch.tensor([1])), cells), atol=1e-6)


def test_controls_score_what_a_patch_reads() -> None:
    model, images = vit(LESS), images_of(LESS, 2)
    built = build_methods(["input magnitude", "centre prior"], model, (5, 5))
    magnitude = built["input magnitude"].attribute(images, output="grid")
    distance = (images - images.mean((2, 3), keepdim=True)).abs().mean(1)
    assert float(magnitude[1, 3, 4]) == pytest.approx(float(distance[1, 12:16, 16:20].mean()))
    prior = built["centre prior"].attribute(images, output="grid")[0]
    y, x = torch.tensor(14 / 23 - 0.5), torch.tensor(18 / 22 - 0.5)
    assert float(prior[3, 4]) == pytest.approx(float(torch.exp(-(y**2 + x**2) / (2 * 0.25**2))))
    pixels = built["centre prior"].attribute(images)[0, 0]
    assert pixels[12, 16] == pixels[15, 19] == prior[3, 4]
    assert not pixels[20:].any(), "as of all methods, with output='input'"
    assert float(CentrePrior((5, 5)).attribute(images, output="grid")[0, 2, 2]) == 1, "spread over the image without a model"
    assert InputMagnitude((5, 5)).attribute(images, output="grid").shape == (2, 5, 5)


def test_bounds_of_naopc_belong_to_the_places_of_the_cells() -> None:
    model, images = vit(LESS), torch.rand(2, 3, *LESS, generator=torch.Generator().manual_seed(0))
    grid, pixels, metric = torch.rand(2, 5, 5), torch.rand(2, *LESS), NAOPC((2, 2), occlusion="zero")
    trial = Trial(model, images, torch.tensor([0, 1]))
    metric.measure(trial, grid)
    assert torch.equal(metric.measure(trial, pixels), metric.measure(Trial(model, images, trial.target), pixels))
