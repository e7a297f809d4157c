"""A walk over an image: after 0, 1, 2 … bounces, and as a film."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from matplotlib.animation import AbstractMovieWriter, FFMpegWriter, PillowWriter
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm.auto import tqdm

from attnchain_interp.chain import bounce, stationary
from attnchain_interp.errors import AttentionError
from attnchain_interp.files import whole
from attnchain_interp.pictures.chains import shown_steps
from attnchain_interp.pictures.figure_files import checked_path
from attnchain_interp.pictures.figures import (
    blank_axes,
    check_images,
    covered_box,
    draw_map,
    frame_patch,
    name_column,
    on_grid,
    patch_at,
    store_title,
    write_title,
)
from attnchain_interp.pictures.images import displayable, warn_of_photograph
from attnchain_interp.pictures.scale import Scale
from attnchain_interp.pictures.sink_marks import draw_marked
from attnchain_interp.store import AttentionStore, Heads, LayerSelection, LayerWeights, Start
from attnchain_interp.store.starts import start_distribution

_RATE: Final = 20  # frames a second, which a GIF can hold exactly: 5/100 s each
_HELD, _BETWEEN = 6, 8  # frames that a bounce stands still, and on the way to the next


def show_bounces(
    store: AttentionStore,
    image: Any = None,
    normalization: Any = None,
    *,
    start: Start = "center",
    steps: Sequence[int] = (0, 1, 2, 3, 5, 10),
    layers: LayerSelection = "all",
    heads: Heads = "mean",
    damping: float = 0.99,
    example: int = 0,
    layer_weights: LayerWeights = "mean",
    balanced: bool | float = False,
    keep_sinks: bool = False,
    title: str | None = None,
) -> Figure:
    """Returns a matplotlib `Figure`: a walk from one token after n bounces, and the stationary distribution at n = ∞.

    Each map has its own scale, and attention sinks are marked and left out of it, as by `show_layers`.

    Args:
        store: a store with an image grid.
        image: the input of the example (channel, height, width). It is shown first, with a frame around the start patch.
        normalization: how the image was normalised: see `displayable`.
        start: "center", "class", "uniform", a token by number, or a distribution (batch, token).
        steps: the numbers of bounces that are shown.
        layers, heads, layer_weights, balanced: see `AttentionStore.chain`.
        damping: of the stationary distribution: see `stationary`. The bounces are not damped.
        example: number of the example in the batch.
        keep_sinks, title: see `show_layers`.

    Raises:
        AttentionError: no steps, no image grid, no such example, or as `AttentionStore.chain`, `bounce`, `stationary` and
            `displayable`.

    Source: Erel et al. 2025, multi-bounce attention.
    """
    steps = shown_steps(steps)
    found = Walk.over(store, start, max(steps), layers, heads, damping, example, layer_weights, balanced)
    warn_of_photograph(image, store.tokens.grid)
    shown = {f"n = {n}": found.maps[n] for n in steps} | {"n = ∞": found.limit}
    before = int(image is not None)
    figure, axes = blank_axes(1, len(shown) + before)
    if before:
        found.draw_start(axes[0, 0], displayable(image, normalization), store)
    for axis, name in zip(axes[0, before:], shown, strict=True):
        name_column(axis, name)
    draw_marked(figure, zip(axes[0, before:], shown.values(), strict=True), store, layers, example, keep_sinks)
    settings: dict[str, Any] = {"heads": heads, "layer weights": layer_weights, "balanced": balanced, "damping": damping}
    write_title(figure, title, store_title(f"walk from {start_name(start)}", store, layers, **settings))
    return figure


def start_name(start: object) -> str:
    """Returns a start in words."""
    return start if isinstance(start, str) else f"token {start}" if isinstance(start, int) else "a distribution"


@final
@dataclass(frozen=True, eq=False)
class Walk:
    """The distributions of a walk on the image grid.

    Attributes:
        maps: (step, rows, columns), the start first.
        limit: (rows, columns), the stationary distribution.
        origin: (row, column) of the start patch; None if the walk does not start at one patch.
    """

    maps: NDArray[np.float64]
    limit: NDArray[np.float64]
    origin: tuple[int, int] | None

    @classmethod
    def over(
        cls,
        store: AttentionStore,
        start: Start,
        steps: int,
        layers: LayerSelection,
        heads: Heads,
        damping: float,
        example: int,
        layer_weights: LayerWeights,
        balanced: bool | float,
    ) -> Walk:
        """Returns the walk over the chain of a store. Arguments and errors: see `show_bounces`."""
        check_images(store)
        if isinstance(heads, str) and heads == "each":
            raise AttentionError('heads="each" gives a walk for every head; one walk is drawn.', "Name the head: heads=[0].")
        chain = store.chain(layers, heads, balanced=balanced, layer_weights=layer_weights)
        tokens = store.tokens
        path = bounce(chain, start_distribution(chain, tokens, start), steps, path=True)
        limit = stationary(chain, damping)
        return cls(on_grid(tokens, path, example), on_grid(tokens, limit, example), patch_at(tokens, start))

    def draw_start(self, axis: Any, picture: NDArray[np.float64], store: AttentionStore) -> None:
        """Draws the image (height, width, channel), with a frame around the start patch."""
        axis.imshow(picture)
        name_column(axis, "input")
        if self.origin is not None:
            frame_patch(axis, self.origin, self.limit.shape, covered_box(store, picture))  # type: ignore[arg-type]


def animate_bounces(
    store: AttentionStore,
    path: str | Path,
    image: Any = None,
    normalization: Any = None,
    *,
    start: Start = "center",
    steps: int = 10,
    layers: LayerSelection = "all",
    heads: Heads = "mean",
    damping: float = 0.99,
    example: int = 0,
    layer_weights: LayerWeights = "mean",
    balanced: bool | float = False,
    show_progress: bool = False,
) -> Path:
    """Writes a film of a walk from one token, n = 0, 1, … `steps`, ∞, as GIF or MP4. Returns the path.

    Each bounce stands still for 0.3 s and becomes the next in 0.4 s, on the straight line between the two distributions. The
    film is written atomically. The same film is always the same bytes.

    Args:
        path: ends in .gif, or in .mp4, which needs the program ffmpeg.
        steps: how many bounces are shown before n = ∞.
        show_progress: show a bar with the time left over the frames.
        store, image, normalization, start, layers, heads, damping, example, layer_weights, balanced: see `show_bounces`.

    Raises:
        AttentionError: another suffix, no folder for the path, no ffmpeg for an MP4, or as `show_bounces`.
    """
    path = checked_path(path, ("gif", "mp4"))
    writer = _writer(path)
    found = Walk.over(store, start, steps, layers, heads, damping, example, layer_weights, balanced)
    warn_of_photograph(image, store.tokens.grid)
    figure, axes = blank_axes(1, 1 if image is None else 2, cell=2.4)
    if image is not None:
        found.draw_start(axes[0, 0], displayable(image, normalization), store)
    axis = axes[0, -1]
    drawn = draw_map(axis, found.limit, Scale.robust([found.limit]))
    name_column(axis, "n = ∞")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout stays as it is now
    with whole(path) as partial, writer.saving(figure, str(partial), dpi=100):
        frames = len(found.maps) * (_HELD + _BETWEEN) + 2 * _HELD
        for name, grid in tqdm(_frames(found), "frames", frames, disable=not show_progress):
            drawn.set_array(grid)
            drawn.set_norm(Scale.robust([grid]).norm)
            name_column(axis, name)
            writer.grab_frame()
    return path


def _frames(found: Walk) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yields the title and the map of every frame. The title names the nearer bounce."""
    stages = [(f"n = {n}", grid) for n, grid in enumerate(found.maps)] + [("n = ∞", found.limit)]
    eased = [(1 - np.cos(np.pi * k / (_BETWEEN + 1))) / 2 for k in range(1, _BETWEEN + 1)]
    for (name, grid), (following, next_grid) in pairwise(stages):
        yield from [(name, grid)] * _HELD
        yield from ((name if t < 0.5 else following, (1 - t) * grid + t * next_grid) for t in eased)
    yield from [stages[-1]] * (2 * _HELD)


def _writer(path: Path) -> AbstractMovieWriter:
    if path.suffix == ".gif":
        return PillowWriter(_RATE)
    if not FFMpegWriter.isAvailable():
        raise AttentionError(
            f"{path} needs the program ffmpeg, which is not found.",
            "Install it (apt install ffmpeg, brew install ffmpeg, conda install ffmpeg), or write"
            f" {path.with_suffix('.gif')}.",
        )
    return FFMpegWriter(_RATE, extra_args=["-pix_fmt", "yuv420p", "-fflags", "+bitexact"])
