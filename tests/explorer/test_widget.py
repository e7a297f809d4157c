"""The explorer in notebooks: in a frame that nbconvert keeps, and as a widget."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import attnchain_interp as ac
from attnchain_interp.explorer import Explorer
from attnchain_interp.explorer.page import inert_json

from .screen import Screen, exact_store

Screens = Callable[..., Screen]


def test_nbconvert_keeps_the_page(screen: Screens, image_page: Explorer) -> None:
    nbformat, nbconvert = pytest.importorskip("nbformat"), pytest.importorskip("nbconvert")
    result = nbformat.v4.new_output(
        "execute_result", {"text/html": image_page._repr_html_(), "text/plain": repr(image_page)}, execution_count=1
    )
    cells = [nbformat.v4.new_code_cell("explorer", outputs=[result], execution_count=1)]
    html, _ = nbconvert.HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=cells))
    one = screen().open(html, ready=".jp-Cell")
    frame = one.page.frame_locator("iframe")
    frame.locator("canvas.map").scroll_into_view_if_needed()
    frame.locator("canvas.map").hover(position={"x": 20, "y": 20})
    frame.get_by_text("2 bounces from patch 0,0").first.wait_for()
    frame.get_by_role("slider", name="Bounces", exact=True).fill("1")
    frame.get_by_text("1 bounce from patch 0,0").first.wait_for()
    theirs = ("request: https://cdnjs.cloudflare.com/", "console: Failed to load resource")  # of nbconvert's own template
    assert [problem for problem in one.problems if not problem.startswith(theirs)] == []
    one.problems.clear()


STUB = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0"><div id="cell" style="width:480px"></div>
<script type="application/json" id="given">GIVEN</script><script type="module">
  const { esm, sections, ...traits } = JSON.parse(document.getElementById("given").textContent);
  const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  traits.sections = Object.fromEntries(Object.entries(sections).map(([name, text]) => [name, bytes(text)]));
  window.saved = [];
  const model = {
    get: (name) => traits[name],
    set: (name, value) => (traits[name] = value),
    save_changes: () => window.saved.push(traits.view),
    on() {},
    off() {},
  };
  window.listening = new Set();
  const add = MediaQueryList.prototype.addEventListener, { observe, disconnect } = ResizeObserver.prototype;
  MediaQueryList.prototype.addEventListener = function (name, listener, options) {
    window.listening.add(this);
    options?.signal?.addEventListener("abort", () => window.listening.delete(this));
    return add.call(this, name, listener, options);
  };
  ResizeObserver.prototype.observe = function (...given) {
    window.listening.add(this);
    return observe.apply(this, given);
  };
  ResizeObserver.prototype.disconnect = function () {
    window.listening.delete(this);
    return disconnect.call(this);
  };
  const { default: widget } = await import(URL.createObjectURL(new Blob([esm], { type: "text/javascript" })));
  window.cleanup = widget.render({ model, el: document.getElementById("cell") });
</script>"""  # a host as AFM has it, with what it hears beside its own elements counted


def test_the_widget_mounts_tells_its_view_and_goes(screen: Screens, image_page: Explorer) -> None:
    pytest.importorskip("anywidget")
    widget: Any = image_page.widget(view="n=3&from=7&maps=attention", height=600)
    assert repr(widget) == "ExplorerWidget of 'A page', view='n=3&from=7&maps=attention'"
    state = widget.get_state()
    assert sum(len(value) for value in state["sections"].values()) <= image_page.payload.size
    assert set(state["sections"]) == set(image_page.payload.header["sections"])
    assert all(isinstance(data, bytes) for data in state["sections"].values())
    assert "http" not in widget._esm.replace("http://www.w3.org/2000/svg", "")
    given = {name: state[name] for name in ("header", "height", "view")} | {"esm": widget._esm}
    given["sections"] = {name: base64.b64encode(data).decode() for name, data in state["sections"].items()}
    one = screen().open(STUB.replace("GIVEN", inert_json(given)))
    assert one.page.evaluate("typeof attnchain") == "undefined"
    assert one.page.locator("#cell > div").bounding_box()["height"] == 600
    assert one.values() == pytest.approx(ac.bounce(exact_store().chain(), 7, 3).flatten().tolist(), abs=2e-6)
    columns = one.page.locator("#cell .columns").evaluate(
        "(node) => getComputedStyle(node).gridTemplateColumns.split(' ').length"
    )
    assert columns == 1, "a narrow cell of a wide window"
    one.point(2)
    one.slide("Bounces", 5)
    assert one.page.evaluate("window.saved") == ["from=7&n=5&maps=attention"]
    assert one.page.evaluate("window.listening.size") == 2
    one.page.evaluate("window.cleanup()")
    assert one.page.evaluate("document.getElementById('cell').childNodes.length") == 0
    assert one.page.evaluate("window.listening.size") == 0
    one.page.evaluate("new Promise(requestAnimationFrame)")  # in which nothing may go wrong


def test_where_a_notebook_shows_no_widgets_the_frame_stands(image_page: Explorer) -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    pytest.importorskip("anywidget")
    shown, _ = formatters.DisplayFormatter().format(image_page.widget())
    assert "application/vnd.jupyter.widget-view+json" in shown
    assert shown["text/html"] == image_page._repr_html_()


def test_without_anywidget_the_install_line_is_told(monkeypatch: pytest.MonkeyPatch, image_page: Explorer) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.delitem(sys.modules, "attnchain_interp.explorer.widget", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'attnchain-interp\[notebook\]'"):
        image_page.widget()


def test_the_widget_is_loaded_only_when_asked_for() -> None:
    code = "import sys, attnchain_interp as ac; ac.explore; print({'anywidget', 'IPython', 'traitlets'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "set()"
