"""The data of a page: sections and their sizes. A page is inert: every string survives and none becomes markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import torch

import attnchain_interp as ac
from attnchain_interp.explorer.encoding import base64_size, compressed
from attnchain_interp.explorer.page import Payload, script

from .stores import random_store

NASTY = ["</script><img src=x onerror=alert(1)>", "\u202ertl", "\ud800", "a&b", "\u2028", "\0", '"', "<!--<script>"]


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
    header = {"triangle": False, "maps": {"kept": 2, "levels": 255}, "states": [0, 1, 2, 3], "sections": described}
    payload = Payload(header, {name: compressed(array) for name, array in arrays.items()})
    assert payload.maps().tolist() == [[[0.5, 0.25, 0.0, 0.25]]]


class Scripts(HTMLParser):
    """The texts of the scripts of a page, by what they are, and every other tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts, self.tags, self._inside = dict[str, str](), list[str](), ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self._inside = (given.get("id") or given.get("data-section") or "code") if tag == "script" else ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[self._inside] = self.texts.get(self._inside, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def test_strings_are_inert_and_survive() -> None:
    n = len(NASTY)
    maps = torch.rand(1, 1, n, n)
    layout = ac.TokenLayout.text(torch.ones(1, n), [NASTY])
    store = ac.AttentionStore.from_maps([maps / maps.sum(-1, keepdim=True)], layout)
    html = ac.explore(store, title=NASTY[0] + "\ud800", methods={NASTY[0]: torch.ones(n)}).html
    page = Scripts(html)
    assert page.tags.count("script") == len(page.texts)
    assert not {"img", "iframe", "link"} & set(page.tags)
    header = json.loads(page.texts["header"])
    assert header["labels"] == NASTY
    assert not re.search(r"[<>&\u2028]", page.texts["header"])
    html.encode()  # no lone surrogate is left in it
    assert "default-src 'none'" in html
    assert "connect-src" not in html


def test_the_script_defines_one_name() -> None:
    assert script().startswith("var attnchain=(()=>{")
    assert "export default { render: attnchain.render };" not in script()
