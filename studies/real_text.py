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

`evidence-ap` ranks tokens. `evidence-ap/word` ranks words, each by the sum of the scores of its tokens. SmolLM2 cuts numbers
into digits, and names into pieces. The first token of an answer is one such piece. GradientTokenRank has the highest AP of
tokens. Among words AttnLRP, LogitTokenRank and GradientTokenRank have nearly the same AP: its lead lies on other pieces of
the words that all three find. TokenRank and MultiBounce, without gradients, are a few hundredths below. No difference of
these from AttnLRP is significant. A random order has an AP of a third and more among words: a word of many tokens has a large
sum, and answers are such words.

By the whole answer AttnLRP has the highest AP of tokens and of words. Among tokens GradientTokenRank alone does not differ
from it significantly; among words LogitTokenRank, TokenRank and MultiBounce do not either.

## The first token or the whole answer

Both sections on passages have the same passages. They differ in the target. The evidence is the whole answer. Its first token
alone does not find all of it. So most methods find more of the evidence by the whole answer. TokenRank and GradientTokenRank
take one forward for all tokens of the answer; AttnLRP and LogitTokenRank take theirs for each token.

All methods explain the logit of a first token. For a whole answer GradientTokenRank, GradELLM and LeGrad, which take one
backward, explain the log-probability of each token; AttnLRP and LogitTokenRank explain its logit.

## Reviews

All reviews of the sample are negative, and the model calls each of the first twenty negative. So this section tells where a
model looks that may give one answer to all. The last row of attention and AttnLRP are on the rationale more than a random
order is; TokenRank and GradientTokenRank are little above it.

## What still looks wrong

Twenty validation prompts were read. On facts, TokenRank puts the word that asks ("religion", "written") above the subject,
and on indirect objects the verb ("give") beside the name. GradientTokenRank gives the first word of a prompt ("Then") up to a
fifth: its walks end there. In passages full stops and digits of other numbers keep some of the mass.

Two of three validation passages whose first token was right had a number for an answer. Nearly half of these numbers went on
as other numbers. So a passage counts only where the model writes the whole answer. Which passages these are can depend on the
machine: two next tokens are sometimes nearly equally likely.

Other forms of their prompt were asked. Without "Answer:" at the start of the reply the model begins nearly every reply with
"The", and hardly a prompt is answered at once. With the question before the passage, or as plain text without a chat
template, fewer are answered than in this form.

## What was tried and not kept

On validation prompts: the product of contributions through all layers, with the same step everywhere, with steps by depth, or
with the feed-forward as a self-loop (faithful on facts and names, worse than AttnLRP on passages); balanced contributions in
that product (worse); full balancing of evidence (good on passages, bad on facts); evidence of the last third of the layers
alone (the best on passages, worse on facts); evidence that is carried down by contributions; walks over contributions along
the final state or along the direction of the answer's logit (LogitTokenRank jumps by the latter, and walks over ALTI);
squared contributions; contributions without the token's own. For LogitTokenRank: jumps by direct effects alone, by their sum
with P or by other powers than one half, damping 0.3 and 0.7, and balanced chains; effects along the log-odds of the answer or
along its logit less the mean logit, rectified by layer or not at all, and weighted to later layers (none is told apart from
it on passages, or worse); P of the jumps from the last third of the layers (better by a hundredth or two on passages).
Sentences by the sum of the square roots of the scores (worse for nearly all).

One step more was tried: from the tokens that a walk found to the tokens that read them. It takes the transposed chain without
its diagonal, and its scores are added to those of the walk, or multiplied with them. By the first token of an answer it finds
many more of the answer's words. It is less faithful on facts: the words after a subject read the subject.

Not yet tried on facts and indirect objects: jumps to the evidence of the last row in a walk over contributions, which found
the words of validation passages better than GradientTokenRank by a hundredth.
"""


def page(found: Mapping[str, Summary]) -> str:
    """Returns the page of the tasks that were measured."""
    sections = "\n".join(section(TASKS[name][2], found[name]) for name in TASKS if name in found)
    return f"""# Real text

By `python -m studies.real_text`, on SmolLM2-135M-Instruct. Settings were chosen on the validation prompts; these are the test
prompts. The target is the first token of the right answer; prompts that the model answers otherwise are left out. Where the
whole answer is meant it is every token of the answer, each after the tokens before it, and the scores are summed
(`attribute_text(…).seq_attr`). SRG is the area under the curve of removal in reversed order minus that of removal in order,
of the probability and of its logarithm. Means over prompts [95 % bootstrap interval]; a star marks Holm's p below 0.05 over
the methods of a metric.

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
