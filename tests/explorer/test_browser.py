"""The page in Chromium: it opens, asks for nothing, and its numbers are those of `bounce`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.chain import reversed_over
from attnchain_interp.operators.operator import Dense

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def store() -> ac.AttentionStore:
    torch.manual_seed(0)
    maps = [torch.randn(1, 3, 10, 10).mul(2).softmax(-1) for _ in range(2)]
    return ac.AttentionStore.from_maps(maps, ac.TokenLayout.image(1, (3, 3), [ac.Role.CLASS]))


def opened(browser: Any, explorer: ac.Explorer, path: Path, problems: list[str]) -> Any:
    """The page; what goes wrong in it, and what it asks for, is added to `problems`."""
    page = browser.new_page()
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or problems.append(request.url))
    page.goto(explorer.write(path).as_uri())
    page.locator(".reading:not(:empty)").wait_for()
    return page


def values(page: Any) -> list[float]:
    """The numbers that are on screen, as the page saves them."""
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON").click()
    shown = json.loads(Path(download.value.path()).read_text())
    return [one["value"] for one in shown["tokens"]]


def matrix(payload: Any) -> torch.Tensor:
    """(token, token): the mean of all heads as the page holds them, columns of non-states too."""
    square = torch.zeros(10, 10)
    square[:, 1:] = torch.from_numpy(payload.maps().mean(0))
    square[1:, :1] = torch.from_numpy(payload.array("outside").mean(0))
    return square


def test_opens_without_a_request_and_hover_shows_what_bounce_computes(
    browser: Any, store: ac.AttentionStore, tmp_path: Path
) -> None:
    problems: list[str] = []
    explorer = ac.explore(store, torch.rand(3, 12, 12), title="<b>title</b>")
    page = opened(browser, explorer, tmp_path / "page.html", problems)
    box = page.locator("canvas.map").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.5)  # row 1, column 2: token 6
    page.get_by_text("2 bounces from patch 1,2").wait_for()
    states = torch.arange(10) > 0
    expected = ac.bounce(ac.Chain(matrix(explorer.payload) * states, states), 6, 2)
    assert values(page) == pytest.approx(expected.tolist(), abs=1e-6)
    assert values(page) == pytest.approx(ac.bounce(store.chain(), 6, 2)[0].tolist(), abs=0.01)
    page.get_by_text("TokenRank", exact=True).first.dispatch_event("click")
    page.get_by_text("TokenRank (n = ∞), damping 0.99").wait_for()
    assert values(page) == pytest.approx(ac.TokenRank().score(store)[0].tolist(), abs=0.01)
    assert problems == []


def test_backwards_from_the_class_token(browser: Any, store: ac.AttentionStore, tmp_path: Path) -> None:
    problems: list[str] = []
    explorer = ac.explore(store)
    page = opened(browser, explorer, tmp_path / "page.html", problems)
    page.get_by_role("radio", name="Outgoing").check()
    page.get_by_role("button", name="class 0").click()
    page.get_by_role("slider", name="Damping").fill("0.9")
    page.get_by_text("2 bounces backwards from class 0").wait_for()
    chain = reversed_over(Dense(matrix(explorer.payload)), torch.arange(10) > 0)
    assert values(page) == pytest.approx(ac.bounce(ac.damp(chain, 0.9), 0, 2).tolist(), abs=1e-6)
    measured = ac.damp(store.chain(direction="outgoing"), 0.9)
    assert values(page) == pytest.approx(ac.bounce(measured, 0, 2)[0].tolist(), abs=0.01)
    assert problems == []
