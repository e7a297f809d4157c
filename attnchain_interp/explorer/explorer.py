"""The explorer of a store: a page within a budget of bytes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from attnchain_interp.chain import Chain
from attnchain_interp.checks import check_type
from attnchain_interp.errors import AttentionError
from attnchain_interp.explorer.contents import Curve, contents
from attnchain_interp.explorer.example_chains import ExampleChains
from attnchain_interp.explorer.map_quality import MeasuredMaps
from attnchain_interp.explorer.page import Payload, page
from attnchain_interp.files import write_text
from attnchain_interp.gradients import AttentionGradients
from attnchain_interp.reprs import counted
from attnchain_interp.store import AttentionStore, TokenSelection

if TYPE_CHECKING:
    from attnchain_interp.explorer.widget import ExplorerWidget

_HEIGHT: Final = 860  # pixels of the frame in a notebook


@final
class Explorer:
    """A page in which the attention of one example is explored. `explore` makes it; a notebook shows it.

    Attributes:
        payload: the data of the page.
    """

    def __init__(self, payload: Payload) -> None:
        self.payload = payload

    @cached_property
    def html(self) -> str:
        """The page as one HTML document, which needs no server and loads nothing."""
        return page(self.payload)

    def write(self, path: str | Path) -> Path:
        """Writes the page, whole or not at all. Returns the path."""
        path = Path(path)
        write_text(path, self.html)
        return path

    def widget(self, view: str = "", height: int = _HEIGHT) -> ExplorerWidget:
        """Returns the same front end as a live widget of a notebook. Its `view` holds the current choices.

        A notebook that is kept or converted does not show widgets; end the cell with the explorer itself for that.

        Args:
            view: the choices to begin with, such as "n=5&heads=lambda2": the part after # in the address of a page.
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
        size = f"{counted(len(header['layers']), 'layer')}, {counted(len(header['labels']), 'token')}"
        return (
            f"Explorer: {header['title']}\n  {size}, {len(self.html) / 1e6:.2f} MB\n"
            f"  maps: {held['what']}, greatest error {held['error']:.2g}"
        )

    def _repr_html_(self) -> str:
        """Returns the page in a frame, which survives nbconvert and needs no widget."""
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
    targets: Mapping[str, AttentionGradients | Chain] | None = None,
    tokens: TokenSelection = None,
    example: int = 0,
    title: str | None = None,
    normalization: Any = None,
    max_mb: float = 4.5,
) -> Explorer:
    """Returns a page, one HTML file, in which you point at a token and watch its attention bounce.

    The page computes chains itself, so layers, heads and their weights, direction, steps and damping can be changed in it. It
    always holds |λ₂| and the stationary vector of every head. Of the maps it holds the first of these that fits: the maps of
    every head, on 256 to 23 levels; the weighted means of each layer's heads; the largest entries of their rows; the same for
    the mean over all layers; no maps. The page lists what did not fit, and the greatest error of a probability.

    Args:
        store: maps or factors.
        image: the input of an image model (channel, height, width), or the batch of them; drawn beneath the maps.
        methods: name → scores to compare, (token,), (batch, token) or (batch, rows, columns) of the grid.
        curves: name → the perturbation curve of that method (`attnchain_evals.perturbation_curve`).
        targets: name of a class → its gradients (`capture_gradients`) on the same inputs, or a chain of your own. The page
            switches between plain attention and these. Gradients give the chain of `GradientTokenRank`.
        tokens: the states of the chains: see `TokenLayout.select`. None means the patches of an image.
        example: number of the example in the batch.
        title: of the page. None means the name of the store's model.
        normalization: how the image was normalised: see `displayable`.
        max_mb: the largest size of the page, in 10⁶ bytes.

    Raises:
        AttentionError: a store with other queries than keys; an example that does not exist; scores, curves, gradients or
            chains that do not fit; a budget too small for the vectors of the heads.

    >>> import torch
    >>> maps = torch.tensor([[0.5, 0.5], [0.1, 0.9]])[None, None]
    >>> explore(AttentionStore.from_maps([maps]), title="two tokens").payload.header["maps"]["what"]
    'heads'
    """
    check_type("store", store, AttentionStore, "Pass capture(model, …), or AttentionStore.from_maps(maps).")
    if isinstance(max_mb, bool) or not max_mb > 0:
        raise AttentionError(f"max_mb is {max_mb!r}; it is the size of the page in 10⁶ bytes.", "Pass max_mb=4.5.")
    room = int(max_mb * 1e6)
    chains = ExampleChains(store, example, tokens)
    measured = MeasuredMaps(chains, room)
    if image is not None and getattr(image, "ndim", 0) == 4:
        image = image[example]
    if title is None:
        title = store.metadata.get("model", "Attention")
    given = methods or {}, curves or {}, targets or {}
    found = contents(chains, measured, image, normalization, *given, tokens, title)
    passed: list[str] = []
    size = 0
    for quality in measured.qualities():
        if quality.least_size() <= room:
            result = Explorer(found.with_maps(quality, passed))
            size = result.payload.size
            if size <= room and (size := len(result.html.encode())) <= room:
                return result
        passed.append(quality.name)
    raise AttentionError(
        f"max_mb is {max_mb}, and the page takes {size / 1e6:.2f} MB without any map.",
        "Give it more room, an image of fewer pixels, or a store of fewer layers.",
    )
