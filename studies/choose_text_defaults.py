"""Chooses settings for decoders and encoders of text: `python -m studies.choose_text_defaults`.

Every candidate is scored by faithfulness, comprehensiveness − sufficiency (ERASER, each the mean over the thresholds), the
mean over two ways to erase a token: the attention mask, and a filler in its place. Of each method the plainest candidate
within the margin of its best is chosen on validation texts; test texts are only reported. Writes docs/text-defaults.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from captum.attr import LayerIntegratedGradients
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

import attnchain_interp as ac
from attnchain_evals import (
    AttentionMask,
    KeyValues,
    ReplaceToken,
    TextExample,
    Trial,
    bundled_decoder,
    bundled_encoder,
    preset,
)
from attnchain_evals.metrics.statistics import Score, interval
from attnchain_evals.tasks.key_values import FILLERS
from attnchain_interp import AttentionAttribution

MARGIN: Final = 0.01
BASELINE: Final = "Rollout"
METRICS: Final = [
    *(
        preset(name, occlusion=occlusion, features="token")
        for occlusion in (AttentionMask(), ReplaceToken(FILLERS.start))
        for name in ("comprehensiveness", "sufficiency")
    ),
    *(preset(name) for name in ("evidence-ap", "evidence-first")),
]
FIGURES: Final = ("C mask", "S mask", "C filler", "S filler", "faithfulness", "evidence AP", "top is evidence")
MARKOV: Final = ("TokenRank", "MultiBounce", "GradientTokenRank", "GradientMultiBounce", "ExpectedVisits")
LAYERS: Final[dict[str, Any]] = {"all layers": "all", "last layer": -1}

Figures = NDArray[np.float64]  # (example, figure)


class Seen(NamedTuple):
    """What the methods may look at: a batch, the clean prediction, attention and its gradients."""

    model: Any
    batch: TextExample
    target: Tensor
    store: ac.AttentionStore
    gradients: ac.gradients.AttentionGradients


class Candidate(NamedTuple):
    method: str
    settings: str
    family: str
    scores: Callable[[Seen], Tensor]


def answer_logits(model: Any, **inputs: Tensor) -> Tensor:
    logits = model(**inputs).logits
    return logits if logits.ndim == 2 else logits[:, -1]


def score_of(target: Tensor) -> Callable[[Any], Tensor]:
    """From a model's output to the logits (batch,) of these answers."""

    def score(output: Any) -> Tensor:
        logits = output.logits if output.logits.ndim == 2 else output.logits[:, -1]
        return logits.gather(1, target[:, None])[:, 0]

    return score


