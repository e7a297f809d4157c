"""Writes docs/class-specific.md of the measurements of `studies.class_specific`: `python -m studies.class_specific_page`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from attnchain_evals import BenchmarkResult
from attnchain_evals.metrics.statistics import Score, interval
from attnchain_interp.files import write_text
from studies.backbones import BACKBONES, FOLDER
from studies.class_specific import OURS, Comparison, run_of

PAGE: Final = Path(__file__).parents[1] / "docs" / "class-specific.md"
RIVALS: Final = ("GradientAttention", "TransitionAttentionMaps", "LeGrad", "Rollout", "IntegratedGradients")
Measured = Mapping[str, Comparison]

TEXT: Final = """# Class-specific methods compared

Does `ExpectedVisits` find what speaks for a class better than the methods that are known? This page is written by

```text
python -m studies.backbones
{commands}
python -m studies.class_specific_page
```

Figures are SRG, insertion − deletion by the mean colour at the fractions 1/16, 1/4, 3/4 and 15/16 between both ends, and
their differences, image by image, with 95 % bootstrap intervals over images. The class is that of the clean prediction, right
or wrong. Where there is no difference, 5 such intervals in 100 still leave 0 out: nothing is corrected for their number.

| backbone | what it is | difficulty of `ClutteredDigits` | validation images, accuracy | test images, accuracy |
|---|---|---|---|---|
{models}

{weak}

## What the chain means

A *state* is a token. A *step* goes from a token to one that it attends to, the more often the more that attention raises the
score of the class: W_ij = ReLU(Σ_l mean_h A_ij ∂s/∂A_ij), over all heads and layers. A walk *dies* where evidence is scarce:
W is divided by its greatest row sum, so a token whose row holds a tenth of that passes the walk on with a tenth of the
probability. A *visit* is an arrival. The score of a token is how many visits a walk from the class token (from any token
where there is none) pays it before it dies: direct evidence, plus the evidence of those that lead to it, which counts the
less the longer the way. The start's own visit is no patch's and ranks nothing, unless walks start at all patches, which each
then have the same. Layers are summed before the ReLU, so that one layer can take back what another said.

## The choice, on validation images

Each variant changes `ExpectedVisits` in one place; positive means that the variant is better. "One step" is the evidence of
the start alone; "each row by its own sum" is a walk that dies everywhere with the same probability.

{tried}

{tried_conclusion}

The rule: a variant takes the place of the default if it is better on most backbones with intervals that leave 0 out.

## The report, on test images

Positive means that `ExpectedVisits` is better. Integrated gradients start from the colour that occludes, which favours them.

{rivals}

{conclusion}

{answer}

The other methods and the controls:

{rest}

## All figures, on test images

{tables}
"""


def srg(found: BenchmarkResult, method: str) -> NDArray[np.float64]:
    """Returns insertion − deletion by the mean colour (example,)."""
    return found.figures(method, "srg/mean")[:, 0]


def difference(found: BenchmarkResult, method: str, other: str) -> Score:
    """Returns SRG of a method − SRG of another, image by image, with its interval."""
    return interval(lambda means: means[0], (srg(found, method) - srg(found, other))[:, None])


def verdict(score: Score) -> str:
    """Returns "better", "worse" or "open": the side of 0 on which the whole interval lies."""
    return "better" if score.low > 0 else "worse" if score.high < 0 else "open"


def table(measured: Measured, pairs: Mapping[str, tuple[str, str]], head: str) -> str:
    """Returns a row for each pair (method, other) and a column for each backbone, bold where the interval excludes 0."""
    lines = [f"| {head} | " + " | ".join(measured) + " |", "|---" * (len(measured) + 1) + "|"]
    for title, (method, other) in pairs.items():
        scores = [difference(one.found, method, other) for one in measured.values()]
        cells = [str(score) if verdict(score) == "open" else f"**{score}**" for score in scores]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def conclusion(measured: Measured, pairs: Mapping[str, tuple[str, str]]) -> str:
    """Returns a line for each pair: the backbones on which the method is better, worse, or not told from the other."""
    lines = []
    for title, (method, other) in pairs.items():
        on: dict[str, list[str]] = {"better": [], "worse": [], "open": []}
        for name, one in measured.items():
            on[verdict(difference(one.found, method, other))].append(name)
        said = [f"{word} on {', '.join(names)}" for word, names in on.items() if names]
        lines.append(f"- {title}: " + "; ".join(said) + ".")
    return "\n".join(lines)


def answer(measured: Measured, rivals: Iterable[str]) -> str:
    """Lists the methods that the method beats on every backbone, and the others."""
    groups: dict[bool, list[str]] = {True: [], False: []}
    for name in rivals:
        verdicts = {verdict(difference(one.found, OURS, name)) for one in measured.values()}
        groups[verdicts == {"better"}].append(name)
    beaten, rest = (", ".join(groups[every]) or "none of them" for every in (True, False))
    return f"So it is better on every backbone than: {beaten}. Not so than: {rest}."


def weak(test: Measured) -> str:
    names = ", ".join(name for name, one in test.items() if one.accuracy < 0.85) or "none"
    return f"Backbones that are right on less than 85 % of these test images: {names}."


def page(validation: Measured, test: Measured) -> str:
    variants = [name for name in _first(validation).methods if name != OURS]
    tried = {name: (name, OURS) for name in variants}
    rivals = {f"against {name}": (OURS, name) for name in RIVALS}
    rest = {f"against {name}": (OURS, name) for name in _first(test).methods if name not in (OURS, *RIVALS)}
    return TEXT.format(
        commands="\n".join(
            f"python -m studies.class_specific --backbone {name} --split {split} --images {one.images} --seed {one.seed}"
            for split, several in (("validation", validation), ("test", test))
            for name, one in several.items()
        ),
        models="\n".join(_model(name, one, validation[name]) for name, one in test.items()),
        tried=table(validation, tried, "variant − ExpectedVisits"),
        tried_conclusion=conclusion(validation, tried),
        weak=weak(test),
        answer=answer(test, RIVALS),
        rivals=table(test, rivals, "ExpectedVisits"),
        conclusion=conclusion(test, rivals),
        rest=table(test, rest, "ExpectedVisits"),
        tables="\n\n".join(f"### {name}\n\n{one.found.markdown()}" for name, one in test.items()),
    )


def _first(measured: Measured) -> BenchmarkResult:
    return next(iter(measured.values())).found


def _model(name: str, test: Comparison, validation: Comparison) -> str:
    backbone = BACKBONES[name]
    return (
        f"| {name} | {backbone.title} | {backbone.difficulty:g} | {validation.images}, {validation.accuracy:.3f}"
        f" | {test.images}, {test.accuracy:.3f} |"
    )


def _measured(folder: Path, split: str) -> Measured:
    return {name: Comparison.read(run_of(folder, name, split)) for name in BACKBONES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the figures are")
    parser.add_argument("--out", type=Path, default=PAGE)
    arguments = parser.parse_args()
    validation, test = (_measured(arguments.folder, split) for split in ("validation", "test"))
    write_text(arguments.out, page(validation, test))


if __name__ == "__main__":
    main()
