"""Quantised maps, largest entries, and pixels as PNG."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from attnchain_interp.explorer.encoding import base64_size, compressed, dequantise, largest, png, quantise, shrunk, spread


def test_quantised_rows_sum_to_one_and_are_near() -> None:
    maps = torch.randn(4, 20, 30, generator=torch.Generator().manual_seed(0)).mul(3).softmax(-1).numpy()
    for levels in (255, 63):
        found = dequantise(quantise(maps, levels))
        assert np.allclose(found.sum(-1), 1, atol=1e-6)
        assert np.abs(found - maps).max() < 2 / levels * maps.max()


def test_largest_entries_and_the_rest() -> None:
    maps = np.array([[[0.5, 0.1, 0.3, 0.1]]], dtype=np.float32)
    places, values, kept = largest(maps, 2)
    assert places.tolist() == [[[0, 2]]]
    assert values.tolist() == [[[0.5, pytest.approx(0.3)]]]
    assert spread(places, quantise(values, 255), kept, 4) == pytest.approx(maps, abs=2e-3)


def test_png_holds_the_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(png(pixels)))) == pixels).all()


def test_a_large_picture_is_averaged_over_squares() -> None:
    pixels = np.arange(5 * 4 * 3, dtype=float).reshape(5, 4, 3)
    found = shrunk(pixels, 3)
    assert found.shape == (2, 2, 3)
    assert (found[0, 0] == pixels[:2, :2].mean((0, 1))).all()
    assert (shrunk(pixels, 5) == pixels).all()


def test_sizes_are_those_of_base64() -> None:
    sections = {"a": compressed(np.zeros(1000)), "b": b"12345"}
    assert base64_size(sections) == sum(len(base64.b64encode(data)) for data in sections.values())
