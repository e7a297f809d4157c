"""Size and speed of explorer pages in Chromium: `python -m benchmarks.exploring` (needs Playwright and Chromium).

Pages of made-up attention of 12 × 12 heads: 197 tokens of an image, and 1,000 of a text. Prints for each its size, what it
holds, and how long the page takes to be there and to follow the pointer. Times are of the page's main thread: its CPU time,
which a shared machine does not lengthen, beside the wall's.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from attnchain_interp import AttentionStore, Explorer, Role, TokenLayout, explore

LAYERS, HEADS = 12, 12
HOVERS: Final = 40
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


def image_page(max_mb: float) -> Explorer:
    """Twelve layers of twelve heads over a class token and 14 × 14 patches, nearer patches attended more."""
    generator = torch.Generator().manual_seed(0)
    place = torch.cartesian_prod(torch.arange(14.0), torch.arange(14.0))
    distance = torch.zeros(197, 197)
    distance[1:, 1:] = torch.cdist(place, place)
    maps = [_maps(distance, 0.6, generator) for _ in range(LAYERS)]
    store = AttentionStore.from_maps(maps, TokenLayout.image(1, (14, 14), [Role.CLASS]))
    picture = torch.nn.functional.interpolate(torch.rand(1, 3, 28, 28, generator=generator), (224, 224), mode="bilinear")
    return explore(store, picture[0], title="197 tokens", max_mb=max_mb)


def text_page(max_mb: float) -> Explorer:
    """Twelve layers of twelve heads over a text of 1,000 tokens."""
    generator = torch.Generator().manual_seed(0)
    distance = (torch.arange(1000.0)[:, None] - torch.arange(1000.0)).abs()
    maps = [_maps(distance, 0.05, generator) for _ in range(LAYERS)]
    labels = [[f"word{k}" for k in range(1000)]]
    store = AttentionStore.from_maps(maps, TokenLayout.text(torch.ones(1, 1000), labels))
    return explore(store, title="1,000 tokens", max_mb=max_mb)


def _maps(distance: Tensor, most: float, generator: torch.Generator) -> Tensor:
    query, key = torch.randn(2, HEADS, len(distance), 16, generator=generator)
    reach = most * torch.rand(HEADS, 1, 1, generator=generator)
    return (query @ key.mT / 2 - reach * distance).softmax(-1)[None]


def measure(browser: Any, explorer: Explorer, selector: str, folder: Path) -> dict[str, float]:
    """Milliseconds until the page is there and from pointing to painted, of the wall and of the main thread's CPU."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def cpu() -> float:
        metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        return 1000 * metrics["TaskDuration"]

    page.goto(explorer.write(folder / "page.html").as_uri())
    page.wait_for_function("document.querySelector('.reading')?.textContent.length > 0")
    opened = {"open, wall": page.evaluate("performance.now()"), "open, CPU": cpu()}
    before = cpu()
    times = sorted(page.evaluate(POINT, [selector, HOVERS]))
    followed = {"hover, wall, median": times[len(times) // 2], "hover, wall, least": times[0]}
    followed["hover, CPU"] = (cpu() - before) / HOVERS
    page.close()
    return opened | followed


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.exploring", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--max-mb", type=float, default=4.0, help="of each page; default: %(default)s")
    room = parser.parse_args().max_mb
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started, tempfile.TemporaryDirectory() as folder:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for make, selector in ((image_page, "canvas.map"), (text_page, ".text-view")):
            start = time.perf_counter()
            explorer = make(room)
            print(f"{explorer}\n  made in {time.perf_counter() - start:.1f} s")
            for name, value in measure(browser, explorer, selector, Path(folder)).items():
                print(f"  {name}: {value:.1f} ms")
        browser.close()


if __name__ == "__main__":
    main()
