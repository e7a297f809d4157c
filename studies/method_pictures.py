"""Writes a picture of each method for docs/methods.md: `python -m studies.method_pictures` (a minute).

Each picture in `docs/images/methods/` shows two images of cluttered digits, each beside its scores on the bundled vision
transformer. A line surrounds the light digit, which decides the label. `text.png`
shows scores of a text on the bundled decoder.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from matplotlib.figure import Figure
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals import ClutteredDigits, KeyValues, bundled_decoder, bundled_vit
from attnchain_evals.bench.names import PLAIN
from attnchain_interp import attribution
from attnchain_interp.pictures import blank_axes, displayable, write_figure

FOLDER: Final = Path(__file__).parents[1] / "docs" / "images" / "methods"
SHOWN: Final = (0, 3)  # places in the test split
LAYERS: Final = slice(-3, None)  # of AttentionFlow, whose time grows with the layers


def methods(model: Any) -> dict[str, Any]:
    """Returns every picture of docs/methods.md by its name, with the settings of a first call. Walks are as published."""
    return {
        "TokenRank": ac.TokenRank(model, **PLAIN),
        "MultiBounce": ac.MultiBounce(model, steps=3, start="class", **PLAIN),
        "Rollout": ac.Rollout(model),
        "RolloutOfContributions": ac.Rollout(model, maps="alti"),
        "AttentionFlow": ac.AttentionFlow(model, layers=LAYERS),
        "WeightedPageRank": ac.WeightedPageRank(model),
        "RawAttention": ac.RawAttention(model),
        "ColumnSum": ac.ColumnSum(model),
        "MetastableStates": ac.MetastableStates(model),
        "RandomRanking": ac.RandomRanking(model, seed=0),
        "GradientAttention": ac.GradientAttention(model),
        "GradientRollout": ac.GradientRollout(model),
        "LeGrad": ac.LeGrad(model),
        "GMAR": ac.GMAR(model),
        "TransitionAttentionMaps": ac.TransitionAttentionMaps(model),
        "GradientTokenRank": ac.GradientTokenRank(model),
        "GradientMultiBounce": ac.GradientMultiBounce(model, steps=3),
        "LogitTokenRank": ac.LogitTokenRank(model),
        "ExpectedVisits": ac.ExpectedVisits(model),
        "GradELLM": attribution.GradELLM(model),
        "AttnLRP": attribution.AttnLRP(model),
        "LeaveOneOut": attribution.LeaveOneOut(model, perturbations_per_eval=64),
        "ShapleyValues": attribution.ShapleyValues(model, method="kernel", n_samples=256, perturbations_per_eval=64),
        "IntegratedGradients": attribution.IntegratedGradients(model, internal_steps=50),
    }


def picture(images: Tensor, masks: Tensor, grids: Tensor, labels: bool) -> Figure:
    """Draws each image beside its scores. `labels` says that scores are numbers of states, which have no order."""
    figure, axes = blank_axes(1, 2 * len(images), cell=1.0)
    for k, (image, mask, grid) in enumerate(zip(images, masks, grids, strict=True)):
        shown, scores = axes[0, 2 * k : 2 * k + 2]
        height, width = mask.shape
        shown.imshow(displayable(image))
        scores.imshow(
            grid.numpy(), cmap="tab10" if labels else "magma", vmin=0, vmax=9 if labels else None,
            extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="nearest",
        )  # fmt: skip
        for axis in (shown, scores):
            axis.contour(mask.float().numpy(), levels=[0.5], colors="white" if axis is scores else "#E69F00", linewidths=0.8)
    figure.set_size_inches(4, 1)
    return figure


def text_picture(rows: Mapping[str, Tensor], words: list[str], evidence: Tensor) -> Figure:
    """Draws a row of scores for each method over the tokens, on its own scale. The tokens of the evidence are bold."""
    figure = Figure(figsize=(6, 1.3), layout="constrained")
    axis = figure.subplots()
    axis.imshow(torch.stack([row / row.max() for row in rows.values()]).numpy(), cmap="magma", aspect="auto", vmin=0)
    axis.set_yticks(range(len(rows)), list(rows), fontsize=6)
    axis.set_xticks(range(len(words)), words, fontsize=6, rotation=90)
    for label, known in zip(axis.get_xticklabels(), evidence.tolist(), strict=True):
        label.set_fontweight("bold" if known else "normal")
    axis.tick_params(length=0)
    return figure


def figures() -> Iterator[tuple[str, Figure]]:
    model, data = bundled_vit(), ClutteredDigits("test", 16)
    images, labels, masks = (torch.stack([getattr(data[k], field) for k in SHOWN]) for field in ("image", "label", "mask"))
    for name, method in methods(model).items():
        grids = method.attribute(images, labels, output="grid").detach()
        yield name, picture(images, masks, grids, name == "MetastableStates")
    decoder, data = bundled_decoder(), KeyValues("test", 1)
    example = data[0]
    ids, target = example.input_ids[None], (example.input_ids.shape[-1] - 1, int(example.answer))
    texts = {"TokenRank": ac.TokenRank(decoder), "MultiBounce": ac.MultiBounce(decoder, steps=2, start=target[0])}
    texts["GradientAttention"] = ac.GradientAttention(decoder, start=target[0])
    rows = {name: method.attribute(ids, target, output="tokens")[0].detach() for name, method in texts.items()}
    ranked = example.context  # neither the start nor the question itself
    rows = {name: row[ranked] for name, row in rows.items()}
    yield "text", text_picture(rows, data.labels(example.input_ids[ranked]), example.evidence[ranked])


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, figure in figures():
        print(write_figure(figure, FOLDER / f"{name}.png", dpi=100))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