def candidates(decoder: bool) -> list[Candidate]:
    """Of each method the plainest first. `here` is where the answer is read: the last token or the class token."""
    here: Any = -1 if decoder else "class"
    read = "from the answering token" if decoder else "from the class token"
    at_here = torch.zeros(27)
    at_here[-1 if decoder else 0] = 1
    made: list[Candidate] = []

    def attention(settings: str, method: AttentionAttribution) -> None:
        made.append(Candidate(type(method).__name__, settings, "attention", lambda seen: method.score(seen.store)))

    def gradient(settings: str, method: Any) -> None:
        made.append(Candidate(type(method).__name__, settings, "gradients", lambda seen: method.score(seen.gradients)))

    policies: tuple[Any, ...] = ("damp", "drop-first", "reverse", "absorb") if decoder else ("damp", "reverse")
    for name, layers in LAYERS.items():
        for policy in policies:
            label = policy if decoder else {"damp": "incoming", "reverse": "outgoing"}[policy]
            for damping in (0.99, 0.85, 0.5) if policy != "absorb" and layers == "all" else (0.99,):
                settings = f"{label}, {name}" if policy == "absorb" else f"{label}, damping {damping}, {name}"
                attention(settings, ac.TokenRank(causal=policy, damping=damping, layers=layers))
        for damping in (0.99, 0.85, 0.5) if layers == "all" else (0.5,):
            rank = ac.TokenRank(damping=damping, personalization=at_here, layers=layers)
            attention(f"incoming, jumps to where the answer is read, damping {damping}, {name}", rank)
        if decoder:
            rank = ac.TokenRank(causal="absorb", personalization=at_here, layers=layers)
            attention(f"absorb, walks begin where the answer is read, {name}", rank)
    for name, layers in LAYERS.items():
        for steps in (2, 1, 3):
            attention(f"{steps} steps {read}, {name}", ac.MultiBounce(steps=steps, start=here, layers=layers))
        everywhere = ac.MultiBounce(steps=2, start="uniform", layers=layers)
        attention(f"2 steps from everywhere, {name}", everywhere)
        outgoing = ac.MultiBounce(steps=2, start=here, layers=layers, direction="outgoing")
        attention(f"2 steps {read}, outgoing, {name}", outgoing)
    for residual in (0.5, 0.2, 0.8):
        attention(f"{read}, residual {residual}", ac.Rollout(start=here, residual=residual))
    attention("from everywhere, residual 0.5", ac.Rollout(start="uniform"))
    attention(read, ac.AttentionFlow(start=here))
    for name, layers in LAYERS.items():
        attention(f"row {read}, {name}", ac.RawAttention(token=here, layers=layers))
    for name, layers in LAYERS.items():
        attention(name, ac.ColumnSum(layers=layers))
    for name, layers in LAYERS.items():
        for steps in (30, 2):
            attention(f"{steps} steps, {name}", ac.WeightedPageRank(steps=steps, layers=layers))

    for method in (ac.GradientAttention, ac.GradientRollout):
        gradient(read, method(start=here))
        gradient("from everywhere", method(start="uniform"))
    gradient(f"l1, {read}", ac.GMAR(start=here))
    gradient(f"l2, {read}", ac.GMAR(norm="l2", start=here))
    everywhere_at_once = torch.full_like(at_here, 1 / len(at_here))  # None would mean the last token of a decoder
    for damping in (0.99, 0.85, 0.5):
        gradient(f"damping {damping}", ac.GradientTokenRank(damping=damping, personalization=everywhere_at_once))
    for damping in (0.99, 0.85, 0.5):
        rank = ac.GradientTokenRank(damping=damping, personalization=at_here)
        gradient(f"jumps to where the answer is read, damping {damping}", rank)
    for steps in (2, 1, 3):
        gradient(f"{steps} steps {read}", ac.GradientMultiBounce(steps=steps, start=here))
    gradient("2 steps from everywhere", ac.GradientMultiBounce(steps=2, start="uniform"))
    for damping in (0.99, 0.5):
        gradient(f"damping {damping}, {read}", ac.ExpectedVisits(start=here, damping=damping))
    gradient("damping 0.99, from everywhere", ac.ExpectedVisits(start="uniform"))

    def transition_maps(seen: Seen) -> Tensor:
        embeddings = seen.model.get_input_embeddings()(seen.batch.input_ids).detach()
        method = ac.TransitionAttentionMaps(seen.model, start=here)
        return method.attribute(embeddings, target=score_of(seen.target), output="tokens")

    def by_layers(seen: Seen, layers: Any) -> Tensor:
        method = ac.LeGrad(seen.model, layers=layers)
        return method.attribute(seen.batch.input_ids, target=score_of(seen.target), output="tokens")

    def integrated(seen: Seen) -> Tensor:
        def score(input_ids: Tensor) -> Tensor:
            return answer_logits(seen.model, input_ids=input_ids)

        method = LayerIntegratedGradients(score, seen.model.get_input_embeddings())
        ids, target = seen.batch.input_ids, seen.target
        return method.attribute(ids, torch.zeros_like(ids), target=target, n_steps=20).sum(-1).detach()  # type: ignore[union-attr]

    for name, layers in LAYERS.items():
        made.append(Candidate("LeGrad", name, "gradients", lambda seen, layers=layers: by_layers(seen, layers)))
    made.append(Candidate("TransitionAttentionMaps", f"{read}, over embeddings", "gradients", transition_maps))
    made.append(Candidate("IntegratedGradients", "embeddings, from padding, 20 steps", "gradients", integrated))
    attention("", ac.RandomRanking())
    made.append(Candidate("the evidence itself", "", "control", lambda seen: seen.batch.evidence.float()))
    return made


def figures_of(decoder: bool, split: Any, examples: int, seed: int, chosen: list[Candidate]) -> tuple[list[Figures], float]:
    """The figures (example, figure) of each candidate, and the model's accuracy."""
    model: Any = bundled_decoder() if decoder else bundled_encoder()
    found: list[list[Tensor]] = [[] for _ in chosen]
    right = 0

    generator = torch.Generator().manual_seed(seed)
    for batch in tqdm(list(KeyValues(split, examples, seed=seed).batches(128)), desc=f"{model.config.model_type} {split}"):
        ids = batch.input_ids
        with torch.no_grad():
            target = answer_logits(model, input_ids=ids).argmax(1)
        trial = Trial(model, ids, target, batch.evidence, words=batch.words)
        right += int((target == (batch.answer if decoder else batch.label)).sum())
        gradients = ac.capture_gradients(model, input_ids=ids, target=score_of(target))
        seen = Seen(model, batch, target, ac.capture(model, input_ids=ids, keep="maps"), gradients)
        for candidate, rows in zip(chosen, found, strict=True):
            scores = candidate.scores(seen).float().cpu()
            if candidate.method == "RandomRanking":  # anew for every batch
                scores = torch.rand(ids.shape, generator=generator)
            columns = [metric.measure(trial, scores)[:, 0] for metric in METRICS]
            faithful = (columns[0] - columns[1] + columns[2] - columns[3]) / 2
            rows.append(torch.stack([*columns[:4], faithful, *columns[4:]], 1))
    return [torch.cat(rows).numpy() for rows in found], right / examples


