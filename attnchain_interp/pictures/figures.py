"""Figures, not registered with pyplot: axes in a grid, maps and patches in them, colour bars; and figures as files."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from textwrap import fill, wrap
from typing import Any, Final, Literal, final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from torch import Tensor

from attnchain_interp.checks import check_position, check_type, check_whole_number
from attnchain_interp.errors import AttentionError
from attnchain_interp.pictures.even_layout import EvenLayout
from attnchain_interp.pictures.scale import Scale, finite
from attnchain_interp.reprs import brief, counted, visible
from attnchain_interp.store import AttentionStore, LayerSelection, Role, TokenLayout, covered_by
from attnchain_interp.store.layers import check_store
from attnchain_interp.store.starts import token_positions

SEQUENTIAL, DIVERGING = "magma", "RdBu_r"  # both without red against green
PLAIN: Final[dict[str, Any]] = {"parse_math": False, "usetex": False}  # the style of a text that may hold anything
_MANY: Final = 100  # axes
_FAINT, _DENSE = 0.3, 0.75  # how much of the image the least and the greatest score cover


class CellFigure(Figure):
    """A figure that a notebook shows as the value of a cell, also where pyplot was never loaded."""

    def _repr_png_(self) -> bytes:
        written = BytesIO()
        self.savefig(written, format="png")
        return written.getvalue()


@final
class CellAxes(Axes):
    """Axes whose images have their first row on top, also where the user's settings of matplotlib put it at the bottom."""

    def imshow(self, *given: Any, **style: Any) -> AxesImage:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().imshow(*given, **{"origin": "upper", **style})


Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of an image, in pixels."""


def blank_axes(rows: int, columns: int, cell: float = 1.5, tall: float = 1.0) -> tuple[Figure, NDArray[Any]]:
    """Returns a new figure and its axes (row, column) without ticks or frames: `cell` inches wide, `tall` times as high.

    Up to 100 axes are placed by matplotlib's constrained layout, and more by an `EvenLayout`.
    """
    check_whole_number("rows", rows, "the number of rows of axes")
    check_whole_number("columns", columns, "the number of columns of axes")
    figure = CellFigure(figsize=(cell * columns, cell * tall * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, subplot_kw={"axes_class": CellAxes})
    for axis in axes.flat:
        axis.set_axis_off()
    if axes.size > _MANY:
        figure.set_layout_engine(EvenLayout(rows, columns))
    return figure, axes


def draw_map(
    axis: Axes,
    scores: NDArray[Any],
    scale: Scale,
    image: NDArray[Any] | None = None,
    cmap: str | None = None,
    smooth: bool = False,
    box: Box | None = None,
) -> ScalarMappable:
    """Draws the map in colours. Over an image, which is drawn in grey, each patch covers its part of the image.

    Args:
        axis, scores, scale, cmap: what is drawn.
        image: (height, width, 3). The map over it is more transparent where scores are small.
        smooth: blend the colours of neighbouring patches.
        box: the part of the image that the map covers; all of it when None.
    """
    extent = opaque = None
    if image is not None:
        height, width, _ = image.shape
        left, top, right, bottom = box or (0, 0, width, height)
        extent = (left - 0.5, right - 0.5, bottom - 0.5, top - 0.5)
        axis.imshow(image.mean(-1), cmap="gray", vmin=0, vmax=1)
        depth = np.asarray(scale.norm(scores)).clip(0, 1)
        opaque = _FAINT + (_DENSE - _FAINT) * (abs(2 * depth - 1) if scale.signed else depth)
    drawn = axis.imshow(
        scores,
        cmap=cmap or (DIVERGING if scale.signed else SEQUENTIAL),
        norm=scale.norm,
        extent=extent,
        interpolation="bilinear" if smooth else "nearest",
        alpha=opaque,
    )
    if image is not None:
        axis.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
    return drawn


def covered_box(store: AttentionStore, picture: NDArray[Any]) -> Box:
    """Returns the part of an image (height, width, 3) that the patches of a store cover."""
    height, width = covered_by(store, (picture.shape[0], picture.shape[1]))
    return 0, 0, width, height


def outline(axis: Axes, box: Box) -> None:
    """Draws a white frame around a part of an image."""
    left, top, right, bottom = box
    frame = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor="white", linewidth=1)
    frame.set_path_effects([withStroke(linewidth=2, foreground="black")])
    axis.add_patch(frame)


def name_row(axis: Axes, name: str) -> None:
    """Writes the name of a row to its left."""
    axis.text(-0.08, 0.5, name, fontsize=6, rotation=90, va="center", ha="right", transform=axis.transAxes, **PLAIN)


def name_column(axis: Axes, name: str) -> None:
    """Writes the name of a column, or of one panel, above it."""
    axis.set_title(name, fontsize=7, **PLAIN)


def colour_bar(
    figure: Figure,
    drawn: ScalarMappable,
    axes: NDArray[Any],
    location: str = "right",
    label: str = "",
    extend: Literal["neither", "min", "max", "both"] = "neither",
) -> None:
    """Draws a colour bar beside the axes that share it, with arrows at the ends that `extend` names."""
    place = {"location": location, "shrink": 0.8, "aspect": 30, "pad": 0.02, "panchor": False}  # axes stay in their rows
    bar = figure.colorbar(drawn, ax=list(np.ravel(axes)), extend=extend, **place)
    bar.ax.tick_params(labelsize=6)
    if isinstance(engine := figure.get_layout_engine(), EvenLayout):
        engine.bars.append((bar.ax, list(np.ravel(axes)), location))
    if label:
        bar.set_label(label, fontsize=6, **PLAIN)
    if bar.solids is not None:
        bar.solids.set_alpha(1)  # it would be pale for a map over an image


def write_title(figure: Figure, title: str | None, otherwise: str = "") -> None:
    """Writes the title of a figure above it, broken into lines; `otherwise` where a user gave none."""
    if title is not None:
        check_type("title", title, str, 'Pass title="a few words".')
    if title := title or otherwise:
        lines = map(visible, title.splitlines())
        text = "\n".join(evenly_broken(line, max(30, int(16 * figure.get_figwidth()))) for line in lines)
        figure.set_figheight(figure.get_figheight() + 0.13 * (text.count("\n") + 1))
        figure.suptitle(text, fontsize=8, **PLAIN)


def evenly_broken(text: str, width: int) -> str:
    """Breaks a text into as few lines of at most `width` characters as hold it, of nearly the same length.

    >>> evenly_broken("one two three four", 14)
    'one two\\nthree four'
    """
    lines = len(wrap(text, width))
    return next(fill(text, each) for each in range(1, width + 1) if len(wrap(text, each)) <= lines)


def store_title(what: str, store: AttentionStore, layers: LayerSelection, **settings: Any) -> str:
    """Returns the title of a picture of a store: what is shown, of which model, layers and tokens, with which settings."""
    shown = len(store.select(layers))
    parts = [
        " of ".join([what, *([store.metadata["model"]] if "model" in store.metadata else [])]),
        f"{'all' if shown == len(store) else shown} of {counted(len(store), 'layer')}",
        *([store.metadata["maps"]] if "maps" in store.metadata else []),
        *(
            f"{name} {value if isinstance(value, str) else brief(value)}"
            for name, value in settings.items()
            if value is not False
        ),
    ]
    roles = store.tokens.roles[0][store.tokens.mask[0]]
    others = sum(int((roles == role).sum()) for role in Role if role != Role.PATCH)
    left_out = f"Not among the states: {counted(others, 'token')} beside the patches." if store.tokens.grid and others else ""
    return "\n".join(filter(None, [", ".join(parts), left_out]))


def write_caption(figure: Figure, lines: Sequence[str]) -> None:
    """Writes lines under a figure, each broken into lines that fit."""
    if lines:
        text = "\n".join(evenly_broken(visible(line), max(30, int(20 * figure.get_figwidth()))) for line in lines)
        figure.set_figheight(figure.get_figheight() + 0.1 * (text.count("\n") + 2))
        figure.supxlabel(text, fontsize=6, **PLAIN)


def check_images(store: AttentionStore) -> None:
    """Refuses everything but a store whose tokens have an image grid."""
    check_store(store)
    if store.tokens.grid is None:
        raise AttentionError(
            "the tokens of this store have no image grid to be drawn on.",
            "Write show_heads(store) for a text, or explore(store). Give patches their grid: TokenLayout.image(grid=…).",
        )


def on_grid(tokens: TokenLayout, scores: Tensor, example: int) -> NDArray[np.float64]:
    """Returns the scores (batch, …, token) of one example as (…, rows, columns)."""
    return finite(tokens.to_grid(scores)[check_position("example", example, len(scores))], "the scores")


def patch_at(tokens: TokenLayout, token: object) -> tuple[int, int] | None:
    """Returns (row, column) of a token ("center", "class" or a number) on the grid; None if it is not a patch."""
    if tokens.grid is None or not isinstance(token, str | int) or token in ("uniform", "last"):
        return None
    position = int(token_positions(tokens, token)[0])
    if int(tokens.roles[0, position]) != Role.PATCH:
        return None
    patch = int((tokens.roles[0, :position] == Role.PATCH).sum())
    return divmod(patch, tokens.grid[1])


def frame_patch(axis: Axes, place: tuple[int, int], grid: tuple[int, int], box: Box, dashed: bool = False) -> None:
    """Draws a frame around the patch (row, column) of a grid that covers a box of an image or a map."""
    left, top, right, bottom = box
    tall, wide = (bottom - top) / grid[0], (right - left) / grid[1]
    corner = (left + place[1] * wide - 0.5, top + place[0] * tall - 0.5)
    frame = Rectangle(corner, wide, tall, fill=False, edgecolor="#56B4E9" if dashed else "#E69F00", linewidth=1.2)
    frame.set_linestyle((0, (2, 1)) if dashed else "solid")
    frame.set_path_effects([withStroke(linewidth=2.4, foreground="black")])
    axis.add_patch(frame)
