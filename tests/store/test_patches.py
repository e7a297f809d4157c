import pytest

from attnchain_interp.store import covered

LESS = {"patches": "2×1 patches of 3×4 pixels in 7×5"}
MORE = "2×2 patches of 4×4 pixels in 7×5"


def test_what_a_grid_covers() -> None:
    assert covered({}, (2, 1), (7, 5)) == (7, 5)
    assert covered(LESS, (2, 1), (7, 5)) == (6, 4)
    assert covered(LESS, (1, 1), (7, 5)) == (7, 5), "another grid"
    assert covered({"patches": f"{LESS['patches']}; {MORE}"}, (2, 2), (7, 5)) == (8, 8)


def test_a_grid_covers_the_same_share_of_an_image_of_another_size() -> None:
    assert covered(LESS, (2, 1), (70, 50)) == (60, 40)
    assert covered({"patches": f"2×1 patches of 1×1 pixels in 4×4; {LESS['patches']}"}, (2, 1), (7, 5)) == (6, 4)


@pytest.mark.parametrize("text", ["", "all", "2×1 patches", "2×1 patches of 3×4 pixels in 0×5"])
def test_a_text_of_another_kind_says_nothing(text: str) -> None:
    assert covered({"patches": text}, (2, 1), (7, 5)) == (7, 5)


def test_a_grid_of_unknown_places_is_spread_with_a_warning() -> None:
    unknown = {"patches": "2×1 patches in 7×5, at places that are unknown"}
    with pytest.warns(UserWarning, match="2 × 1 patches .* at places that are unknown. They are spread over the image"):
        assert covered(unknown, (2, 1), (7, 5)) == (7, 5)
    assert covered(unknown, (1, 1), (7, 5)) == (7, 5), "another grid, without a warning"
