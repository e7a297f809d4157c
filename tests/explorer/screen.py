"""A page on screen: how it is used, and everything that went wrong in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import torch
from torch import Tensor

import attnchain_interp as ac

SAVED = """() => new Promise((done) => {
  const { createObjectURL } = URL, { click } = HTMLAnchorElement.prototype;
  URL.createObjectURL = (blob) => {
    URL.createObjectURL = createObjectURL;
    blob.text().then(done);
    return "about:blank";
  };
  HTMLAnchorElement.prototype.click = () => (HTMLAnchorElement.prototype.click = click);
  [...document.querySelectorAll("button.export")].find((button) => button.textContent === "JSON").click();
})"""
LOCAL = ("file:", "data:", "blob:", "about:")
GRID = (3, 4)
TOKENS = 13  # a class token and the patches


def exact_rows(generator: torch.Generator, *shape: int) -> Tensor:
    """Distributions (…, state) that 256 levels hold exactly: squares of whole numbers, the greatest 255."""
    codes = torch.randint(0, 200, shape, generator=generator).double()
    codes.scatter_(-1, torch.randint(shape[-1], (*shape[:-1], 1), generator=generator), 255)
    return codes.square() / codes.square().sum(-1, keepdim=True)


def exact_store() -> ac.AttentionStore:
    """Two layers of three and two heads over a class token and 3 × 4 patches, whose maps a page holds exactly."""
    generator = torch.Generator().manual_seed(0)
    maps = []
    for heads in (3, 2):
        outside = 0.6 * torch.rand(1, heads, TOKENS, 1, generator=generator, dtype=torch.float64) + 0.1
        maps.append(torch.cat([outside, (1 - outside) * exact_rows(generator, 1, heads, TOKENS, TOKENS - 1)], -1))
    return ac.AttentionStore.from_maps(maps, ac.TokenLayout.image(1, GRID, prefix=[ac.Role.CLASS]))


def exact_chain(seed: int) -> ac.Chain:
    """A chain over the patches of `exact_store` that a page holds exactly."""
    matrix = torch.zeros(TOKENS, TOKENS, dtype=torch.float64)
    matrix[:, 1:] = exact_rows(torch.Generator().manual_seed(seed), TOKENS, TOKENS - 1)
    return ac.Chain(matrix, torch.arange(TOKENS) > 0)


def curve(*scores: float) -> Any:
    return SimpleNamespace(fractions=torch.linspace(0, 1, len(scores)), scores=torch.tensor([scores]))


@final
class Screen:
    """One page in a browser that is offline.

    Attributes:
        page: Playwright's.
        problems: what the console said, errors, and requests that left the file.
    """

    def __init__(self, page: Any, folder: Path) -> None:
        self.page, self.problems, self._folder = page, list[str](), folder
        page.on("console", lambda message: self.problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("request", lambda request: request.url.startswith(LOCAL) or self.problems.append(f"request: {request.url}"))
        page.on("dialog", lambda dialog: self.problems.append(f"dialog: {dialog.message}") or dialog.dismiss())

    def open(self, html: str, view: str = "", ready: str = ".reading") -> Screen:
        """Opens a document of its own address, and waits until it shows something."""
        path = self._folder / f"{len(list(self._folder.iterdir()))}.html"  # another address: the same one is not loaded again
        path.write_text(html, encoding="utf-8")
        self.page.goto(f"{path.as_uri()}{view and '#' + view}")
        self.page.wait_for_function("(name) => document.querySelector(name)?.textContent", arg=ready)
        return self

    def choose(self, group: str, name: str) -> None:
        """Chooses one of several."""
        self.page.get_by_role("radiogroup", name=group, exact=True).get_by_role("radio", name=name, exact=True).check()

    def slide(self, name: str, value: float) -> None:
        self.page.get_by_role("slider", name=name, exact=True).fill(str(value))

    def at(self, patch: int) -> tuple[float, float]:
        """The middle of a patch of `exact_store`'s grid, on the screen."""
        box = self.page.locator("canvas.map").bounding_box()
        row, column = divmod(patch, GRID[1])
        return box["x"] + box["width"] * (column + 0.5) / GRID[1], box["y"] + box["height"] * (row + 0.5) / GRID[0]

    def point(self, patch: int) -> None:
        self.page.mouse.move(*self.at(patch))

    def settle(self) -> None:
        """Waits until what was chosen is drawn, which is before the next frame."""
        self.page.evaluate("new Promise(requestAnimationFrame)")

    def saved(self, kind: str) -> bytes:
        """The file that the button of a kind saves."""
        self.settle()
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name=kind, exact=True).click()
        assert download.value.suggested_filename.endswith(f".{kind.lower()}")
        return Path(download.value.path()).read_bytes()

    def shown(self) -> dict[str, Any]:
        """What is on screen, as JSON saves it; taken before it becomes a download, of which Chromium allows few a second."""
        self.settle()
        return json.loads(self.page.evaluate(SAVED))

    def values(self) -> list[float]:
        return [token["value"] for token in self.shown()["tokens"]]

    @property
    def sentence(self) -> str:
        self.settle()
        return self.page.locator(".reading").first.inner_text()


def chromium() -> str | None:
    """Where the system's Chromium is."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)
