"""The explorer of a store: a page within a budget of bytes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from attnchain_interp.chain import Chain
from attnchain_interp.checks import as_number, check_type, check_whole_number
from attnchain_interp.errors import AttentionError
from attnchain_interp.explorer.budget import Budget
from attnchain_interp.explorer.contents import Curve, contents
from attnchain_interp.explorer.example_chains import ExampleChains
from attnchain_interp.explorer.map_quality import MeasuredMaps, contribution_qualities
from attnchain_interp.explorer.page import Payload, page
from attnchain_interp.explorer.still import still
from attnchain_interp.files import as_path, write_text
from attnchain_interp.gradients import AttentionGradients
from attnchain_interp.reprs import counted
from attnchain_interp.store import AttentionStore, TokenSelection
from attnchain_interp.store.layers import check_store

if TYPE_CHECKING:
    from attnchain_interp.explorer.widget import ExplorerWidget

NOTEBOOK: Final = 600_000  # bytes of a page in a notebook
_EXAMPLES: Final = {
    "methods": 'methods={"TokenRank": scores}',
    "curves": 'curves={"TokenRank": curve}',
    "targets": 'targets={"cat": capture_gradients(model, …)}',
    "title": 'title="two cats"',
    "contributions": 'contributions=capture(model, …, maps="alti")',
}
_HEIGHT: Final = 860  # pixels of the frame in a notebook


@final
class Explorer:
    """A page in which the attention of one example is explored. `explore` makes it; a notebook shows it.

    Attributes:
        payload: the data of the page.
        still: HTML of what the page shows first, without a script.
    """

    def __init__(self, payload: Payload, budget: Budget) -> None:
        self.payload, self._budget, self.still = payload, budget, budget.still

    @cached_property
    def html(self) -> str:
        """The page as one HTML document, which needs no server and loads nothing."""
        return page(self.payload, self.still)

    @cached_property
    def notebook_payload(self) -> Payload:
        """The data of the page in a notebook: of at most 0.6 MB, or as small as it gets. Its maps and picture are coarser."""
        return self.payload if len(self.html.encode()) <= NOTEBOOK else self._budget.best(NOTEBOOK)[0]

    def write(self, path: str | Path) -> Path:
        """Writes the page, whole or not at all. Returns the path."""
        path = as_path(path)
        write_text(path, self.html)
        return path

    def widget(self, view: str = "", height: int = _HEIGHT) -> ExplorerWidget:
        """Returns the same front end as a live widget of a notebook. Its `view` holds the current choices.

        Where a notebook shows no widgets, as once it is converted, the page stands there in a frame, at its first view.

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
        return ExplorerWidget(self.payload, view, height, self._repr_html_)

    def __repr__(self) -> str:
        header, held = self.payload.header, self.payload.header["maps"]
        size = f"{counted(len(header['layers']), 'layer')}, {counted(len(header['labels']), 'token')}"
        return (
            f"Explorer: {header['title']}\n  {size}, {len(self.html) / 1e6:.2f} MB\n"
            f"  maps: {held['what']}, greatest error {held['error']:.2g}"
        )

    def _repr_html_(self) -> str:
        """Returns the page in a frame, which survives nbconvert and needs no widget; without JavaScript, a still picture."""
        source = page(self.notebook_payload).replace("&", "&amp;").replace("'", "&#39;")
        return (
            f"<noscript>{self.still}</noscript>"
            f"<iframe srcdoc='{source}' title='{escape(self.payload.header['title'])}' loading='lazy'"
            f" style='width:100%;height:{_HEIGHT}px;border:0'></iframe>"
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
    contributions: AttentionStore | None = None,
    outputs: int = 0,
    max_mb: float = 3.0,
) -> Explorer:
    """Returns a page, one HTML file, in which you point at a token and watch its attention bounce.

    The page computes chains itself, so layers, heads and their weights, direction, steps and damping can be changed in it. It
    always holds |λ₂| and the stationary vector of every head. It holds the maps in the first of these forms that fits: the
    maps of every head, on 256 to 8 levels; the weighted means of each layer's heads; their plain means, or the largest entries
    of their rows; the mean over all layers, likewise; no maps. The page says how exact its maps are. It opens with the chain
    that `MultiBounce` walks by default, at the class token, the last token of a decoder, or the state of the greatest
    TokenRank.

    Args:
        store: maps or factors.
        image: the image that the model saw, drawn beneath the maps: the input (channel, height, width), the batch of them, or
            the same part of the photograph at its own resolution. The page holds what patches cover of it as JPEG, at most
            1,024 pixels wide or high.
        methods: name → scores to compare, (token,), (batch, token) or (batch, rows, columns) of the grid.
        curves: name → the perturbation curve of that method (`attnchain_evals.perturbation_curve`).
        targets: name of a class → its gradients (`capture_gradients`) on the same inputs, or a chain of your own. The page
            switches between plain attention and these. Gradients give the chain of `GradientTokenRank`.
        tokens: the states of the chains: see `TokenLayout.select`. None means the patches of an image.
        example: number of the example in the batch.
        title: of the page. None means the name of the store's model.
        normalization: how the image was normalised: see `displayable`.
        contributions: the contributions of the same forward, `capture(model, …, maps="alti")`. The page switches between
            attention and these, and opens with these.
        outputs: how many of the last tokens the model wrote. The page explains each from the token that predicts it.
        max_mb: the largest size of the page, in 10⁶ bytes.

    Raises:
        AttentionError: a store with other queries than keys; an example that does not exist; scores, curves, gradients,
            chains or contributions that do not fit; outputs of a model that is no decoder, or without a token before them; a
            budget too small for the vectors of the heads.

    >>> import torch
    >>> maps = torch.tensor([[0.5, 0.5], [0.1, 0.9]])[None, None]
    >>> explore(AttentionStore.from_maps([maps]), title="two tokens").payload.header["maps"]["what"]
    'heads'
    """
    check_store(store)
    for name, given, kind in (
        ("methods", methods, Mapping),
        ("curves", curves, Mapping),
        ("targets", targets, Mapping),
        ("title", title, str),
        ("contributions", contributions, AttentionStore),
    ):
        if given is not None:
            check_type(name, given, kind, f"Pass {_EXAMPLES[name]}.")
    if isinstance(max_mb, bool) or not as_number(max_mb) > 0:
        raise AttentionError(f"max_mb is {max_mb!r}; it is the size of the page in 10⁶ bytes.", "Pass max_mb=4.5.")
    room = int(max_mb * 1e6)
    chains = ExampleChains(store, example, tokens)
    _check_outputs(outputs, chains)
    measured = MeasuredMaps(chains, room)
    if image is not None and getattr(image, "ndim", 0) == 4:
        image = image[example]
    if image is not None:
        from attnchain_interp.pictures.images import warn_of_photograph

        warn_of_photograph(image, store.tokens.grid)
    if title is None:
        title = store.metadata.get("model", "Attention")
    given = methods or {}, curves or {}, targets or {}
    qualities = [] if contributions is None else contribution_qualities(contributions, chains)
    found = contents(chains, measured, image, normalization, *given, tokens, title, bool(qualities), outputs)
    maps = qualities[0].maps if qualities else measured.means[0]
    budget = Budget(found, measured, qualities, still(chains, maps, found))
    payload, size = budget.best(room)
    if size > room:
        raise AttentionError(
            f"max_mb is {max_mb}, and the page takes {size / 1e6:.2f} MB without any map.",
            "Give it more room, an image of fewer pixels, or a store of fewer layers.",
        )
    return Explorer(payload, budget)


def _check_outputs(outputs: int, chains: ExampleChains) -> None:
    check_whole_number("outputs", outputs, "the number of the last tokens that the model wrote", least=0)
    if outputs and not (chains.causal and outputs < len(chains.shown)):
        cause = f"{len(chains.shown)} tokens" if chains.causal else "a model that is no decoder"
        raise AttentionError(
            f"outputs is {outputs} of {cause}; an output is predicted by the token before it.",
            "Pass the number of tokens that a decoder wrote, or leave outputs out.",
        )
