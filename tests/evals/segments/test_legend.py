"""The strip under an overlay, and the marks on it."""

import numpy as np
import pytest

from attnchain_evals.segments.legend import Entry, with_legend

RED, BLUE = (255, 0, 0), (0, 0, 255)


def at(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int]:
    """The first row and column of a colour."""
    row, column = np.argwhere((picture == colour).all(-1))[0]
    return int(row), int(column)


def test_the_overlay_stays_and_entries_follow() -> None:
    overlay = np.full((50, 400, 3), 99, np.uint8)
    picture = with_legend(overlay, [Entry(RED, "one"), Entry(BLUE, "two")])
    assert np.array_equal(picture[:50], overlay)
    (row, column), (other_row, other_column) = at(picture, RED), at(picture, BLUE)
    assert row == other_row > 50
    assert 0 < column < other_column
    assert (picture[50:] < 100).all(-1).any(), "letters"


def test_what_does_not_fit_stands_below() -> None:
    entries = [Entry(RED, "a long name of a thing"), Entry(BLUE, "another long name of a thing")]
    narrow, wide = (with_legend(np.full((20, width, 3), 99, np.uint8), entries) for width in (30, 900))
    assert at(narrow, BLUE)[0] > at(narrow, RED)[0]
    assert at(wide, BLUE)[0] == at(wide, RED)[0]
    assert wide.shape[1] == 900
    assert narrow.shape[1] > 30
    assert (narrow[:20, 30:] == 255).all()


@pytest.mark.parametrize("place", [(100, 30), (60, 10, 140, 50)])
def test_a_place_is_marked(place: tuple[float, ...]) -> None:
    overlay = np.full((80, 200, 3), 99, np.uint8)
    changed = np.argwhere((with_legend(overlay, [Entry(RED, "x")], place)[:80] != overlay).any(-1))
    assert changed[:, ::-1].mean(0) == pytest.approx((100, 30), abs=2)
    inside = (abs(changed - (30, 100)) < (10, 30)).all(1)
    assert inside.all() if len(place) == 2 else not inside.any()