def choose(made: list[Candidate], figures: list[Figures]) -> dict[str, int]:
    """Of each method the number of the plainest candidate within the margin of the method's best."""
    means = [float(found[:, FIGURES.index("faithfulness")].mean()) for found in figures]
    chosen: dict[str, int] = {}
    for method in dict.fromkeys(candidate.method for candidate in made):
        own = [k for k, candidate in enumerate(made) if candidate.method == method]
        best = max(means[k] for k in own)
        chosen[method] = next(k for k in own if means[k] >= best - MARGIN)
    return chosen


def mean_of(column: Figures) -> Score:
    return interval(lambda means: means[0], column[:, None])


def validation_table(made: list[Candidate], figures: list[Figures], chosen: dict[str, int]) -> list[str]:
    lines = ["| method | settings | faithfulness | difference from the chosen | evidence AP |", "|---|---|---|---|---|"]
    column = FIGURES.index("faithfulness")
    for k, candidate in enumerate(made):
        if candidate.family == "control" or candidate.method == "RandomRanking":
            continue
        faithful = figures[k][:, column]
        own = chosen[candidate.method]
        difference = "chosen" if k == own else str(mean_of(faithful - figures[own][:, column]))
        precision = figures[k][:, FIGURES.index("evidence AP")].mean()
        lines.append(f"| {candidate.method} | {candidate.settings} | {faithful.mean():.3f} | {difference} | {precision:.3f} |")
    return lines


def test_table(made: list[Candidate], figures: list[Figures]) -> list[str]:
    column = FIGURES.index("faithfulness")
    baseline = next(found[:, column] for candidate, found in zip(made, figures, strict=True) if candidate.method == BASELINE)
    head = ["method, as chosen", "C mask ↑", "S mask ↓", "C filler ↑", "S filler ↓", "faithfulness ↑", f"− {BASELINE}"]
    lines = ["| " + " | ".join([*head, "evidence AP ↑", "top is evidence ↑"]) + " |", "|---" * 9 + "|"]
    ranked = sorted(range(len(made)), key=lambda k: -figures[k][:, column].mean())
    for k in ranked:
        candidate, found = made[k], figures[k]
        name = f"{candidate.method}: {candidate.settings}" if candidate.settings else candidate.method
        cells = [f"{value:.3f}" for value in found[:, :4].mean(0)]
        cells += [str(mean_of(found[:, column])), str(mean_of(found[:, column] - baseline))]
        cells += [f"{value:.3f}" for value in found[:, 5:].mean(0)]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return lines


def summary(kind: str, made: list[Candidate], figures: list[Figures]) -> str:
    """Returns the sentences about the test table."""
    column = FIGURES.index("faithfulness")
    faithful = {candidate.method: found[:, column] for candidate, found in zip(made, figures, strict=True)}
    means = {method: found.mean() for method, found in faithful.items()}
    sentences = []
    for family, reading in (("attention", "read attention alone"), ("gradients", "also read gradients")):
        own = [candidate.method for candidate in made if candidate.family == family and candidate.method != "RandomRanking"]
        best = max(own, key=lambda method: means[method])
        equal: list[str] = []
        worse: list[str] = []
        for method in (method for method in own if method in MARKOV and method != best):
            gap = mean_of(faithful[method] - faithful[best])
            (worse if gap.high < 0 else equal).append(f"{method} by {-gap.value:.3f} [{-gap.high:.3f}, {-gap.low:.3f}]")
        lost = [method for method in own if means[method] <= means["RandomRanking"]]
        sentences.append(f"{best} ({means[best]:.3f}) is the most faithful of the methods that {reading}.")
        if worse:
            sentences.append(f"These Markov methods are less faithful: {', '.join(worse)}.")
        if equal:
            sentences.append(f"These are not told apart from it: {', '.join(equal)}.")
        if lost:
            sentences.append(
                f"These are not better than a random order by the mean ({means['RandomRanking']:.3f}): {', '.join(lost)}."
            )
    sentences.append(f"The evidence itself, ranked first, has {means['the evidence itself']:.3f}.")
    return f"**{kind}.** " + " ".join(sentences)


