"""Methods on prompts of a really trained decoder: `python -m studies.real_text WEIGHTS DATA`.

`attnchain fetch smollm2 FOLDER` fetches the weights. DATA holds facts.jsonl, indirect_objects.jsonl, passages.jsonl and
movie_reviews.jsonl, or the published files. Settings are chosen with `--split validation`; docs/real-text.md reports the test
prompts. A killed run continues where it stopped; `torchrun --nproc-per-node 2 -m studies.real_text …` shares it between
processes. It needs jinja2 ≥ 3.1.6 for the chat template. With `--page` nothing is measured: the page is made of
docs/real-text.json. `--methods LogitTokenRank` measures this method and the baseline, and puts the rows beside the kept ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from attnchain_evals import Facts, IndirectObjects, Passages, Reviews
from attnchain_evals.bench.model_loading import load
from attnchain_evals.metrics import SRG, EvidenceAP, ExampleMetric, Protocol, SentenceCorrelation, SentenceHit, preset
from attnchain_evals.metrics.presets import TEXT
from studies.real_runs import Summary, Task, carry_out, measure, section, versions

KEPT: Final = "docs/real-text.json"
PAGE: Final = "docs/real-text.md"
BASELINE: Final = "AttnLRP"
LAST_ROW: Final = "MultiBounce(steps=1, maps='attention', layer_weights='mean')"
OURS: Final = (
    "TokenRank",
    "TokenRank(balanced=False)",
    "TokenRank(maps='projection', balanced=False)",
    "TokenRank(maps='norm', balanced=False)",
    "TokenRank(maps='attention', balanced=False)",
    "MultiBounce",
    "Rollout(maps='alti', residual='depth')",
    "LogitTokenRank",
    "GradientTokenRank",
    "GradientTokenRank(balanced=False)",
)
OTHERS: Final = (
    BASELINE,
    "GradELLM",
    "GradientAttention",
    "LeGrad",
    "GMAR",
    "ContributionRollout",
    LAST_ROW,
    "Rollout",
    "RandomRanking",
)
SLOW: Final = ("LeaveOneOut", "IntegratedGradients(n_steps=10)")


def srg(occlusion: str, score: Any) -> ExampleMetric:
    name = "srg" if score == "probability" else "srg log p"
    steps = 10 if occlusion == TEXT["occlusion"] else 5
    return SRG(Protocol(occlusion, "token", steps, score), f"{name}/{occlusion}")


def faithfulness(*occlusions: str) -> list[ExampleMetric]:
    curves = [srg(occlusion, score) for occlusion in occlusions for score in ("probability", "log-probability")]
    return [*curves, *(preset(name, **TEXT) for name in ("comprehensiveness", "sufficiency")), EvidenceAP()]


TASKS: Final[Mapping[str, tuple[str, Callable[..., Any], Task]]] = {
    "facts": (
        "facts.jsonl",
        Facts,
        Task(
            "Facts",
            "Which tokens does the prediction of a fact depend on? The evidence is the subject.",
            (*OURS, *OTHERS, *SLOW),
            faithfulness("attention-mask", "token-delete", "mean-embedding"),
        ),
    ),
    "indirect-objects": (
        "indirect_objects.jsonl",
        IndirectObjects,
        Task(
            "Indirect objects",
            "Which tokens does the prediction of a name depend on? The evidence is the name that was said once.",
            (*OURS, *OTHERS, SLOW[0]),
            faithfulness("attention-mask"),
            limit=200,
        ),
    ),
    "passages": (
        "passages.jsonl",
        Passages,
        Task(
            "Passages",
            "Which words of a passage did an answer come from? The evidence is the answer in the passage.",
            (*OURS, *OTHERS),
            [EvidenceAP("word"), EvidenceAP(), SentenceHit(), SentenceCorrelation(name="sentence-correlation")],
            limit=60,
        ),
    ),
    "answers": (
        "passages.jsonl",
        partial(Passages, explained="answer"),
        Task(
            "Passages: the whole answer",
            "Which words of a passage did an answer come from, over all tokens of the answer?",
            (
                *OURS,
                BASELINE,
                "GradELLM",
                "LeGrad",
                "ContributionRollout",
                LAST_ROW,
                "Rollout",
                "RandomRanking",
            ),
            [EvidenceAP("word"), EvidenceAP(), SentenceHit()],
            limit=60,
        ),
    ),
    "reviews": (
        "movie_reviews.jsonl",
        Reviews,
        Task(
            "Reviews",
            "Which sentences of a review made it positive or negative? The evidence is the rationale.",
            (
                "TokenRank",
                "GradientTokenRank",
                BASELINE,
                LAST_ROW,
                "Rollout",
                "RandomRanking",
            ),
            [EvidenceAP()],
            limit=20,
        ),
    ),
}


NOTES: Final = """## Tokens or words

`evidence-ap` ranks tokens. `evidence-ap/word` ranks words, each by the sum of the scores of its tokens. SmolLM2 cuts
numbers into digits, and names into pieces. The first token of an answer is one such piece.

**By the first token of the answer** GradientTokenRank has the highest AP of tokens. By AP of words, AttnLRP, LogitTokenRank
and GradientTokenRank are nearly equal: the lead of GradientTokenRank lies on other pieces of words that all three find.
TokenRank and MultiBounce, without gradients, are a few hundredths below. By AP of words none of these four methods differs
significantly from AttnLRP. A random order has an AP of words above a third: a word of many tokens has a large sum, and
answers are such words.

