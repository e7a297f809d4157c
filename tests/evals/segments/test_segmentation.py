"""Regions, pieces, the object, and what belongs to a point, of a picture whose areas are known."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from attnchain_evals import segment
from attnchain_interp import AttentionError, AttentionStore, TokenLayout

from .scenes import AREAS, Colours, clip, picture, preprocess


def same_partition(one: np.ndarray, other: np.ndarray) -> bool:
    """Says whether labels part as others do, but for pixels within two of the others' boundaries."""
    away = maximum_filter(other, 5) == minimum_filter(other, 5)
    pairs = {*zip(one[away].tolist(), other[away].tolist(), strict=True)}
    return len(pairs) == len(np.unique(one)) == len(np.unique(other))


def areas(size: int = 160) -> np.ndarray:
    return AREAS.numpy().repeat(size // 8, 0).repeat(size // 8, 1)


@pytest.mark.parametrize("k", [3, None])
def test_regions_are_the_areas(k: int | None) -> None:
    found = segment(Colours(), picture(), preprocess, k=k)
    assert repr(found) == f"Segments({len(found.memberships)} segments of {picture().width} × {picture().height} pixels)"
    assert same_partition(found.labels, areas())
    assert found.memberships.shape == (3, 24, 24)
    assert np.allclose(found.memberships.sum(0), 1, atol=1e-5)
    assert found.weights.sum() == pytest.approx(1, abs=1e-5)
    assert (np.diff(found.weights) <= 0).all()
    assert found.facts["k_rule"] == ("given" if k else "3 eigenvalues above 0.22")
    assert found.facts["eigenvalues"][0] == 1


def test_scales_of_one_forward() -> None:
    found = segment(Colours(), picture(), preprocess, scales=3)
    assert [*found.scales] == [2, 3]
    assert same_partition(found.scales[3], areas())
    assert len(np.unique(found.scales[2])) == 2
    nested = found.facts["nesting"][3]
    assert sorted(nested["parents"]) in ([1, 1, 2], [1, 2, 2])
    assert nested["shares"] == pytest.approx([1, 1, 1], abs=1e-3)
    with pytest.raises(AttentionError, match="scales is 1"):
        segment(Colours(), picture(), preprocess, scales=1)


def test_without_refinement_a_boundary_is_where_shares_are_equal() -> None:
    found = segment(Colours(), picture(), preprocess, k=3, refine=False)
    assert np.array_equal(found.labels, found.unrefined)
    assert (found.labels[10] == found.labels[10, 0]).mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("asked", [{"k": 3}, {"point": (84.0, 20.0)}, {"wanted": "pieces"}])
def test_patches_lie_where_a_model_reads_them(asked: dict[str, Any]) -> None:
    """9 × 9 patches of 8 pixels lie on 72 of 79. Spread over the whole, the boundary at 80 of 160 pixels was at 89."""
    found = segment(Colours((79,)), picture(), lambda image: preprocess(image, 79), refine=False, **asked)
    assert found.memberships.shape[1:] == (9, 9)
    for labels in (found.labels, found.unrefined):
        for line in (labels[20], labels[:, 140]):
            (boundary,) = np.flatnonzero(np.diff(line)) + 1
            assert abs(boundary - 80) < 4


def test_pieces_of_a_region_that_lies_in_two_places() -> None:
    pixels = np.asarray(picture()).copy()
    pixels[:, 60:100] = (0, 0, 0)
    pixels[:, 100:] = pixels[:, :60]
    image = Image.fromarray(pixels)
    whole, cut = (segment(Colours(), image, preprocess, k=2, wanted=wanted) for wanted in ("regions", "pieces"))
    assert len(np.unique(whole.labels)) == 2
    assert whole.labels[0, 0] == whole.labels[0, -1]
    assert sorted(np.unique(cut.labels)) == [1, 2, 3]
    assert cut.labels[0, 0] != cut.labels[0, -1]
    assert repr(whole).startswith("Segments(2 segments")
    assert repr(cut).startswith("Segments(3 segments")


def test_a_picture_without_parts_is_one_region() -> None:
    found = segment(Colours(), Image.new("RGB", (160, 160), "grey"), preprocess)
    assert len(found.weights) == 1
    assert (found.labels == 1).all()
    assert "no parts" in found.facts["k_rule"]


def test_what_belongs_to_a_point_and_a_box() -> None:
    lower_right = areas() == 2
    by_point = segment(Colours(), picture(), preprocess, point=(130, 130))
    by_box = segment(Colours(), picture(), preprocess, box=(90, 90, 150, 150))
    for found in (by_point, by_box):
        assert ((found.labels == 1) == lower_right).mean() > 0.98
        assert set(found.areas) == {0, 1}


def test_the_object_is_where_the_class_token_walks() -> None:
    """The class token is the mean of all patches, nearest to the half that most of them are."""
    found = segment(Colours(), picture(), preprocess, wanted="object")
    assert ((found.labels == 1) == (areas() == 0)).mean() > 0.98


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P"])
def test_any_mode_and_any_size(mode: str) -> None:
    assert segment(Colours(), picture().convert(mode), preprocess, k=2, refine=False).labels.shape == (160, 160)
    one = segment(Colours(), Image.new("RGB", (1, 1)), preprocess)
    assert one.labels.tolist() == [[1]]
    assert segment(Colours(), Image.new("RGB", (300, 2)), preprocess).labels.shape == (2, 300)


def test_bad_calls() -> None:
    model = Colours()
    with pytest.raises(AttentionError, match=r"(?s)image is of type ndarray.*Image.fromarray"):
        segment(model, np.zeros((8, 8, 3)), lambda image: image)
    with pytest.raises(AttentionError, match=r"(?s)preprocess is a ViTImageProcessor.*pixel_values"):
        segment(model, picture(), transformers.ViTImageProcessor())  # type: ignore[arg-type]
    with pytest.raises(AttentionError, match="preprocess is None"):
        segment(model, picture())
    with pytest.raises(AttentionError, match=r"\(200.0, 10.0\) is not within the photograph of 160 × 160"):
        segment(model, picture(), preprocess, point=(200, 10))
    with pytest.raises(AttentionError, match="several of k, point, box, word and the object"):
        segment(model, picture(), preprocess, k=2, point=(1, 1))
    with pytest.raises(AttentionError, match="preprocess returns a NoneType, not pixels"):
        segment(model, picture(), lambda image: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(AttentionError, match=r"(?s)returns a tensor \(3, 64, 64\), not pixels.*\[None\]"):
        segment(model, picture(), lambda image: preprocess(image)[0])
    with pytest.raises(AttentionError, match="preprocess is a int, not pixels"):
        segment(model, picture(), 3)  # type: ignore[arg-type]
    for side in (0, 2.5, "a", True):
        with pytest.raises(AttentionError, match="side is .*; it is the pixels of the shorter side"):
            segment(model, picture(), preprocess, side=side)  # type: ignore[arg-type]
    with pytest.raises(AttentionError, match=r"(?s)CLIPModel has two towers.*vision_model, or a word"):
        segment(clip(), picture(), preprocess)
    with pytest.raises(AttentionError, match="k is 0"):
        segment(model, picture(), preprocess, k=0)
    with pytest.raises(AttentionError, match="k is 65, and the chain has 64 states"):
        segment(Colours((64,)), picture(), preprocess, k=65)
    with pytest.raises(AttentionError, match="wanted='things' is unknown"):
        segment(model, picture(), preprocess, wanted="things")  # type: ignore[arg-type]


def test_no_class_token_and_no_grid() -> None:
    def plain(images: torch.Tensor) -> AttentionStore:
        maps = torch.full((1, 1, 64, 64), 1 / 64)
        return AttentionStore.from_maps([maps], TokenLayout.image(grid=(8, 8)))

    with pytest.raises(AttentionError, match="no class token"):
        segment(plain, picture(), preprocess, wanted="object")
    with pytest.raises(AttentionError, match="are no grid of patches"):
        segment(lambda images: AttentionStore.from_maps([torch.eye(4)[None, None]]), picture(), preprocess)
