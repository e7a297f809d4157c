"""Quantised maps, two codes in a byte, largest entries, and pixels as JPEG."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from attnchain_interp.explorer.encoding import (
    base64_size,
    compressed,
    dequantise,
    jpeg,
    largest,
    packed,
    quantise,
    spread,
    squared,
    triangle,
    unpacked,
)


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


def test_codes_of_half_a_byte_are_packed_in_pairs() -> None:
    codes = np.random.default_rng(0).integers(0, 16, (2, 3, 5), dtype=np.uint8)
    assert packed(codes).shape == (2, 3, 3)
    assert (unpacked(packed(codes), 5) == codes).all()


def test_the_triangle_of_a_decoder_is_all_of_its_map() -> None:
    codes = np.tril(np.random.default_rng(0).integers(1, 16, (2, 5, 5), dtype=np.uint8))
    assert triangle(codes).shape == (2, 15)
    assert (squared(triangle(codes), 5) == codes).all()


def test_a_picture_is_a_jpeg_of_its_own_proportions_and_no_larger_than_asked() -> None:
    pixels = np.linspace(0, 1, 60 * 40 * 3).reshape(40, 60, 3)
    for side, size in ((30, (30, 20)), (100, (60, 40))):
        image = Image.open(io.BytesIO(jpeg(pixels, side)))
        assert (image.format, image.size) == ("JPEG", size)
        wanted = (pixels.mean((0, 1)) * 255, np.asarray(image).mean((0, 1)))
        assert wanted[0] == pytest.approx(wanted[1], abs=2)


def test_sizes_are_those_of_base64() -> None:
    sections = {"a": compressed(np.zeros(1000)), "b": b"12345"}
    assert base64_size(sections) == sum(len(base64.b64encode(data)) for data in sections.values())