def policies(made: list[Candidate], figures: list[Figures]) -> list[str]:
    """The best of each policy of TokenRank with uniform jumps, against the damped walk."""
    column = FIGURES.index("faithfulness")
    own: dict[str, list[int]] = {}
    for k, candidate in enumerate(made):
        if candidate.method == "TokenRank" and "answer" not in candidate.settings:
            own.setdefault(candidate.settings.split(",")[0], []).append(k)
    best = {policy: max(several, key=lambda k: figures[k][:, column].mean()) for policy, several in own.items()}
    plain = figures[best["damp"]][:, column]
    lines = ['| policy | its best settings | faithfulness | difference from the best "damp" |', "|---|---|---|---|"]
    for policy, k in best.items():
        faithful = figures[k][:, column]
        lines.append(f"| {policy} | {made[k].settings} | {faithful.mean():.3f} | {mean_of(faithful - plain)} |")
    return lines


def report(kind: str, decoder: bool, validation: int, test: int, seed: int) -> tuple[str, list[str]]:
    """What the test texts say of a kind of model, in words; and its part of the page."""
    made = candidates(decoder)
    tried, _ = figures_of(decoder, "validation", validation, seed, made)
    chosen = choose(made, tried)
    kept = [made[k] for k in chosen.values()]
    found, right = figures_of(decoder, "test", test, seed, kept)
    part = [f"## {kind}", "", f"Accuracy on the test texts {right:.3f}. The chosen settings, on test texts:", ""]
    part += [*test_table(kept, found), ""]
    if decoder:
        part += ["What is done about the first token, on validation texts, jumps landing everywhere:", ""]
        part += [*policies(made, tried), ""]
    part += ["All candidates, on validation texts:", "", *validation_table(made, tried, chosen), ""]
    return summary(kind, kept, found), part


def page(validation: int, test: int, seed: int, reports: list[tuple[str, list[str]]]) -> str:
    words = "\n\n".join(said for said, _ in reports)
    parts = "\n".join(line for _, part in reports for line in part)
    filled = PAGE.format(validation=validation, test=test, seed=seed, margin=MARGIN, summary=words, parts=parts)
    return filled.rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--validation", type=int, default=256)
    parser.add_argument("--test", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/text-defaults.md"))
    arguments = parser.parse_args()
    size = (arguments.validation, arguments.test, arguments.seed)
    arguments.out.write_text(page(*size, [report("Decoder", True, *size), report("Encoder", False, *size)]), encoding="utf-8")
    print(arguments.out)


PAGE: Final = """# How the defaults for text were chosen

The command `python -m studies.choose_text_defaults --validation {validation} --test {test}` writes this page. It runs the
bundled decoder and encoder on `KeyValues` (seed {seed}): a key is looked up among three to six pairs of a key and a value, so
the tokens that hold the answer are known. Settings are chosen on {validation} validation texts. The {test} test texts are
reported.

C is comprehensiveness, p(x) − p(x without its top tokens). S is sufficiency, p(x) − p(only its top tokens). p is the
probability of the clean prediction, and each is the mean over the top 1, 5, 10, 20 and 50 % of the 24 tokens of the context.
The start, the question and the asked key are never ranked or erased. A token is erased by the attention mask, or by a filler
in its place. Faithfulness is C − S, the mean over both ways to erase. Evidence AP is the average precision of the asked pair
among the ranked tokens.

The rule: each method gets its plainest candidate whose faithfulness is within {margin} of the method's best. Candidates are
listed with the plainest first. Intervals are 95 % bootstrap intervals. Differences are paired, text by text.

## What it says

{summary}

## What follows

These are the defaults in a decoder:

- The jumps of `TokenRank` and of `GradientTokenRank` lead to the last token, with damping 0.5 (`causal="last"`). With jumps to
  everywhere, all policies for the absorbing first token are far less faithful (the table below).
- `MultiBounce`, `Rollout`, `AttentionFlow`, `GMAR` and other walks start at the last token (`start=None`).
- `GradientAttention`, `GradientRollout` and `ExpectedVisits` start everywhere (`start="class-or-uniform"`), which is more
  faithful here.

The evidence is one small task and one model of each kind. Nothing more is claimed.

{parts}"""


if __name__ == "__main__":
    main()
