"""Stores and pages of a real model in JupyterLab: as text, in a frame, as a live widget, and where nothing is trusted."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jupyterlab", reason="jupyterlab is not installed; .ci/run runs this with it")

import anywidget
import ipywidgets
import nbformat
from playwright.sync_api import Browser, Page, expect, sync_playwright

import attnchain_interp as ac

from ..explorer.screen import chromium, exact_store

expect.set_options(timeout=120_000)  # the kernel loads a model first
CELLS = (
    """import attnchain_interp as ac
from skimage import data
from transformers import AutoImageProcessor, AutoModel
from PIL import Image
model = AutoModel.from_pretrained(FOLDER).eval()
pixels = AutoImageProcessor.from_pretrained(FOLDER)(images=Image.fromarray(data.chelsea()), return_tensors="pt").pixel_values
store = ac.capture(model, pixels)""",
    "store",
    "ac.explore(store, pixels)",
    "widget = ac.explore(store, pixels).widget(height=700)\nwidget",
    "print('chosen:', widget.view)",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a JupyterLab that asks nobody on the network, and its folder."""
    home = tmp_path_factory.mktemp("lab")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {str(Path(str(module.__file__)).parents[4] / "share" / "jupyter") for module in (anywidget, ipywidgets)}
    settings = {
        "JUPYTER_PATH": os.pathsep.join(shared),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        **{f"JUPYTER_{kind}_DIR": str(home / ".jupyter") for kind in ("CONFIG", "DATA", "RUNTIME")},
    }
    options = ["--no-browser", "--allow-root", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    options += ["--IdentityProvider.token=", f"--ServerApp.root_dir={home}", "--LabApp.expose_app_in_browser=True"]
    options += ["--LabApp.extension_manager=readonly", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command = [sys.executable, "-m", "jupyterlab", *options, "--LabApp.news_url=None"]
    process = subprocess.Popen(command, env=os.environ | settings, stderr=subprocess.PIPE, text=True)  # noqa: S603
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "is running at" in line:
            break
    else:
        pytest.fail("".join(said))
    threading.Thread(target=process.stderr.read, daemon=True).start()
    yield f"http://127.0.0.1:{port}", home
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as started:
        found = chromium() or started.chromium.executable_path
        if not Path(found).exists():
            pytest.skip("needs Chromium: neither the system nor Playwright has one")
        opened = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def notebook(lab: tuple[str, Path], browser: Browser) -> Iterator[Callable[[list[Any]], Page]]:
    """Opens a notebook of these cells in JupyterLab."""
    address, home = lab
    context = browser.new_context(viewport={"width": 1400, "height": 4000})  # cells that are not on screen are not in the page

    def opened(cells: list[Any]) -> Page:
        name = f"{len(list(home.glob('*.ipynb')))}.ipynb"
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), home / name)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"{address}/lab/tree/{name}?reset")
        page.locator(".jp-NotebookPanel .jp-CodeCell").nth(len(cells) - 1).wait_for()
        return page

    yield opened
    context.close()


def test_a_store_is_three_lines_and_a_page_is_live(
    notebook: Callable[[list[Any]], Page], real_weights: Callable[[str], Path]
) -> None:
    folder = repr(str(real_weights("dinov2-small")))
    page = notebook([nbformat.v4.new_code_cell(code.replace("FOLDER", folder)) for code in CELLS])
    run = "(name) => window.jupyterapp.commands.execute(name)"
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()  # cells that are run before are lost
    page.evaluate(run, "notebook:run-all-cells")
    outputs = page.locator(".jp-CodeCell").locator("nth=1").locator(".jp-OutputArea-output")
    *told, hint = outputs.inner_text().strip().splitlines()
    assert (len(told), hint.strip()) == (3, "ac.explore(store) shows it as an interactive page.")
    assert outputs.locator("iframe, img").count() == 0

    frame = page.frame_locator(".jp-OutputArea-output iframe")
    expect(frame.locator(".reading")).to_contain_text("2 bounces from class 0")
    frame.locator("canvas.map").hover(position={"x": 20, "y": 20})
    expect(frame.locator(".reading")).to_contain_text("2 bounces from patch 0,0")

    widget = page.locator(".jp-OutputArea-output .attnchain")
    expect(widget.locator(".reading")).to_contain_text("2 bounces from class 0")
    widget.get_by_role("slider", name="Bounces", exact=True).fill("5")
    expect(widget.locator(".reading")).to_contain_text("5 bounces from class 0")
    page.locator(".jp-CodeCell").nth(4).click()
    page.evaluate(run, "notebook:run-cell")
    expect(page.locator(".jp-CodeCell").nth(4).locator(".jp-OutputArea-output")).to_have_text(re.compile("chosen: n=5"))


def test_where_nothing_is_trusted_a_still_picture_stands(notebook: Callable[[list[Any]], Page]) -> None:
    explorer = ac.explore(exact_store())
    shown = {"text/html": explorer._repr_html_(), "text/plain": repr(explorer)}
    output = nbformat.v4.new_output("execute_result", shown, execution_count=1)
    page = notebook([nbformat.v4.new_code_cell("explorer", outputs=[output], execution_count=1)])
    picture = page.locator(".jp-OutputArea-output img")
    expect(picture).to_have_attribute("alt", "2 bounces from class 0")
    assert picture.evaluate("(image) => image.naturalWidth") == 336
    assert page.locator(".jp-OutputArea-output iframe").count() == 0
