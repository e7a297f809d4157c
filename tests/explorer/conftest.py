"""A browser, where there is one, and pages in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import attnchain_interp as ac
from attnchain_interp.explorer import Explorer

from .screen import Screen, chromium, curve, exact_chain, exact_store


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """One browser for all tests of this folder."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright, which is not installed")
    with playwright.sync_playwright() as started:
        found = chromium() or started.chromium.executable_path
        if not Path(found).exists():
            pytest.skip("needs Chromium: neither the system nor Playwright has one")
        opened = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def screen(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Screen]]:
    """Makes screens, by the options of Playwright's contexts; afterwards nothing may have gone wrong in any of them."""
    contexts, screens = [], []

    def make(**options: Any) -> Screen:
        options = {"viewport": {"width": 1280, "height": 1000}, **options}
        context = browser.new_context(offline=True, **options)
        context.route("http*://**", lambda route: route.abort())
        context.set_default_timeout(20_000)
        contexts.append(context)
        screens.append(Screen(context.new_page(), tmp_path))
        return screens[-1]

    yield make
    for context in contexts:
        context.close()
    assert [problem for screen in screens for problem in screen.problems] == []


@pytest.fixture(scope="package")
def image_page() -> Explorer:
    """Of `exact_store`, with a picture, two classes and two methods."""
    import torch

    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(3, 4, generator=generator)
    return ac.explore(
        exact_store(),
        torch.rand(3, 30, 40, generator=generator),
        methods={"Alone": scores.abs(), "Signed": scores},
        curves={"Alone": curve(0.9, 0.5, 0.1), "Signed": curve(0.9, 0.2, 0.1)},
        targets={"cat": exact_chain(2), "dog": exact_chain(3)},
        title="A page",
    )
