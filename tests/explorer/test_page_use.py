"""The page by keyboard, on a phone, in the dark; strings that must stay strings; a thousand tokens; what did not fit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.explorer import Explorer, example_chains
from attnchain_interp.explorer.example_chains import ExampleChains
from attnchain_interp.explorer.map_quality import MeasuredMaps

from .screen import Screen, exact_store

Screens = Callable[..., Screen]
NASTY = [
    "</script><img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "\u202ertl",
    "שלום",
    "\ud800",
    "a&amp;b",
    "\u2028",
    "\0",
    '"><i>',
    "<!--<script>",
]


def text_page(labels: list[str], seed: int = 0) -> Explorer:
    n = len(labels)
    maps = torch.randn(1, 2, n, n, generator=torch.Generator().manual_seed(seed)).mul(2).softmax(-1)
    store = ac.AttentionStore.from_maps([maps], ac.TokenLayout.text(torch.ones(1, n), [labels]))
    return ac.explore(store, methods={NASTY[0]: torch.ones(n)}, title=NASTY[0] + "\ud800")


def test_by_keyboard_alone(screen: Screens, image_page: Explorer) -> None:
    one = screen().open(image_page.html, "from=1&maps=attention")
    keys = one.page.keyboard
    focused = """() => {
      const at = document.activeElement;
      return at.getAttribute("aria-label") ?? (at.tagName === "BUTTON" ? at : at.parentElement).textContent;
    }"""
    stops = []
    for _ in range(14):
        keys.press("Tab")
        stops.append(one.page.evaluate(focused))
    chart = one.page.locator("canvas.map").get_attribute("aria-label")
    files = ["PNG", "SVG", "PDF", "CSV", "JSON"]
    assert stops == ["Auto", "Bounces", "class 0", chart, "Bounces", "Opacity", *files, "Attention", "Attention", "Incoming"]
    one.page.locator("canvas.map").focus()
    for key, patch in (
        ("ArrowRight", 1),
        ("ArrowDown", 5),
        ("ArrowDown", 9),
        ("ArrowDown", 9),
        ("ArrowLeft", 8),
        ("ArrowUp", 4),
    ):
        keys.press(key)
        row, column = divmod(patch, 4)
        one.page.get_by_text(f"2 bounces from patch {row},{column}").first.wait_for()
    found = ac.bounce(exact_store().chain(), 5, 2).flatten()
    label = one.page.locator("canvas.map").get_attribute("aria-label")
    assert label == one.sentence
    assert f"greatest {float(found.max()):.3g} at" in label
    slider = one.page.get_by_role("slider", name="Bounces", exact=True)
    slider.press("End")
    assert one.sentence.startswith("TokenRank (n = ∞)")
    assert slider.get_attribute("aria-valuetext") == "n = ∞"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_a_phone_and_is_dark_where_the_system_is(screen: Screens, image_page: Explorer, scheme: str) -> None:
    one = screen(viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True).open(image_page.html)
    long = "w" * 200
    maps = torch.ones(1, 1, 3, 3).tril()
    written = ac.AttentionStore.from_maps([maps / maps.sum(-1, keepdim=True)], ac.TokenLayout.text(labels=[["a", long, long]]))
    for html in (image_page.html, text_page(["word"] * 40 + [long]).html, ac.explore(written, outputs=1).html):
        one.open(html)
        width = one.page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]")
        assert max(width) <= 360
    paper = one.page.evaluate("getComputedStyle(document.querySelector('.attnchain')).backgroundColor")
    assert (sum(map(int, paper.removeprefix("rgb(").removesuffix(")").split(","))) > 3 * 128) == (scheme == "light")


def test_a_theme_is_chosen_against_the_system(screen: Screens, image_page: Explorer) -> None:
    one = screen(color_scheme="light").open(image_page.html)
    colour = "getComputedStyle(document.querySelector('.attnchain')).backgroundColor"
    before = one.page.evaluate(colour)
    one.choose("Theme", "Dark")
    one.page.wait_for_function(f"(before) => {colour} !== before", arg=before)
    one.page.wait_for_url("**#*theme=dark*")


def test_strings_stay_strings(screen: Screens) -> None:
    one = screen().open(text_page(NASTY).html)
    seen = [text.removeprefix(" ") for text in one.page.locator(".token").all_inner_texts()]
    assert seen[0] == NASTY[0]
    assert seen[1] == NASTY[1]
    assert seen[4] == "\\ud800"
    assert seen[7] == "␀"
    assert len(seen) == len(NASTY)
    assert one.page.locator("img, .token i, .token script").count() == 0
    assert seen[2] == "\\u202ertl", "it must not turn what stands after it"
    assert one.page.get_by_role("heading", level=1).inner_text() == NASTY[0] + "\\ud800"
    one.page.locator(".token").nth(0).hover()
    assert NASTY[0] in one.sentence
    one.page.locator(".token").nth(3).click()
    assert [token["label"] for token in one.shown()["tokens"]] == NASTY
    for kind in ("PNG", "SVG", "PDF", "CSV"):
        assert len(one.saved(kind)) > 100


def test_the_policy_forbids_requests_and_other_scripts(screen: Screens, image_page: Explorer) -> None:
    one = screen().open(image_page.html.replace("</main>", "</main><script>window.ran = true</script>"))
    assert one.page.evaluate("window.ran === undefined")
    assert one.page.evaluate("fetch('https://example.org').then(() => 'sent', (error) => error.name)") == "TypeError"
    assert one.page.evaluate("fetch(URL.createObjectURL(new Blob(['a']))).then(() => 'sent', () => 'refused')") == "refused"
    assert len(one.problems) >= 2
    assert all("Content Security Policy" in problem for problem in one.problems)
    one.problems.clear()


def test_a_thousand_tokens_open_and_respond(screen: Screens) -> None:
    page = text_page([f"t{k}" for k in range(1000)])
    one = screen().open(page.html)
    assert one.page.locator(".token").count() == 1000
    chain = torch.from_numpy(page.payload.maps()[: len(page.payload.maps())])
    for k in (30, 70):
        one.page.locator(".token").nth(k).hover()
        one.page.get_by_text(f"2 bounces from “t{k}”").first.wait_for()
    mean = chain[:2].mean(0) if page.payload.header["maps"]["what"] == "heads" else chain[0]
    assert one.values() == pytest.approx(ac.bounce(mean, 70, 2).tolist(), abs=1e-6)


def test_each_quality_says_what_was_left_out(screen: Screens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example_chains, "MOST", 0)  # metastable states would take seconds
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, 12, 65, 65, generator=generator).mul(2).softmax(-1) for _ in range(8)]
    store = ac.AttentionStore.from_maps(maps, ac.TokenLayout.image(1, (8, 8), prefix=[ac.Role.CLASS]))
    frame = ac.explore(store)
    least = len(frame.html) - frame.payload.size
    qualities = {}
    for quality in MeasuredMaps(ExampleChains(store, 0, None), 10**8).qualities():
        qualities[quality.scope, quality.kept > 0] = quality.encoded().size  # the least of its kind
    others = sum(4 * len(data) // 3 for name, data in frame.payload.sections.items() if name not in ("maps", "outside"))
    one, seen = screen(), {}
    for (what, sparse), size in qualities.items():
        page = ac.explore(store, max_mb=(least + others + size + 1500) / 1e6)
        header = page.payload.header["maps"]
        assert (header["what"], header["kept"] > 0) == (what, sparse)
        one.open(page.html, "n=1&from=7&maps=attention&layers=null")
        told = seen[what, sparse] = one.page.locator("footer").inner_text()
        assert ("Nothing finer fits into" in told) == ((what, sparse) != ("heads", False) or header["levels"] < 255)
        if what == "none":
            assert one.sentence == "This page has no room for maps; TokenRank of each head is what it holds."
            continue
        assert f"no probability is off by more than {header['error']:.3g}"[:-1] in told
        row = store.chain().matrix[0, 7]
        assert one.values() == pytest.approx(row.tolist(), abs=header["error"] + 1e-6)
        if what == "means":
            one.choose("Heads", "λ₂")
            assert one.sentence == "Only the plain mean of the heads fitted into this page."
        if what != "heads":
            one.choose("Heads", "One head")
            assert one.sentence == "Maps of single heads did not fit into this page; their TokenRank did."
            one.slide("Bounces", 21)
            assert one.values() == pytest.approx(
                ac.TokenRank(layers=7, heads=[0], balanced=False).score(store)[0].tolist(), abs=2e-4
            )
    assert "the attention of all 96 heads" in seen["heads", False]
    assert "the mean attention of each layer, once for each weighting of its heads" in seen["layers", False]
    assert "the mean attention of all layers" in seen["all", False]
    assert "strongest tokens of each row" in seen["means", True]
    assert "no other weighting of the heads" in seen["means", False]
    assert list(seen) == [
        ("heads", False),
        ("layers", False),
        ("means", False),
        ("means", True),
        ("all", False),
        ("all", True),
        ("none", False),
    ]


def test_an_attention_sink_is_named_where_it_is_pointed_at_and_below(screen: Screens) -> None:
    maps = torch.full((1, 2, 5, 5), 0.05)
    maps[..., 2] = 0.8
    layer = ac.LayerAttention("layer.0", maps, value_norms=torch.ones(1, 2, 5))
    one = screen().open(ac.explore(ac.AttentionStore([layer], ac.TokenLayout.text(torch.ones(1, 5), [list("ab<de")]))).html)
    one.page.locator(".token").nth(2).hover()
    assert "“<” (an attention sink)" in one.sentence
    one.page.locator(".token").nth(1).hover()
    assert one.sentence.startswith("2 bounces from “b”:")
    assert "“<” is an attention sink: it takes 80% of attention in 2 of 2 heads" in one.page.locator("footer").inner_text()
