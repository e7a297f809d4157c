"""The page of the study of segments, from made-up scores."""

from __future__ import annotations

import numpy as np
import pytest

from studies.segments.page import BOUNCE, OWN, object_table, page, region_table, scale_table, worst
from studies.segments.photographs import KS, SHOWN


def found(photograph: int, k: int) -> list[float]:
    """Counts: a boundary F of .6 at the last k, of .9 at the first where the photograph is odd, else of .5."""
    share = 0.6 if k == KS[-1] else 0.9 if k == KS[0] and photograph % 2 else 0.5
    return [share * 100, 100, share * 100, 100]


@pytest.fixture
def regions() -> dict[str, dict[str, list[float]]]:
    """Ten photographs: fixed k is .1 below the spectrum's, or above it where the photograph is odd."""
    return {
        f"p{i}": {OWN: [0.5 + i / 100, 0.8, 1.5, 8, 10, 8, 10]}
        | {f"states, k = {k}": [0.4 + i / 100 + 0.2 * (i % 2) * (k == KS[0]), 0.7, 2.0, *found(i, k)] for k in KS}
        for i in range(10)
    }


@pytest.fixture
def objects() -> dict[str, dict[str, list[float]]]:
    return {f"p{i}": {BOUNCE: [0.9, 0.6, 0.7, 0.2, 0.3, 0.95], "class row": [0.8, 0.5, 0.7, 0.2, 0.4, 0.9]} for i in range(5)}


def test_tables(regions: dict[str, dict[str, list[float]]], objects: dict[str, dict[str, list[float]]]) -> None:
    rows = region_table(regions).splitlines()
    assert rows[2].startswith(f"| {OWN} | 0.545 [")
    assert rows[2].endswith(" |  | 0.800 | 1.50 | 0.800 |"), "no difference from itself"
    assert [row.split("|")[1].strip() for row in rows[3:]] == [f"states, k = {k}" for k in SHOWN]
    assert "| states, k = 8 | 0.445" in rows[-1]
    assert "-0.100 [-0.100, -0.100]" in rows[-1], "the interval is paired"
    own, fixed, best = scale_table(regions).splitlines()[2:]
    assert own.endswith("| 0.800 |")
    assert fixed.startswith(f"| the best fixed k: {KS[0]} for covering, {KS[0]} for boundaries | 0.545")
    assert fixed.endswith("| 0.700 |")
    assert "| 0.545" in best
    assert best.endswith("| 0.750 |"), "of each photograph the best: .9 where it is odd, else .6"
    first, second, *reported = object_table(objects).splitlines()[2:]
    assert [row.split("|")[-2].strip() for row in reported] == ["0.712", "0.772"]
    assert first.endswith("| 0.667 [0.667, 0.667] |"), "the object's IoU"
    iou = [np.mean([0.6 / 0.7, 0.2 / 0.3]), np.mean([0.5 / 0.7, 0.2 / 0.4])]
    assert f"| {iou[0]:.3f} [" in first
    assert f"{iou[1] - iou[0]:.3f} [" in second
    assert worst(regions, 2).splitlines()[2:] == ["| p0 | 0.50 |  |", "| p1 | 0.51 |  |"]
    assert "a lizard on rock" in worst({"196088": regions["p0"]})


def test_the_page_holds_the_tables(
    regions: dict[str, dict[str, list[float]]], objects: dict[str, dict[str, list[float]]]
) -> None:
    text = page(regions, objects)
    for part in (region_table(regions), scale_table(regions), object_table(objects), worst(regions)):
        assert part in text
    assert "10 photographs" in text
    assert "{" not in text
