"""The page of the study of segments, from made-up scores."""

from __future__ import annotations

import numpy as np
import pytest

from studies.segments.page import BOUNCE, OWN, object_table, page, region_table, scale_table, worst
from studies.segments.photographs import KS


@pytest.fixture
def regions() -> dict[str, dict[str, list[float]]]:
    """Ten photographs: fixed k is .1 below the spectrum's, or above it where the photograph is odd."""
    return {
        f"p{i}": {OWN: [0.5 + i / 100, 0.8, 1.5]}
        | {f"states, k = {k}": [0.4 + i / 100 + 0.2 * (i % 2) * (k == KS[0]), 0.7, 2.0] for k in KS}
        for i in range(10)
    }


@pytest.fixture
def objects() -> dict[str, dict[str, list[float]]]:
    return {f"p{i}": {BOUNCE: [0.9, 0.6, 0.7, 0.2, 0.3, 0.95], "class row": [0.8, 0.5, 0.7, 0.2, 0.4, 0.9]} for i in range(5)}


def test_tables(regions: dict[str, dict[str, list[float]]], objects: dict[str, dict[str, list[float]]]) -> None:
    rows = region_table(regions).splitlines()
    assert rows[2].startswith(f"| {OWN} | 0.545 [")
    assert rows[2].endswith(" |  | 0.800 | 1.50 |"), "no difference from itself"
    assert "| states, k = 8 | 0.445" in rows[-1]
    assert "-0.100 [-0.100, -0.100]" in rows[-1], "the interval is paired"
    scales = scale_table(regions)
    assert f"| k = {KS[0]}, the best of" in scales
    assert f"| the best of {KS} for each photograph | 0.545" in scales
    first, second = object_table(objects).splitlines()[2:]
    iou = [np.mean([0.6 / 0.7, 0.2 / 0.3]), np.mean([0.5 / 0.7, 0.2 / 0.4])]
    assert f"| {iou[0]:.3f} [" in first
    assert f"{iou[1] - iou[0]:.3f} [" in second
    assert worst(regions, 2) == ["p0 (0.50)", "p1 (0.51)"]


def test_the_page_holds_the_tables(
    regions: dict[str, dict[str, list[float]]], objects: dict[str, dict[str, list[float]]]
) -> None:
    text = page(regions, objects)
    for part in (region_table(regions), scale_table(regions), object_table(objects), "p0 (0.50), p1 (0.51)"):
        assert part in text
    assert "10 photographs" in text
    assert "{" not in text
