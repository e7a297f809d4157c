"""`explore`: from a store to the page, within a budget."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from attnchain_interp.chain.chain import Chain
from attnchain_interp.errors import AttentionError
from attnchain_interp.explorer.map_quality import Ladder
from attnchain_interp.explorer.page import page
from attnchain_interp.explorer.payload import Curve, Payload, contents
from attnchain_interp.explorer.reading import Reading
from attnchain_interp.files import whole
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.tokens import TokenSelection

if TYPE_CHECKING:
    from attnchain_interp.explorer.widget import ExplorerWidget

_HEIGHT: Final = 860  # pixels of the frame in a notebook


@final
class Explorer:
    """A page in which the attention of one example is explored. `explore` makes it; a notebook shows it.

    Attributes:
        payload: what the page holds.
    """

    def __init__(self, payload: Payload) -> None:
        self.payload = payload

    @cached_property
    def html(self) -> str:
        """The page: one HTML document that needs no server and loads nothing."""
        return page(self.payload)

    def write(self, path: str | Path) -> Path:
        """Writes the page, whole or not at all; returns the path."""
        path = Path(path)
        with whole(path) as partial:
            partial.write_text(self.html, encoding="utf-8", newline="\n")
        return path

    def widget(self, view: str = "", height: int = _HEIGHT) -> ExplorerWidget:
        """The same front end as a live widget of a notebook, whose `view` says what is chosen in it.

        A notebook that is kept or converted shows the page itself, not widgets: end the cell with the explorer for that.

        Args:
            view: where to begin, as in the address of a page after #, such as "n=5&heads=lambda2".
            height: in pixels.

        Raises:
            ImportError: anywidget is not installed; the message has the install line.
        """
        try:
            from attnchain_interp.explorer.widget import ExplorerWidget
        except ImportError as error:
            raise ImportError(f"{error}. Install it with: pip install 'attnchain-interp[notebook]'") from error
        return ExplorerWidget(self.payload, view, height)

    def __repr__(self) -> str:
        header, held = self.payload.header, self.payload.header["maps"]
        return (
            f"Explorer: {header['title']}\n  {len(header['layers'])} layers, {len(header['labels'])} tokens,"
            f" {len(self.html) / 1e6:.2f} MB\n  maps: {held['what']}, greatest error {held['error']:.2g}"
        )

    def _repr_html_(self) -> str:
        """The same page in a frame, which survives nbconvert and needs no widget."""
        return (
            f'<iframe srcdoc="{escape(self.html)}" title="{escape(self.payload.header["title"])}" loading="lazy"'
            f' style="width:100%;height:{_HEIGHT}px;border:0"></iframe>'
        )


def explore(
    store: AttentionStore,
    image: Any = None,
    *,
    methods: Mapping[str, Any] | None = None,
    curves: Mapping[str, Curve] | None = None,
    targets: Mapping[str, Chain] | None = None,
    tokens: TokenSelection = None,
    example: int = 0,
    title: str | None = None,
    normalization: Any = None,
    max_mb: float = 4.5,
) -> Explorer:
    """A page in which a token is pointed at and its attention bounces, in one HTML file.

    The page computes chains itself, so everything of a chain can be changed in it: layers, heads and weights, direction,
    steps, damping. It holds |λ₂| and the stationary vector of every head, and of the maps as much as fits: those of
    every head, on 256 to 23 levels; else the weighted means of each layer's heads; else the largest entries of their rows;
    else the same of the mean over all layers; else none. Whatever was left out is written in the page, with the greatest
    error of a probability.

    Args:
        store: maps or factors.
        image: of an image model, what it saw (channel, height, width), or the batch of them; drawn beneath the maps.
        methods: name → scores to see side by side, (token,), (batch, token) or (batch, rows, columns) of the grid.
        curves: name → the perturbation curve of that method, as of `attnchain_evals.perturbation_curve`.
        targets: class → a chain that explains it (of `gradient_chain`), between which and plain attention the page switches.
        tokens: the states, as in `TokenLayout.select`: the patches of an image by default.
        example: which of the batch.
        title: of the page; what the store says about its model when None.
        normalization: of the image, as in `displayable`.
        max_mb: of the page, in 10⁶ bytes.

    Raises:
        AttentionError: a store of other queries than keys, an example that does not exist, scores, curves or chains that do
            not fit; a budget too small for the vectors of the heads.

    >>> import torch
    >>> maps = torch.tensor([[0.5, 0.5], [0.1, 0.9]])[None, None]
    >>> explore(AttentionStore.from_maps([maps]), title="two tokens").payload.header["maps"]["what"]
    'heads'
    """
    if isinstance(max_mb, bool) or not max_mb > 0:
        raise AttentionError(f"max_mb is {max_mb!r}; it is the size of the page in 10⁶ bytes, 4.5 by default.")
    room = int(max_mb * 1e6)
    reading = Reading(store, example, tokens)
    ladder = Ladder(reading, room)
    if image is not None and getattr(image, "ndim", 0) == 4:
        image = image[example]
    if title is None:
        title = store.metadata.get("model", "Attention")
    found = contents(reading, ladder, image, normalization, methods or {}, curves or {}, targets or {}, title)
    passed: list[str] = []
    size = 0
    for rung in ladder.rungs():
        if rung.least_size() <= room:
            result = Explorer(found.with_maps(rung, passed))
            size = result.payload.size
            if size <= room and (size := len(result.html.encode())) <= room:
                return result
        passed.append(rung.name)
    raise AttentionError(
        f"max_mb is {max_mb}, and the page takes {size / 1e6:.2f} MB without any map; give it more room, an image of fewer"
        " pixels, or a store of fewer layers."
    )
