"""What the page computes is what the library computes: the maps of this store are held exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from matplotlib import colormaps

import attnchain_interp as ac
from attnchain_interp.explorer import Explorer

from ..published import PLAIN
from .screen import GRID, Screen, exact_chain, exact_store

Screens = Callable[..., Screen]


def walk(chain: ac.Chain, start: int, steps: int, damping: float = 1) -> Any:
    return pytest.approx(ac.bounce(ac.damp(chain, damping), start, steps).flatten().tolist(), abs=2e-6)


def rank(chain: ac.Chain, damping: float = 0.99) -> Any:
    return pytest.approx(ac.stationary(chain, damping).flatten().tolist(), abs=2e-6)


def test_pointing_draws_the_bounce_from_there(screen: Screens, image_page: Explorer) -> None:
    one, chain = screen().open(image_page.html, "over=1&maps=attention"), exact_store().chain()
    for patch in (6, 9):
        one.point(patch)
        row, column = divmod(patch, GRID[1])
        one.page.get_by_text(f"2 bounces from patch {row},{column}").first.wait_for()
        assert one.values() == walk(chain, patch + 1, 2)
    found = ac.bounce(chain, 10, 2).flatten()[1:]
    wanted = colormaps["magma"]((found / found.max()).numpy())[:, :3] * 255
    pixels = one.page.evaluate(
        """([rows, columns]) => {
          const drawn = document.querySelector("canvas.map"), { width, height } = drawn;
          const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
          context.drawImage(drawn, 0, 0);
          return Array.from({ length: rows * columns }, (_, k) => {
            const x = ((k % columns) + 0.3) * width / columns, y = (Math.floor(k / columns) + 0.3) * height / rows;
            return [...context.getImageData(x, y, 1, 1).data].slice(0, 3);
          });
        }""",
        list(GRID),
    )
    assert torch.tensor(pixels).double() == pytest.approx(torch.tensor(wanted).double(), abs=3)


def test_steps_damping_and_directions(screen: Screens, image_page: Explorer) -> None:
    one, store = screen().open(image_page.html, "maps=attention"), exact_store()
    one.page.mouse.click(*one.at(2))
    one.point(7)  # a start that was clicked stays
    for steps in (0, 1, 3, 20):
        one.slide("Bounces", steps)
        assert one.values() == walk(store.chain(), 3, steps)
    one.slide("Damping", 0.8)
    assert one.values() == walk(store.chain(), 3, 20, 0.8)
    one.slide("Bounces", 21)
    assert one.values() == rank(store.chain(), 0.8)
    one.choose("Direction", "Outgoing")
    backwards = store.chain(direction="outgoing")
    assert one.values() == rank(backwards, 0.8)
    one.slide("Damping", 1)
    assert one.values() == rank(backwards)
    one.slide("Bounces", 3)
    assert one.values() == walk(backwards, 3, 3)
    one.page.get_by_role("button", name="class").click()
    assert one.values() == walk(backwards, 0, 3)
    one.choose("Direction", "Incoming")
    assert one.values() == walk(store.chain(), 0, 3)
    one.choose("Show", "TokenRank")
    assert one.values() == rank(store.chain())


def test_heads_and_layers(screen: Screens, image_page: Explorer) -> None:
    one, store = screen().open(image_page.html, "from=5&n=3&maps=attention"), exact_store()
    for text, heads in (("λ₂", "lambda2"), ("1 − λ₂", "inverse-lambda2")):
        one.choose("Heads", text)
        assert one.values() == walk(store.chain(heads=heads), 5, 3)
        one.slide("First of layers", 1)
        assert one.values() == walk(store.chain(1, heads), 5, 3)
        one.slide("Last of layers", 0)
        assert one.values() == walk(store.chain(0, heads), 5, 3)
        one.slide("Last of layers", 1)
    grid = one.page.locator("canvas.heads")
    side = (grid.bounding_box()["width"] - 26) / 3
    grid.click(position={"x": 26 + 1.5 * side, "y": 18 + 1.5 * side})
    each = [store.chain(layer, "each") for layer in range(2)]
    assert one.values() == walk(ac.Chain(each[1].matrix[0, 1], each[1].states[0, 1]), 5, 3)
    second = float(ac.second_eigenvalue(each[1])[0, 1])
    told = one.page.get_by_text("layer.1, head 1: |λ₂| = ").inner_text()
    assert float(told.split(" = ")[1]) == pytest.approx(second, rel=5e-3)
    grid.press("ArrowUp")
    assert one.values() == walk(ac.Chain(each[0].matrix[0, 1], each[0].states[0, 1]), 5, 3)
    grid.press("Escape")
    assert one.values() == walk(store.chain(), 5, 3)


def test_classes(screen: Screens, image_page: Explorer) -> None:
    one = screen().open(image_page.html, "from=5&n=2&maps=attention")
    for name, seed in (("cat", 2), ("dog", 3)):
        one.choose("Explain", name)
        assert one.values() == walk(exact_chain(seed), 5, 2)
        assert one.shown()["choices"]["target"] == name
    one.choose("Show", "TokenRank")
    assert one.values() == rank(exact_chain(3))
    one.choose("Explain", "Attention")
    assert one.values() == rank(exact_store().chain())


def test_metastable_states(screen: Screens, image_page: Explorer) -> None:
    one, method = screen().open(image_page.html, "view=states"), ac.MetastableStates(heads="lambda2", **PLAIN)
    assert one.page.get_by_role("slider", name="Damping").is_disabled()
    one.choose("Heads", "λ₂")
    tokens = one.shown()["tokens"]
    assert [token["state"] for token in tokens] == method.score(exact_store())[0].tolist()
    shares = method.memberships(exact_store())[0].max(-1).values
    assert [token["share"] for token in tokens] == pytest.approx(shares.tolist(), abs=1e-4)
    weights = ac.chain.coarse_grained_stationary(
        exact_store().chain(heads="lambda2"), method.memberships(exact_store()), 0.99
    )[0]
    told = [f"{k + 1}: {100 * weight:.1f} %" for k, weight in enumerate(weights.tolist())]
    assert one.page.locator(".key li").all_inner_texts() == told


def test_methods_side_by_side(screen: Screens, image_page: Explorer) -> None:
    one = screen().open(image_page.html)
    scores = image_page.payload.array("methods")
    for k, (name, area) in enumerate({"Alone": "0.5", "Signed": "0.35"}.items()):
        button = one.page.get_by_role("button", name=f"{name}")
        assert button.inner_text().split() == [name, "area", area]
        button.click()
        assert one.values() == pytest.approx(scores[k].tolist())
        assert one.shown()["shown"] == f"Scores of {name}"
    assert "Alone 0.5, Signed 0.35" in one.page.locator("canvas.curves").get_attribute("aria-label")


def test_a_link_opens_the_same_view(screen: Screens, image_page: Explorer) -> None:
    one = screen().open(image_page.html)
    one.page.mouse.click(*one.at(11))
    one.slide("Bounces", 5)
    one.slide("Damping", 0.7)
    one.choose("Direction", "Outgoing")
    one.choose("Heads", "λ₂")
    one.slide("Last of layers", 0)
    one.choose("Depth", "Late")
    values = one.values()
    assert values == walk(exact_store().chain(0, "lambda2", direction="outgoing", balanced=True), 12, 5, 0.7)
    one.page.wait_for_url("**#*heads=lambda2*layers=0.0*depth=late*")  # it is written when it has settled
    view = one.page.url.split("#")[1]
    again = screen().open(image_page.html, view)
    assert again.values() == values
    assert again.shown()["choices"] == one.shown()["choices"]
    nonsense = "n=99&from=400&heads=all&layers=7&output=3&maps=contributions&depth=1&head=0.9"
    nonsense += "&damping=0&view=<b>&target=5&method=x&theme=pink"
    assert screen().open(image_page.html, nonsense).values() == walk(exact_store().chain(balanced=True), 0, 2)


@pytest.mark.parametrize("direction", ["incoming", "outgoing"])
def test_balanced_chains(screen: Screens, image_page: Explorer, direction: Any) -> None:
    one, store = screen().open(image_page.html, f"from=5&n=3&direction={direction}"), exact_store()
    assert one.values() == walk(store.chain(direction=direction, balanced=True), 5, 3)
    assert ", balanced" in one.sentence
    one.choose("Maps", "Attention")
    assert one.values() == walk(store.chain(direction=direction), 5, 3)


def test_a_decoder_jumps_to_its_last_token(screen: Screens) -> None:
    n = 6
    codes = torch.randint(20, 200, (1, 2, n, n), generator=torch.Generator().manual_seed(4)).double()
    codes.diagonal(dim1=-2, dim2=-1).fill_(255)
    maps = codes.tril().square()
    layout = ac.TokenLayout.text(torch.ones(1, n), [list("abcdef")])
    store = ac.AttentionStore.from_maps([maps / maps.sum(-1, keepdim=True)], layout)
    one = screen().open(ac.explore(store).html)
    last = torch.nn.functional.one_hot(torch.tensor(n - 1), n).double()
    assert one.values() == walk(store.chain(balanced=False), n - 1, 2)
    one.choose("Maps", "Balanced")
    assert one.values() == walk(store.chain(balanced=True), n - 1, 2)
    one.choose("Maps", "Attention")
    chain = store.chain()
    one.page.locator(".token").nth(3).hover()
    assert one.values() == walk(chain, 3, 2)
    one.slide("Damping", 0.6)
    jumping = ac.damp(chain, 0.6, last)
    assert one.values() == pytest.approx(ac.bounce(jumping, 3, 2).flatten().tolist(), abs=2e-6)
    one.choose("Show", "TokenRank")
    assert one.values() == pytest.approx(ac.stationary(chain, 0.6, last).flatten().tolist(), abs=2e-6)
    one.slide("Damping", 1)
    assert one.values() == pytest.approx(ac.TokenRank(balanced=False).score(store)[0].tolist(), abs=2e-6)
