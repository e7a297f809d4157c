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

Does `ExpectedVisits` find the evidence for a class better than known methods? These commands write this page:

```text
python -m studies.backbones
{commands}
python -m studies.class_specific_page
```

The figures are SRG: insertion − deletion by the mean colour at the fractions 0, 1/16, 1/4, 3/4, 15/16 and 1. Differences
are taken image by image. Intervals are 95 % bootstrap intervals over images. The explained class is that of the clean
prediction, right or wrong. The intervals are not corrected for their number: where two methods are equal, 5 of 100
intervals still exclude 0.

| backbone | model | difficulty of `ClutteredDigits` | validation images, accuracy | test images, accuracy |
|---|---|---|---|---|
{models}

{weak}

## The meaning of the chain

- A *state* is a token.
- A *step* goes from a token to a token that it attends to. It is more probable where this attention raises the score of
  the class more: W_ij = ReLU(Σ_l mean_h A_ij ∂s/∂A_ij), over all heads and layers. Layers are summed before the ReLU, so
  that the negative evidence of one layer cancels the positive evidence of another.
- A walk *ends* where evidence is scarce. W is divided by its greatest row sum, so a token with a tenth of that sum passes
  the walk on with a tenth of the probability.
- A *visit* is an arrival. The score of a token is the expected number of its visits, for a walk that starts at the class
  token (at every token where a model has no class token). It adds direct evidence and the evidence of tokens that lead to
  the token. Longer ways count less. The visit at the start does not change the order of the patches: the class token is
  not a patch, and where walks start at all patches, each has the same.

## The choice, on validation images

Each variant changes one choice of `ExpectedVisits`. A positive figure means that the variant is better. "One step" is the
evidence of the start alone. "Each row by its own sum" is a walk that ends everywhere with the same probability.

{tried}

{tried_conclusion}

The rule: a variant replaces the default if it is better on most backbones, with intervals that exclude 0.

## The report, on test images

A positive figure means that `ExpectedVisits` is better. Integrated gradients start from the occluding colour, which
favours them.

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
    parser.add_argument("--output", type=Path, default=PAGE)
    arguments = parser.parse_args()
    validation, test = (_measured(arguments.folder, split) for split in ("validation", "test"))
    write_text(arguments.output, page(validation, test))


if __name__ == "__main__":
    main()
