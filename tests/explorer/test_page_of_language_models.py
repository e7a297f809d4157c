"""The page of a language model of 30 layers × 9 heads and 300 tokens: its size on disk and on screen, and how it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.explorer import Explorer, example_chains

from .screen import Screen

Screens = Callable[..., Screen]
LAYERS, HEADS, TOKENS, OUTPUTS = 30, 9, 300, 4
WORDS: Final = ["Where", "Ġis", "Ġthe", "Ġ", "tower", "?", "Ċ"]
SCREEN: Final = {"width": 1400, "height": 900}


def decoder_maps(layers: int, heads: int, seed: int) -> list[torch.Tensor]:
    """Maps of a decoder, of which some heads look near and others far, and all at the first token."""
    generator = torch.Generator().manual_seed(seed)
    distance = (torch.arange(TOKENS)[:, None] - torch.arange(TOKENS)).float()
    found = []
    for _ in range(layers):
        query, key = torch.randn(2, heads, TOKENS, 16, generator=generator)
        logits = query @ key.mT - torch.rand(heads, 1, 1, generator=generator) * distance.clamp(min=0)
        logits[..., 0] = 8
        found.append(logits.masked_fill(distance < 0, -torch.inf).softmax(-1)[None])
    return found


@pytest.fixture(scope="module")
def stores() -> tuple[ac.AttentionStore, ac.AttentionStore]:
    """Attention whose first token is a sink, and contributions."""
    labels = [WORDS[k % len(WORDS)] for k in range(TOKENS)]
    norms = torch.ones(1, HEADS, TOKENS)
    norms[..., 0] = 0.01
    layers = [
        ac.LayerAttention(f"layer.{k}", maps, value_norms=norms) for k, maps in enumerate(decoder_maps(LAYERS, HEADS, 0))
    ]
    layout = ac.TokenLayout.text(torch.ones(1, TOKENS), [labels])
    contributions = ac.AttentionStore.from_maps(decoder_maps(LAYERS, 1, 1), layout, [layer.name for layer in layers])
    return ac.AttentionStore(layers, layout), contributions


@pytest.fixture(scope="module")
def page(stores: Any) -> Explorer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(example_chains, "MOST", 0)  # metastable states have tests of their own
        return ac.explore(stores[0], contributions=stores[1], outputs=OUTPUTS, title="a prompt")


def test_it_holds_every_head_in_three_megabytes_and_fits_two_screens(screen: Screens, page: Explorer) -> None:
    assert len(page.html.encode()) <= 3_000_000
    assert page.payload.header["maps"]["what"] == "heads"
    one = screen(viewport=SCREEN).open(page.html)
    width, height = one.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert width <= SCREEN["width"]
    assert height <= 2 * SCREEN["height"]
    boxes = [one.page.locator(f".{name}").bounding_box() for name in ("text-view", "heads")]
    assert boxes[0]["width"] > 0.9 * SCREEN["width"]
    assert boxes[1]["height"] < SCREEN["height"]


def test_each_output_is_explained_from_the_token_before_it(screen: Screens, page: Explorer, stores: Any) -> None:
    one, (attention, contributions) = screen(viewport=SCREEN).open(page.html), stores
    error = page.payload.header["contributions"]["error"]
    chain, start = contributions.chain(layer_weights="late"), TOKENS - OUTPUTS - 1
    assert one.values() == pytest.approx(ac.bounce(chain, start, 2)[0].tolist(), abs=2 * error)
    one.page.get_by_role("group", name="Explain the output").get_by_role("button").nth(2).click()
    assert one.values() == pytest.approx(ac.bounce(chain, start + 2, 2)[0].tolist(), abs=2 * error)
    assert f"before it wrote “{WORDS[(start + 3) % 7].strip('Ġ') or '␣'}”" in one.sentence
    one.choose("Show", "TokenRank")
    jump = torch.nn.functional.one_hot(torch.tensor(start + 2), TOKENS).double()
    assert one.values() == pytest.approx(ac.stationary(chain, 0.5, jump)[0].tolist(), abs=2 * error)
    one.choose("Maps", "Attention")
    found = torch.tensor(one.values())
    expected = ac.stationary(attention.chain(layer_weights="late"), 0.5, jump)[0]
    assert float((found - expected).abs().sum()) / 2 < 2 * page.payload.header["maps"]["misplaced"]
    assert float(found[start + 3 :].sum()) < 1e-9, "later tokens explain nothing"


def test_a_sink_is_outlined_and_has_no_part_in_the_scale(screen: Screens, page: Explorer) -> None:
    one = screen(viewport=SCREEN).open(page.html, "maps=attention")
    assert one.page.locator(".token.sink").count() == 1
    values = one.values()
    most = max(values[1 : TOKENS - OUTPUTS - 1])
    assert values[0] > most
    assert one.page.locator(".legend span").nth(1).inner_text() == f"{most:.3g} and more"
    assert "are left out of the scale" in one.sentence


def test_a_head_is_enlarged_where_it_is_pointed_at_and_walked_on_alone(screen: Screens, page: Explorer, stores: Any) -> None:
    one = screen(viewport=SCREEN).open(page.html)
    grid = one.page.locator("canvas.heads")
    side = (grid.bounding_box()["width"] - 26) / HEADS
    assert not one.page.locator("canvas.enlarged").is_visible()
    at = {"x": 26 + 4.5 * side, "y": 18 + 12.5 * side}
    grid.hover(position=at)
    assert one.page.locator("canvas.enlarged").is_visible()
    told = one.page.get_by_text("layer.12, head 4: |λ₂| = ").inner_text()
    second = float(ac.second_eigenvalue(stores[0].chain(12, "each"))[0, 4])
    assert float(told.split(" = ")[1].split(";")[0]) == pytest.approx(second, rel=5e-3)
    grid.click(position=at)
    found, maps = torch.tensor(one.values()), stores[0][12].maps[0, 4]
    assert float((found - ac.bounce(maps, TOKENS - OUTPUTS - 1, 2)).abs().sum()) / 2 < 0.2
    assert one.page.get_by_role("radio", name="Attention", exact=True).is_checked()


def test_a_search_finds_words_of_several_tokens_and_keeps_the_walk(screen: Screens, page: Explorer) -> None:
    one = screen(viewport=SCREEN).open(page.html)
    before, field = one.values(), one.page.get_by_role("searchbox", name="Search for a token")
    field.fill("THE TOWER")
    assert one.page.locator(".token.hit").count() == 3 * 43
    assert one.page.locator(".finder output").inner_text() == "43 found"
    field.press("Enter")
    field.press("Enter")
    assert one.page.locator(".finder output").inner_text() == "2 of 43"
    assert "At “the”: " in one.sentence
    assert one.values() == before
    field.press("Shift+Enter")
    assert one.page.locator(".finder output").inner_text() == "1 of 43"
    field.fill("zebra")
    assert one.page.locator(".finder output").inner_text() == "0 found"


def test_texts_have_their_spaces_and_line_breaks(screen: Screens, page: Explorer) -> None:
    one = screen(viewport=SCREEN).open(page.html)
    text = one.page.locator(".text-view").inner_text()
    assert text.startswith("Where is the tower?↵\nWhere is the tower?↵\n")
    assert "Ġ" not in one.page.locator("body").inner_text()
