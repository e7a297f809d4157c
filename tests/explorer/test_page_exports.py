"""The files that the page saves hold what is on screen."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image

import attnchain_interp as ac
from attnchain_interp.explorer import Explorer

from ..published import PLAIN
from .screen import GRID, Screen, exact_store

Screens = Callable[..., Screen]
VIEW = "from=7&n=3&over=1&maps=attention"
MARGIN, WIDTH = 16, 480  # of a saved figure


@pytest.fixture
def one(screen: Screens, image_page: Explorer) -> Screen:
    return screen().open(image_page.html, VIEW)


def colours() -> np.ndarray:
    """(patch, 3): of the bounce that `VIEW` shows, from 0 to 1."""
    values = ac.bounce(exact_store().chain(), 7, 3).flatten()[1:]
    return colormaps["magma"]((values / values.max()).numpy())[:, :3]


def test_csv_and_json(one: Screen) -> None:
    rows = list(csv.DictReader(io.StringIO(one.saved("CSV").decode("utf-8"))))
    assert [float(row["value"]) for row in rows] == pytest.approx(
        ac.bounce(exact_store().chain(), 7, 3).flatten().tolist(), abs=2e-6
    )
    assert [row["role"] for row in rows] == ["class"] + 12 * ["patch"]
    assert rows[7]["label"] == "patch 1,2"
    shown = json.loads(one.saved("JSON"))
    assert [row["value"] for row in shown["tokens"]] == [float(row["value"]) for row in rows]
    assert shown["shown"] == "3 bounces from patch 1,2"
    assert {name: shown["choices"][name] for name in ("n", "from", "heads", "direction")} == {
        "n": 3,
        "from": 7,
        "heads": "mean",
        "direction": "incoming",
    }


def test_labels_with_commas_and_quotes(screen: Screens) -> None:
    import torch

    labels = ["a,b", 'say "so"', "two\nlines", "=1+1"]
    maps = torch.rand(1, 1, 4, 4)
    layout = ac.TokenLayout.text(torch.ones(1, 4), [labels])
    page = ac.explore(ac.AttentionStore.from_maps([maps / maps.sum(-1, keepdim=True)], layout))
    rows = list(csv.DictReader(io.StringIO(screen().open(page.html).saved("CSV").decode("utf-8"), newline="")))
    assert [row["label"] for row in rows] == ["a,b", 'say "so"', "two␊lines", "=1+1"]


def test_png(one: Screen) -> None:
    image = Image.open(io.BytesIO(one.saved("PNG"))).convert("RGB")
    scale = image.width / (WIDTH + 2 * MARGIN)
    assert scale == 3
    side = WIDTH / GRID[1]
    found = [
        image.getpixel((int(scale * (MARGIN + (column + 0.3) * side)), int(scale * (MARGIN + (row + 0.3) * side))))
        for row in range(GRID[0])
        for column in range(GRID[1])
    ]
    assert np.array(found) / 255 == pytest.approx(colours(), abs=0.012)


def test_svg(one: Screen) -> None:
    root = ElementTree.fromstring(one.saved("SVG"))  # noqa: S314 - our own file
    name = "{http://www.w3.org/2000/svg}"
    side = str(WIDTH // GRID[1])
    fills = [to_rgb(rect.attrib["fill"]) for rect in root.iter(f"{name}rect") if rect.attrib["width"] == side][:12]
    assert np.array(fills) == pytest.approx(colours(), abs=0.012)
    assert "3 bounces from patch 1,2" in " ".join(text.text or "" for text in root.iter(f"{name}text"))


def test_pdf(one: Screen) -> None:
    file = one.saved("PDF")
    assert file.startswith(b"%PDF-1.")
    assert file.rstrip().endswith(b"%%EOF")
    start = int(re.findall(rb"startxref\s+(\d+)", file)[-1])
    table = file[start:].split(b"trailer")[0]
    assert table.startswith(b"xref")
    offsets = [int(entry) for entry in re.findall(rb"^(\d{10}) 00000 n", table, re.MULTILINE)]
    assert [file[at:].split()[0] for at in offsets] == [str(k + 1).encode() for k in range(len(offsets))]
    assert b"3 bounces from patch 1,2" in file
    fills = re.findall(rb"([\d.]+ [\d.]+ [\d.]+) rg 1?\d?[\d.]+ [\d.]+ 120\.00 120\.00 re", file)
    assert np.array([list(map(float, fill.split())) for fill in fills]) == pytest.approx(colours(), abs=0.012)


def test_metastable_states_are_saved_too(screen: Screens, image_page: Explorer) -> None:
    one = screen().open(image_page.html, "view=states")
    rows = list(csv.DictReader(io.StringIO(one.saved("CSV").decode("utf-8"))))
    assert [float(row["state"]) for row in rows] == ac.MetastableStates(**PLAIN).score(exact_store())[0].tolist()
    for kind in ("PNG", "SVG", "PDF"):
        assert len(one.saved(kind)) > 1000


def test_attention_sinks_have_a_dashed_frame_and_no_part_in_the_scale(screen: Screens) -> None:
    import torch

    norms = torch.ones(1, 2, 12)
    norms[..., 5] = 0.01
    maps = torch.full((1, 2, 12, 12), 0.04)
    maps[..., 5] = 0.56
    store = ac.AttentionStore([ac.LayerAttention("0", maps, value_norms=norms)], ac.TokenLayout.image(1, GRID))
    one = screen().open(ac.explore(store).html, "from=7&maps=attention")
    root = ElementTree.fromstring(one.saved("SVG"))  # noqa: S314 - our own file
    name = "{http://www.w3.org/2000/svg}"
    dashed = [rect for rect in root.iter(f"{name}rect") if "stroke-dasharray" in rect.attrib]
    side = WIDTH // GRID[1]
    assert [(rect.attrib["x"], rect.attrib["y"]) for rect in dashed] == [(str(MARGIN + side), str(MARGIN + side))]
    assert any((text.text or "").endswith(" and more") for text in root.iter(f"{name}text"))
    assert b"[4 3] 0 d" in one.saved("PDF")
    row = """([from, to, y]) => {
      const canvas = document.querySelector("canvas.map"), ratio = canvas.width / canvas.clientWidth;
      return [...canvas.getContext("2d").getImageData(ratio * from, ratio * y, ratio * (to - from), 1).data];
    }"""
    box = one.page.locator("canvas.map").bounding_box()
    width, height = box["width"] / GRID[1], box["height"] / GRID[0]
    found = np.array(one.page.evaluate(row, [width, 2 * width, height])).reshape(-1, 4)
    assert 0.4 < (found == [230, 159, 0, 255]).all(-1).mean() < 0.8, "dashes where patch 1,1 begins"