**By the whole answer** AttnLRP has the highest AP of tokens and of words. By AP of tokens only GradientTokenRank does not
differ significantly from AttnLRP. By AP of words LogitTokenRank, TokenRank and MultiBounce do not differ significantly
either.

## The first token or the whole answer

Both sections on passages have the same passages, and differ in the target. The evidence is the whole answer. An explanation
of the first token does not find all of this evidence. So most methods find more of it by the whole answer. TokenRank and
GradientTokenRank take one forward for all tokens of the answer. AttnLRP and LogitTokenRank take their passes for each
token.

By the first token all class-specific methods explain its logit. By the whole answer GradientTokenRank, GradELLM and LeGrad,
which take one backward, explain the log-probability of each token. AttnLRP and LogitTokenRank explain the logit of each
token.

## One answer to all reviews

All reviews of the sample are negative, and the model calls each of the first twenty negative. Perhaps it would call any
review negative, so the section on reviews is weak evidence. The last row of attention and AttnLRP have a higher AP of the
rationale than a random order. TokenRank and GradientTokenRank have a little higher AP than a random order.

## What still looks wrong

The authors read the scores of twenty validation prompts. On facts, TokenRank ranks the word that asks ("religion",
"written") above the subject. On indirect objects, it ranks the verb ("give") beside the name. GradientTokenRank gives up to
a fifth of its score to the first word of a prompt ("Then"), because walks end there. In passages, full stops and digits of
other numbers keep some score.

Two of three validation passages with the right first token had a number for an answer. In nearly half of them, the model
wrote another number than the answer. So a passage counts only if the model writes the whole answer. The set of these
passages can depend on the machine, because two next tokens are sometimes nearly equally likely.

Other forms of the prompt of a passage were tried. Without "Answer:" at the start of the reply, the model begins nearly
every reply with "The", and answers hardly any prompt with its first token. With the question before the passage, or without
the chat template, the model answers fewer prompts than in this form.

## What was tried and not kept

These variants were measured on validation prompts.

Contributions:

- the product of contributions through all layers, with the same step everywhere, with steps by depth, or with the
  feed-forward as a self-loop: faithful on facts and names, worse than AttnLRP on passages;
- balanced contributions in that product: worse;
- walks over contributions along the final state, or along the direction of the answer's logit. LogitTokenRank jumps by the
  latter, and walks over ALTI;
- squared contributions; contributions without the token's own.

Evidence (attention times gradient):

- full balancing: good on passages, bad on facts;
- the last third of the layers alone: the best on passages, worse on facts;
- evidence that contributions carry down.

LogitTokenRank:

- jumps by direct effects alone, by their sum with P, or by other powers than one half; damping 0.3 and 0.7; balanced
  chains; effects along the log-odds of the answer, or along its logit less the mean logit; effects rectified by layer or
  not at all; effects weighted to later layers. On passages, none of these is significantly different, or it is worse;
- P of the jumps from the last third of the layers: better by a hundredth or two on passages.

Sentences by the sum of the square roots of the scores: worse for nearly all methods.

One more step: from the tokens that a walk found to the tokens that read them. This step takes the transposed chain without
its diagonal. Its scores are added to those of the walk, or multiplied with them. By the first token of an answer it finds
many more of the answer's words. It is less faithful on facts, because the words after a subject read the subject.

Not yet tried on facts and indirect objects: a walk over contributions whose jumps lead to the evidence of the last row. On
validation passages it found the answer's words better than GradientTokenRank by a hundredth.
"""


def page(found: Mapping[str, Summary]) -> str:
    """Returns the page of the tasks that were measured."""
    sections = "\n".join(section(TASKS[name][2], found[name]) for name in TASKS if name in found)
    return f"""# Real text

Which method finds the tokens that an answer of a language model depends on? This page compares methods on
SmolLM2-135M-Instruct, on facts, names, passages and reviews. `python -m studies.real_text` writes it. Settings were chosen
on the validation prompts. The figures are of the test prompts.

- The **target** is the first token of the right answer. Prompts with another prediction are left out. In the section on the
  whole answer, a method explains every token of the answer after the tokens before it, and the scores are summed
  (`attribute_text(…).seq_attr`).
- **SRG** is the area under the curve of removal in reversed order minus that of removal in order, of the probability and of
  its logarithm. [Evaluation](evaluation.md#presets) defines the other metrics.
- **Figures** are means over prompts [95 % bootstrap interval]. A star marks Holm's p below 0.05 over the methods of a
  metric.

{sections}
{NOTES}
{versions(found.values())}
"""


def measured(options: argparse.Namespace) -> dict[str, Summary]:
    """Measures the tasks, and prints the section of each."""
    loaded = load(f"hf:{options.model}")
    model, found = loaded.model.eval(), dict[str, Summary]()
    for name in options.tasks:
        file, reader, task = TASKS[name]
        task = task.of(options.methods, BASELINE)
        limit = options.limit or task.limit
        data = reader(options.data / file, loaded.reading.tokenizer, model, options.split, limit)
        found[name] = measure(model, data, task, None, options.output / f"{name}-{options.split}", BASELINE, 1, limit)
        print(section(task, found[name]))
    return found


if __name__ == "__main__":
    carry_out(str(__doc__), [*TASKS], measured, KEPT, PAGE, page)
