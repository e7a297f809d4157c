"""The page docs/text-defaults.md: tables and sentences of the candidates' figures."""

from __future__ import annotations

from typing import Final

from attnchain_evals.bench.tables import table
from attnchain_evals.metrics.statistics import Score, interval
from studies.choose_text_defaults.candidates import Candidate, candidates
from studies.choose_text_defaults.choice import FIGURES, MARGIN, Figures, choose, figures_of

BASELINE: Final = "Rollout"
MARKOV: Final = ("TokenRank", "MultiBounce", "GradientTokenRank", "GradientMultiBounce", "ExpectedVisits")


def mean_of(column: Figures) -> Score:
    """Returns the mean of figures (example,) with its interval."""
    return interval(lambda means: means[0], column[:, None])


def validation_table(made: list[Candidate], figures: list[Figures], chosen: dict[str, int]) -> str:
    """Returns a table: every candidate on validation texts, by its difference from the chosen one."""
    rows, column = [], FIGURES.index("faithfulness")
    for k, candidate in enumerate(made):
        if candidate.family == "control" or candidate.method == "RandomRanking":
            continue
        faithful = figures[k][:, column]
        own = chosen[candidate.method]
        difference = "chosen" if k == own else str(mean_of(faithful - figures[own][:, column]))
        precision = figures[k][:, FIGURES.index("evidence AP")].mean()
        cells = f"{faithful.mean():.3f}", difference, f"{precision:.3f}"
        rows.append([candidate.method, candidate.settings, *cells])
    return table(["method", "settings", "faithfulness", "difference from the chosen", "evidence AP"], rows)


def test_table(made: list[Candidate], figures: list[Figures]) -> str:
    """Returns a table: the chosen candidates on test texts, the most faithful first."""
    column = FIGURES.index("faithfulness")
    baseline = next(found[:, column] for candidate, found in zip(made, figures, strict=True) if candidate.method == BASELINE)
    head = ["method, as chosen", "C mask ↑", "S mask ↓", "C filler ↑", "S filler ↓", "faithfulness ↑", f"− {BASELINE}"]
    rows = []
    ranked = sorted(range(len(made)), key=lambda k: -figures[k][:, column].mean())
    for k in ranked:
        candidate, found = made[k], figures[k]
        name = f"{candidate.method}: {candidate.settings}" if candidate.settings else candidate.method
        cells = [f"{value:.3f}" for value in found[:, :4].mean(0)]
        cells += [str(mean_of(found[:, column])), str(mean_of(found[:, column] - baseline))]
        cells += [f"{value:.3f}" for value in found[:, 5:].mean(0)]
        rows.append([name, *cells])
    return table([*head, "evidence AP ↑", "top is evidence ↑"], rows)


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


def policies(made: list[Candidate], figures: list[Figures]) -> str:
    """Returns a table: the best of each policy of TokenRank with uniform jumps, against the damped walk."""
    column = FIGURES.index("faithfulness")
    own: dict[str, list[int]] = {}
    for k, candidate in enumerate(made):
        if candidate.method == "TokenRank" and "answer" not in candidate.settings:
            own.setdefault(candidate.settings.split(",")[0], []).append(k)
    best = {policy: max(several, key=lambda k: figures[k][:, column].mean()) for policy, several in own.items()}
    plain = figures[best["damp"]][:, column]
    rows = []
    for policy, k in best.items():
        faithful = figures[k][:, column]
        rows.append([policy, made[k].settings, f"{faithful.mean():.3f}", str(mean_of(faithful - plain))])
    return table(["policy", "its best settings", "faithfulness", 'difference from the best "damp"'], rows)


def report(kind: str, decoder: bool, validation: int, test: int, seed: int) -> tuple[str, list[str]]:
    """Returns the sentences about a kind of model on test texts, and its part of the page."""
    made = candidates(decoder)
    tried, _ = figures_of(decoder, "validation", validation, seed, made)
    chosen = choose(made, tried)
    kept = [made[k] for k in chosen.values()]
    found, right = figures_of(decoder, "test", test, seed, kept)
    part = [f"## {kind}", "", f"Accuracy on the test texts {right:.3f}. The chosen settings, on test texts:", ""]
    part += [test_table(kept, found), ""]
    if decoder:
        part += ["The treatments of the first token, on validation texts, with jumps that land everywhere:", ""]
        part += [policies(made, tried), ""]
    part += ["All candidates, on validation texts:", "", validation_table(made, tried, chosen), ""]
    return summary(kind, kept, found), part


def page(validation: int, test: int, seed: int, reports: list[tuple[str, list[str]]]) -> str:
    """Returns the page of these reports."""
    words = "\n\n".join(said for said, _ in reports)
    parts = "\n".join(line for _, part in reports for line in part)
    filled = PAGE.format(validation=validation, test=test, seed=seed, margin=MARGIN, summary=words, parts=parts)
    return filled.rstrip() + "\n"


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

## Results

{summary}

## Consequences

Candidates read attention with the mean of layers, as published. They led to these defaults in a decoder:

- The jumps of `TokenRank` and of `GradientTokenRank` lead to the last token (`causal="last"`). With jumps to everywhere, all
  policies for the absorbing first token are far less faithful (the table below).
- `MultiBounce`, `Rollout`, `AttentionFlow`, `GMAR` and other walks start at the last token (`start=None`).
- `GradientAttention`, `GradientRollout` and `ExpectedVisits` start everywhere (`start="class-or-uniform"`), which is more
  faithful here.

The evidence is one small task and one model of each kind, and holds for these alone. Real models led to other defaults for the
maps, the weights of layers, and the damping of `GradientTokenRank`
([methods](methods.md#weights-of-layers-balanced-chains-contributions)). There `Rollout` and `GMAR` are worse
than random on facts.

{parts}"""
