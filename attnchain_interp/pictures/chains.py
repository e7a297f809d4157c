"""A small chain as a graph: states are circles, transitions are arrows, and a walk goes over them."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any, Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from torch import Tensor

from attnchain_interp.chain import Chain, as_chain, bounce, stationary
from attnchain_interp.checks import check_probability
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import Factors
from attnchain_interp.pictures.figures import PLAIN, blank_axes, name_column
from attnchain_interp.pictures.map_arguments import check_names
from attnchain_interp.pictures.scale import finite
from attnchain_interp.reprs import visible

_MOST: Final = 12  # states that can be told apart on a circle
_RADIUS, _ASIDE, _COLOURS, _INK = 0.25, 0.35, "Blues", "#444444"


def show_chain(
    P: Tensor | Factors | Chain,
    start: int | Tensor | None = None,
    *,
    steps: Sequence[int] = (0, 1, 2),
    labels: Sequence[str] | None = None,
    least: float = 0.05,
    damping: float = 0.99,
) -> Figure:
    """Returns a matplotlib `Figure` of one small chain as a graph, once for each number of bounces, and for n = ∞.

    States stand in a circle, the first on top. The colour of a state is the probability of the walk being there; the number is
    written in it. The width of an arrow is the probability of its transition.

    Args:
        P: (token, token), at most 12 tokens.
        start: where the walk starts: a token by number, or a distribution (token,). None means every token equally likely.
        steps: the numbers of bounces that are shown.
        labels: names of the states. None means their numbers.
        least: transitions with a smaller probability have no arrow.
        damping: of the stationary distribution: see `stationary`. The bounces are not damped.

    Raises:
        AttentionError: several chains, more than 12 tokens, no steps, labels that do not fit, or as `bounce` and `stationary`.

    >>> figure = show_chain(Tensor([[0.9, 0.1], [0.5, 0.5]]), start=0, labels=["sun", "rain"])
    >>> [axis.get_title() for axis in figure.axes[:4]]
    ['n = 0', 'n = 1', 'n = 2', 'n = ∞']
    """
    chain = as_chain(P)
    if chain.states.ndim != 1 or len(chain) > _MOST:
        raise AttentionError(
            f"the chain has the shape {tuple(chain.transitions.shape)}; a graph shows one chain (token, token) of at most"
            f" {_MOST} tokens.",
            "Take one of a batch (chain.matrix[0]), or a part of it (restrict).",
        )
    steps = shown_steps(steps)
    check_probability("least", least, "the probability below which a transition has no arrow", 0.05)
    names = [visible(name) for name in check_names(labels, "labels", len(chain))] or [str(k) for k in range(len(chain))]
    path = finite(bounce(chain, chain.uniform if start is None else start, max(steps), path=True), "the walk")
    shown = {f"n = {n}": path[n] for n in steps} | {"n = ∞": finite(stationary(chain, damping), "the stationary vector")}
    transitions = finite(chain.matrix, "the matrix")
    figure, axes = blank_axes(1, len(shown), cell=max(2.4, 0.3 * len(chain)))
    for axis, (name, weights) in zip(axes[0], shown.items(), strict=True):
        _draw_graph(axis, transitions, weights, names, least)
        name_column(axis, name)
    return figure


def shown_steps(steps: Any) -> list[int]:
    """Returns the numbers of bounces that a picture shows; an `AttentionError` where they are no list of such numbers."""
    try:
        found = [index(number) for number in steps]
    except TypeError:
        found = []
    if not found or min(found) < 0:
        raise AttentionError(
            f"steps is {steps!r}; it is a list of the numbers of bounces that are shown, from 0 on.",
            "Name at least one number of bounces: steps=(1, 2).",
        )
    return found


def _draw_graph(
    axis: Axes, transitions: NDArray[np.float64], weights: NDArray[np.float64], names: Sequence[str], least: float
) -> None:
    n = len(names)
    angles = np.pi / 2 - 2 * np.pi * np.arange(n) / n
    places, outward = np.stack([np.cos(angles), np.sin(angles)], 1), 1 + 1.6 * _RADIUS
    radius = min(_RADIUS, 2 / n)
    shown = np.argwhere(transitions >= max(least, 1e-12))
    for i, j in sorted(shown.tolist(), key=lambda pair: transitions[*pair]):  # the most probable over the others
        style: dict[str, Any] = {"linewidth": 0.3 + 3 * transitions[i, j], "color": _INK}
        if i == j:
            loop = Circle(tuple(places[i] * (1 + radius)), 0.75 * radius, fill=False, zorder=1, **style)
            axis.add_patch(loop)
            continue
        way = (places[j] - places[i]) / np.linalg.norm(places[j] - places[i])
        aside = _ASIDE * np.array([way[1], -way[0]])  # to the right, so that i → j and j → i are two arrows
        along = np.sqrt(1 - _ASIDE**2) * way
        ends = places[i] + radius * (along + aside), places[j] - 1.08 * radius * (along - aside)
        head = f"-|>,head_width={1.4 + 1.6 * transitions[i, j]},head_length={2.5 + 2.5 * transitions[i, j]}"
        arrow = FancyArrowPatch(
            *ends, connectionstyle="arc3,rad=0.18", arrowstyle=head, shrinkA=0, shrinkB=0, zorder=2, **style
        )
        arrow.set_path_effects([withStroke(linewidth=style["linewidth"] + 1.5, foreground="white")])
        axis.add_patch(arrow)
    for place, weight, name in zip(places, weights, names, strict=True):
        axis.add_patch(Circle(tuple(place), radius, facecolor=colormaps[_COLOURS](weight), edgecolor=_INK, zorder=3))
        ink = "white" if weight > 0.55 else "black"
        text: dict[str, Any] = {"ha": "center", "va": "center", "color": ink, "zorder": 4, **PLAIN}
        axis.text(place[0], place[1] + 0.33 * radius, name, fontsize=7, weight="bold", **text)
        axis.text(place[0], place[1] - 0.38 * radius, f"{weight:.2f}", fontsize=6, **text)
    axis.set(xlim=(-outward - 0.1, outward + 0.1), ylim=(-outward - 0.1, outward + 0.1), aspect="equal")
