"""The places of patches in words and in pixels, by hand."""

import pytest
import torch

from attnchain_interp import AttentionError
from attnchain_interp.store import PatchPlaces, covered_size
from attnchain_interp.store.patches_on_pixels import check_same_image, in_cells, on_pixels

LESS = {"patches": "2×1 patches of 3×4 pixels in 7×5"}
MORE = {"patches": "2×2 patches of 4×4 pixels in 7×5"}


def test_what_a_grid_covers() -> None:
    assert covered_size({}, (2, 1), (7, 5)) == (7, 5)
    assert covered_size(LESS, (2, 1), (7, 5)) == (6, 4)
    assert covered_size(LESS, (1, 1), (7, 5)) == (7, 5), "another grid"
    assert covered_size({"patches": f"{LESS['patches']}; {MORE['patches']}"}, (2, 2), (7, 5)) == (8, 8)


def test_a_grid_covers_the_same_share_of_an_image_of_another_size() -> None:
    assert covered_size(LESS, (2, 1), (70, 50)) == (60, 40)
    assert covered_size({"patches": f"2×1 patches of 1×1 pixels in 4×4; {LESS['patches']}"}, (2, 1), (7, 5)) == (6, 4)


@pytest.mark.parametrize("text", ["", "all", "2×1 patches", "2×1 patches of 3×4 pixels in 0×5"])
def test_a_text_of_another_kind_says_nothing(text: str) -> None:
    assert covered_size({"patches": text}, (2, 1), (7, 5)) == (7, 5)


def test_a_grid_of_unknown_places_is_spread_with_a_warning() -> None:
    unknown = {"patches": "2×1 patches in 7×5, at places that are unknown"}
    with pytest.warns(UserWarning, match="2 × 1 patches .* at places that are unknown. They are spread over the image"):
        assert covered_size(unknown, (2, 1), (7, 5)) == (7, 5)
    assert covered_size(unknown, (1, 1), (7, 5)) == (7, 5), "another grid, without a warning"


def test_cells_and_pixels() -> None:
    cells = torch.tensor([[[1.0], [2.0]]])
    assert on_pixels(cells, LESS, (7, 5))[0].tolist() == [[1, 1, 1, 1, 0]] * 3 + [[2, 2, 2, 2, 0]] * 3 + [[0] * 5]
    assert in_cells(torch.ones(1, 7, 5), LESS, (2, 1)).tolist() == [[[12], [12]]]
    assert in_cells(torch.ones(1, 7, 5), MORE, (2, 2)).tolist() == [[[16, 4], [12, 3]]]
    assert in_cells(torch.ones(1, 7, 5), {}, (1, 1)).tolist() == [[[35]]]


def test_images_that_a_model_changes_are_refused() -> None:
    check_same_image({"images": "7×5"}, torch.ones(1, 3, 7, 5))
    with pytest.raises(AttentionError, match="the model inside gets images of 7×5"):
        check_same_image({"images": "7×5"}, torch.ones(1, 3, 8, 5))


def test_what_is_written_is_read() -> None:
    places = [PatchPlaces((5, 5), (14, 16), (83, 90)), PatchPlaces((4, 3), None, (38, 64))]
    written = PatchPlaces.written(places)
    assert written == {"patches": "5×5 patches of 14×16 pixels in 83×90; 4×3 patches in 38×64, at places that are unknown"}
    assert PatchPlaces.read(written) == places
    assert PatchPlaces.written([]) == {}
