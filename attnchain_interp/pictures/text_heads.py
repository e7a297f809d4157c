"""The heads of a text at a glance: heads × tokens, layer under layer, with how slowly each head mixes beside them."""

from __future__ import annotations

from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from attnchain_interp.chain import mixing
from attnchain_interp.checks import check_position
from attnchain_interp.pictures.figures import PLAIN, CellAxes, CellFigure, store_title, write_title
from attnchain_interp.pictures.scale import Scale, finite
from attnchain_interp.pictures.sink_marks import list_sinks
from attnchain_interp.reprs import visible
from attnchain_interp.store import AttentionStore, LayerSelection, known_sinks
from attnchain_interp.store.label_texts import label_texts

_HIGH, _WIDE, _LETTER, _MOST_LABELS = 0.07, 0.14, 0.08, 60  # inches of a head, a token and a letter; labels under the picture


def show_text_heads(
    store: AttentionStore,
    layers: LayerSelection,
    order: Literal["head", "lambda2"],
    damping: float,
    example: int,
    keep_sinks: bool = False,
    title: str | None = None,
) -> Figure:
    """Returns a matplotlib `Figure` of heads × tokens, the layers under each other. See `show_heads`."""
    chosen, tokens = store.select(layers), store.tokens
    states = tokens.mask[check_position("example", example, store.batch)].cpu()
    labels = tokens.labels[example] if tokens.labels is not None else [str(k) for k in range(len(tokens))]
    places = states.nonzero()[:, 0].tolist()
    rows, slow, ends, numbers = list[NDArray[np.float64]](), list[NDArray[np.float64]](), list[int](), list[int]()
    for layer in chosen:
        found = mixing(store.chain(layer.name, "each", tokens="all"), damping)
        scores = layer.maps[example, :, places[-1]] if store.causal else found.stationary[example]
        second = finite(found.second_eigenvalue[example], "|λ₂|")
        heads = np.argsort(-second, kind="stable") if order == "lambda2" else np.arange(layer.heads)
        rows.append(finite(scores, "the scores")[heads][:, places])
        slow.append(second[heads])
        numbers += heads.tolist()
        ends.append((ends[-1] if ends else 0) + layer.heads)
    known = known_sinks(store, layers)
    told = {} if known is None else known.described(example)
    values = np.concatenate(rows)
    kept = [k for k, place in enumerate(places) if keep_sinks or place not in told]
    scale = Scale.robust([values[:, kept]])
    step = -(-len(places) // _MOST_LABELS)
    texts = [text or label for text, label in zip(label_texts(labels), labels, strict=True)]  # none: a part of a character
    shown = [visible(texts[place].replace("\n", "↵").strip()) or "␣" for place in places[::step]]
    high = _HIGH * len(values) + _LETTER * max(map(len, shown)) + 1.4
    figure = CellFigure(figsize=(_WIDE * len(places) + 3, high), layout="constrained")
    ratio = [max(6, len(places)), 1]
    axis, beside = figure.subplots(1, 2, sharey=True, width_ratios=ratio, subplot_kw={"axes_class": CellAxes})
    drawn = axis.imshow(values, cmap="Blues", norm=scale.norm, aspect="auto", interpolation="nearest")
    mixed = beside.imshow(np.concatenate(slow)[:, None], cmap=colormaps["viridis"], vmin=0, vmax=1, aspect="auto")
    for last in ends[:-1]:
        axis.axhline(last - 0.5, color="black", linewidth=0.4)
    middles = [last - layer.heads / 2 - 0.5 for last, layer in zip(ends, chosen, strict=True)]
    axis.set_yticks(middles, [layer.name for layer in chosen], fontsize=5, **PLAIN)
    axis.yaxis.remove_overlapping_locs = False  # the head in the middle of a layer has a number, too
    axis.set_yticks(range(len(numbers)), [str(head) for head in numbers], minor=True, fontsize=4, **PLAIN)
    axis.tick_params(axis="y", which="minor", length=0, pad=2)
    axis.tick_params(axis="y", which="major", pad=10)
    axis.set_xticks(range(0, len(places), step), shown, rotation=90, fontsize=6, **PLAIN)
    for label, place in zip(axis.get_xticklabels(), places[::step], strict=True):
        if place in told:
            label.set_color("#D55E00")
    axis.tick_params(length=0)
    beside.set_xticks([])
    beside.tick_params(which="both", length=0)
    read = "attention of the last token" if store.causal else "TokenRank"
    axis.set_title(f"{read}, heads {'by |λ₂|' if order == 'lambda2' else 'in order'}", fontsize=7, **PLAIN)
    beside.set_title("|λ₂|", fontsize=7, **PLAIN)
    short = min(0.8, 2 / (_HIGH * len(values)))  # two inches at most, however many heads there are
    figure.colorbar(mixed, ax=[axis, beside], shrink=short, aspect=15, pad=0.02).ax.tick_params(labelsize=6)
    bar = figure.colorbar(drawn, ax=axis, location="bottom", shrink=0.6, aspect=40, extend=scale.extend(values))
    bar.ax.tick_params(labelsize=6)
    bar.set_label(f"{read}{scale.note}", fontsize=6, **PLAIN)
    note = ["Attention sinks (red) are left out of the scale."] if told and not keep_sinks else []
    list_sinks(figure, [] if known is None else known.lines(example), note)
    write_title(figure, title, store_title(f"{read} of heads", store, layers))
    return figure
