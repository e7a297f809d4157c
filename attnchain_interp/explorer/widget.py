"""The explorer as a widget of notebooks; needs anywidget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import anywidget
from traitlets import Bytes, Dict, Int, Unicode

from attnchain_interp.explorer.page import Payload, inert_json, script


@final
class ExplorerWidget(anywidget.AnyWidget):
    """The front end of the page in a notebook cell. `Explorer.widget` makes it.

    Attributes:
        view: the current choices, such as "n=5&heads=lambda2": the part after # in the address of a page. It follows the
            user, and a cell that shows the widget again begins there.
        height: of the cell's output, in pixels.
        header, sections: of the payload; the arrays travel once, as bytes.
    """

    _esm = f"{script()}export default {{ render: attnchain.render }};\n"
    header = Unicode().tag(sync=True)
    sections = Dict(value_trait=Bytes()).tag(sync=True)
    view = Unicode().tag(sync=True)
    height = Int().tag(sync=True)

    def __init__(self, payload: Payload, view: str, height: int, frame: Callable[[], str]) -> None:
        given: dict[str, Any] = {"header": inert_json(payload.header), "sections": payload.sections}
        super().__init__(view=view, height=height, **given)
        self._title, self._frame = payload.header["title"], frame

    def _repr_html_(self) -> str:
        """Returns the page in a frame, which a notebook shows where it has no widgets."""
        return self._frame()

    def __repr__(self) -> str:
        return f"ExplorerWidget of {self._title!r}, view={self.view!r}"
