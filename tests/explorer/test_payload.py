"""What the page holds: quantised maps, the ladder of sizes, strings that are inert, and what does not fit."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.explorer.map_quality import Ladder
from attnchain_interp.explorer.page import script
from attnchain_interp.explorer.quantising import dequantise, largest, quantise, spread
from attnchain_interp.explorer.reading import Reading, weights

NASTY = ["</script><img src=x onerror=alert(1)>", "\u202ertl", "\ud800", "a&b", "\u2028", "\0", '"', "<!--<script>"]


def random_store(layers: int = 2, heads: int = 3, n: int = 10, seed: int = 0, causal: bool = False) -> ac.AttentionStore:
    """Maps (1, head, token, token) over one class token and a square of patches; of a decoder over text."""
    generator = torch.Generator().manual_seed(seed)
    logits = [2 * torch.randn(1, heads, n, n, generator=generator) for _ in range(layers)]
    if causal:
        mask = torch.ones(n, n).triu(1).bool()
        return ac.AttentionStore.from_maps([one.masked_fill(mask, -torch.inf).softmax(-1) for one in logits])
    side = round((n - 1) ** 0.5)
    layout = ac.TokenLayout.image(1, (side, side), [ac.Role.CLASS])
    return ac.AttentionStore.from_maps([one.softmax(-1) for one in logits], layout)


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


@pytest.mark.parametrize("heads", ["mean", "lambda2", "inverse-lambda2"])
def test_weights_are_those_of_head_weights(heads: str) -> None:
    store = random_store()
    reading = Reading(store, 0, None)
    seconds = [reading.mixing(maps)[0] for maps, _ in reading.maps()]
    row = ("mean", "lambda2", "inverse-lambda2").index(heads)
    found = np.stack([weights(second)[row] for second in seconds])
    assert found == pytest.approx(ac.head_weights(store, heads)[0].numpy(), abs=1e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_vectors_are_token_rank_of_every_head(causal: bool) -> None:
    store = random_store(causal=causal)
    payload = ac.explore(store).payload
    vectors, states = payload.array("vectors"), payload.header["states"]
    for layer in range(2):
        expected = ac.TokenRank(layers=layer, heads="each").score(store)[0][:, states]
        assert vectors[3 * layer : 3 * layer + 3] == pytest.approx(expected.numpy(), abs=1e-5)
        second = ac.second_eigenvalue(store.chain(layer, "each"))[0]
        assert payload.array("lambda2")[3 * layer : 3 * layer + 3] == pytest.approx(second.numpy(), abs=1e-4)


def test_every_rung_is_smaller_and_says_its_error() -> None:
    store = random_store(layers=3, heads=4, n=50)
    reading = Reading(store, 0, None)
    exact = np.concatenate([maps for maps, _ in reading.maps()])
    ladder = Ladder(reading, 10**6)
    rungs = list(ladder.rungs())
    assert [rung.what for rung in rungs if not rung.kept] == ["heads"] * 6 + ["layers"] * 6 + ["all"] * 6 + ["none"]
    assert {rung.kept for rung in rungs} == {0, 32, 16, 8}
    helds = [rung.held() for rung in rungs]
    sizes = [held.size for held in helds]
    for what in ("heads", "layers", "all"):
        own = [size for size, rung in zip(sizes, rungs, strict=True) if rung.what == what and not rung.kept]
        assert own == sorted(own, reverse=True)
    assert helds[0].error == pytest.approx(np.abs(dequantise(helds[0].sections["maps"]) - exact).max())


def test_a_smaller_budget_gives_a_smaller_page_that_says_what_was_left_out() -> None:
    store = random_store(layers=6, heads=6, n=50)
    full = ac.explore(store)
    assert full.payload.header["maps"]["what"] == "heads"
    seen = []
    least = len(script()) + 20_000
    for share in (0.6, 0.3, 0.1):
        room = (least + share * (len(full.html) - least)) / 1e6
        page = ac.explore(store, max_mb=room)
        assert len(page.html.encode()) <= room * 1e6
        held = page.payload.header["maps"]
        seen.append((held["what"], held["levels"], held["kept"]))
        assert len(held["passed"]) >= 1
    assert len(set(seen)) == 3
    with pytest.raises(ac.AttentionError, match=r"max_mb is 0.01, and the page takes 0\.\d+ MB without any map"):
        ac.explore(store, max_mb=0.01)


def test_a_text_without_tokens_outside_the_chain_has_every_rung() -> None:
    reading = Reading(random_store(causal=True), 0, None)
    rungs = list(Ladder(reading, 10**6).rungs())
    assert {rung.what for rung in rungs} == {"heads", "layers", "all", "none"}
    assert all(rung.held().sections["outside"].size == 0 for rung in rungs[:-1])


def test_the_size_of_a_rung_is_foreseen_and_never_too_high() -> None:
    for rung in Ladder(Reading(random_store(layers=2, heads=2, n=145), 0, None), 10**6).rungs():
        assert rung.least_size() <= rung.held().size
        assert rung.what == "none" or rung.least_size() > 0.3 * rung.held().size


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


def test_a_notebook_shows_the_same_page_and_a_file_is_whole(tmp_path: Path) -> None:
    explorer = ac.explore(random_store())
    path = explorer.write(tmp_path / "page.html")
    assert path.read_text(encoding="utf-8") == explorer.html
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    framed: list[str | None] = []

    class Frame(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            framed.append(dict(attrs).get("srcdoc"))

    Frame().feed(explorer._repr_html_())
    assert framed == [explorer.html]
    assert explorer.html == ac.explore(random_store()).html


def test_padding_is_left_out_and_an_example_is_chosen() -> None:
    maps = torch.rand(2, 1, 4, 4)
    layout = ac.TokenLayout.text(torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1]]), [["a", "b", "c", "d"], ["", "x", "y", "z"]])
    store = ac.AttentionStore.from_maps([maps / maps.sum(-1, keepdim=True)], layout)
    payload = ac.explore(store, example=1, methods={"m": torch.arange(8.0).reshape(2, 4)}).payload
    assert payload.header["labels"] == ["x", "y", "z"]
    assert payload.array("methods").tolist() == [[5, 6, 7]]
    expected = store.chain().matrix[1, 1:, 1:]
    assert payload.maps()[0] == pytest.approx(expected.numpy(), abs=5e-3)


def test_regions_are_metastable_states() -> None:
    store = random_store(n=17)
    payload = ac.explore(store).payload
    method = ac.MetastableStates()
    chi = method.memberships(store)[0][1:]
    weights = payload.header["regions"][0]["weights"]
    assert payload.array("regions")[:, : len(weights)] == pytest.approx(chi.numpy(), abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"example": 1}, "the store has 1, numbered 0 to 0"),
        ({"max_mb": 0}, "max_mb is 0; it is the size"),
        ({"methods": {"m": torch.ones(3)}}, r"methods\['m'\] has shape \(3,\); give finite scores"),
        ({"methods": {"m": torch.full((10,), torch.nan)}}, "give finite scores"),
        ({"curves": {"m": None}}, "curves names m, of which methods has no scores"),
        ({"targets": {"c": torch.eye(10)}}, r"targets\['c'\] must be a Chain over the 10 tokens"),
        ({"targets": {"c": ac.chain.as_chain(torch.eye(10))}}, "a chain over other states than the page"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        ac.explore(random_store(), **changes)
