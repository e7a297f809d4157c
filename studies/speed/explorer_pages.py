"""Rows of explorer pages in Chromium: their size, and how soon they are there and follow the pointer.

Pages of made-up attention: 12 × 12 heads over 197 tokens of an image and over 1,000 of a text, and 30 × 9 heads of a decoder
over 300 tokens with contributions. Times are of the page's main thread: its CPU time, which a shared machine does not
lengthen; the wall's is in the note.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from attnchain_interp import AttentionStore, Role, TokenLayout, explore
from attnchain_interp.explorer import Explorer
from studies.speed.rows import Bar, Figure, Row, Skipped

LAYERS, HEADS = 12, 12
HOVERS: Final = 40
ROOM: Final = 4.0  # 10⁶ bytes of a page
POINT: Final = """async ([selector, hovers]) => {
  const view = document.querySelector(selector), box = view.getBoundingClientRect(), told = document.querySelector(".reading");
  const painted = () => new Promise((done) => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = done;
    channel.port2.postMessage(0);
  }));
  const times = [];
  for (let k = 0; k < hovers; k++) {
    const x = box.left + box.width * (0.05 + (0.9 * ((k * 7) % 40)) / 40);
    const y = box.top + Math.min(box.height, 500) * (0.05 + (0.9 * ((k * 11) % 40)) / 40);
    const kind = view.matches("canvas") ? "pointermove" : "pointerover";
    const before = told.textContent, start = performance.now();
    (document.elementFromPoint(x, y) ?? view).dispatchEvent(new PointerEvent(kind, { bubbles: true, clientX: x, clientY: y }));
    await painted();
    if (told.textContent !== before) times.push(performance.now() - start);
  }
  return times;
}"""


def image_page() -> Explorer:
    """Twelve layers of twelve heads over a class token and 14 × 14 patches, nearer patches attended more."""
    generator = torch.Generator().manual_seed(0)
    place = torch.cartesian_prod(torch.arange(14.0), torch.arange(14.0))
    distance = torch.zeros(197, 197)
    distance[1:, 1:] = torch.cdist(place, place)
    maps = [_maps(distance, 0.6, generator) for _ in range(LAYERS)]
    store = AttentionStore.from_maps(maps, TokenLayout.image(1, (14, 14), prefix=[Role.CLASS]))
    picture = torch.nn.functional.interpolate(torch.rand(1, 3, 28, 28, generator=generator), (224, 224), mode="bilinear")
    return explore(store, picture[0], title="197 tokens", max_mb=ROOM)


def text_page() -> Explorer:
    """Twelve layers of twelve heads over a text of 1,000 tokens."""
    generator = torch.Generator().manual_seed(0)
    distance = (torch.arange(1000.0)[:, None] - torch.arange(1000.0)).abs()
    maps = [_maps(distance, 0.05, generator) for _ in range(LAYERS)]
    labels = [[f"word{k}" for k in range(1000)]]
    store = AttentionStore.from_maps(maps, TokenLayout.text(torch.ones(1, 1000), labels))
    return explore(store, title="1,000 tokens", max_mb=ROOM)


def prompt_page() -> Explorer:
    """Thirty layers of nine heads of a decoder over 300 tokens, with contributions, in three megabytes."""
    generator = torch.Generator().manual_seed(0)
    places = torch.arange(300.0)
    distance = places[:, None] - places
    distance[distance < 0] = torch.inf
    layout = TokenLayout.text(torch.ones(1, 300), [[f"Ġword{k}" for k in range(300)]])
    attention, contributions = (
        AttentionStore.from_maps([_maps(distance, 0.05, generator, heads) for _ in range(30)], layout) for heads in (9, 1)
    )
    return explore(attention, contributions=contributions, outputs=8, title="300 tokens")


def _maps(distance: Tensor, most: float, generator: torch.Generator, heads: int = HEADS) -> Tensor:
    query, key = torch.randn(2, heads, len(distance), 16, generator=generator)
    reach = most * (0.01 + torch.rand(heads, 1, 1, generator=generator))
    return (query @ key.mT / 2 - reach * distance).softmax(-1)[None]


def figures(explorer: Explorer, selector: str, hover: Bar | None, room: float = ROOM, soon: float = 1) -> list[Figure]:
    """The size of a page, and seconds and milliseconds in a browser; `room` and `soon` are the bars of MB and of seconds.

    Raises:
        Skipped: there is no Playwright, or no Chromium.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise Skipped("Playwright is not installed") from error
    with sync_playwright() as started, tempfile.TemporaryDirectory() as folder:
        found = shutil.which("chromium") or started.chromium.executable_path
        if not Path(found).exists():
            raise Skipped("neither the system nor Playwright has a Chromium")
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        opened, followed = _timed(browser, explorer.write(Path(folder) / "page.html"), selector)
        browser.close()
    held = explorer.payload.header["maps"]
    told = f"maps of {held['what']}, greatest error {held['error']:.2g}"
    return [
        Figure("size of the page", len(explorer.html.encode()) / 1e6, "MB", Bar(room), told),
        Figure("opened, until the map is drawn", opened[0], "s", Bar(soon), f"wall {opened[1]:.2g} s"),
        Figure("from pointing to drawn", followed[0], "ms", hover, f"wall, median of {HOVERS} {followed[1]:.3g} ms"),
    ]


def _timed(browser: Any, path: Path, selector: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """CPU and wall seconds until the page is there, milliseconds from pointing to drawn."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def cpu() -> float:
        return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}["TaskDuration"]

    page.goto(path.as_uri())
    page.wait_for_function("() => document.querySelector('.reading')?.textContent.length > 0")
    opened = cpu(), page.evaluate("performance.now()") / 1000
    before = cpu()
    times = page.evaluate(POINT, [selector, HOVERS])
    followed = 1000 * (cpu() - before) / HOVERS, statistics.median(times)
    page.close()
    return opened, followed


ROWS: Final = [
    Row(
        "explorer-image",
        "the explorer's page of 12 × 12 heads and 197 tokens",
        lambda: figures(image_page(), "canvas.map", Bar(16)),
    ),
    Row(
        "explorer-prompt",
        "the page of a decoder of 30 × 9 heads, 300 tokens and contributions",
        lambda: figures(prompt_page(), ".text-view", Bar(50), room=3, soon=2),
    ),
    Row(
        "explorer-text", "a page of 12 × 12 heads and 1,000 tokens of a text", lambda: figures(text_page(), ".text-view", None)
    ),
]
