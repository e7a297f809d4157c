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


def test_opens_without_a_request_and_hover_shows_what_bounce_computes(browser: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    maps = [torch.randn(1, 3, 10, 10).mul(2).softmax(-1) for _ in range(2)]
    store = ac.AttentionStore.from_maps(maps, ac.TokenLayout.image(1, (3, 3), [ac.Role.CLASS]))
    explorer = ac.explore(store, torch.rand(3, 12, 12), title="<b>title</b>")
    problems: list[str] = []
    page = browser.new_page()
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or problems.append(request.url))
    page.goto(explorer.write(tmp_path / "page.html").as_uri())
    box = page.locator("canvas.map").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.5)  # row 1, column 2: token 6
    page.get_by_text("2 bounces from patch 1,2").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON").click()
    shown = json.loads(Path(download.value.path()).read_text())
    matrix = explorer.payload.maps().mean(0)  # (token, state) of six heads, as the page holds them
    square = torch.zeros(10, 10)
    square[:, 1:] = torch.from_numpy(matrix)
    expected = ac.bounce(ac.Chain(square, torch.arange(10) > 0), 6, 2)
    assert [one["value"] for one in shown["tokens"]] == pytest.approx(expected.tolist(), abs=1e-6)
    assert problems == []
