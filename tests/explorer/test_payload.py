"""The data of a page: sections and their sizes."""

from __future__ import annotations

import numpy as np

import attnchain_interp as ac
from attnchain_interp.explorer.encoding import base64_size, compressed
from attnchain_interp.explorer.payload import Payload

from .stores import random_store


def test_sections_are_as_the_header_says() -> None:
    payload = ac.explore(random_store()).payload
    assert set(payload.sections) == set(payload.header["sections"])
    for name, known in payload.header["sections"].items():
        assert list(payload.array(name).shape) == known["shape"]
    assert payload.size == base64_size(payload.sections)


def test_maps_differ_from_the_measured_ones_by_the_error_that_is_told() -> None:
    store = random_store(layers=1)
    payload = ac.explore(store).payload
    states = payload.header["states"]
    exact = store.chain(0, "each").matrix[0][:, states][:, :, states].numpy()
    found = payload.maps()[:, states]
    assert 0 < np.abs(found - exact).max() <= payload.header["maps"]["error"] + 1e-6


def test_maps_of_largest_entries() -> None:
    arrays = {
        "places": np.array([[[0, 2]]], dtype=np.uint16),
        "values": np.array([[[255, 0]]], dtype=np.uint8),
        "kept": np.array([[0.5]], dtype=np.float32),
    }
    described = {name: {"type": array.dtype.name, "shape": list(array.shape)} for name, array in arrays.items()}
    header = {"maps": {"kept": 2}, "states": [0, 1, 2, 3], "sections": described}
    payload = Payload(header, {name: compressed(array) for name, array in arrays.items()})
    assert payload.maps().tolist() == [[[0.5, 0.25, 0.0, 0.25]]]
