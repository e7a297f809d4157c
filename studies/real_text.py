"""Methods on prompts of a really trained decoder: `python -m studies.real_text WEIGHTS DATA`.

`attnchain fetch smollm2 -o FOLDER` fetches the weights. DATA holds facts.jsonl, indirect_objects.jsonl, passages.jsonl and
movie_reviews.jsonl, or the published files. Settings are chosen with `--split validation`; docs/real-text.md reports the test
prompts. A killed run continues where it stopped; `torchrun --nproc-per-node 2 -m studies.real_text …` shares it between
processes. It needs jinja2 ≥ 3.1.6 for the chat template. With `--page` nothing is measured: the page is made of
docs/real-text.json and of the notes in studies/real_text.md. `--methods LogitTokenRank` measures this method and the
baseline, and puts the rows beside the kept ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from attnchain_evals import COMMON_FACTS, INVENTED_PASSAGES, Facts, IndirectObjects, Passages, Reviews
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
OTHERS: Final = (BASELINE, "GradELLM", "LeGrad", "Rollout(maps='alti')", LAST_ROW, "Rollout", "RandomRanking")
FURTHER: Final = ("GradientAttention", "GMAR")
CHIEF: Final = (
    "TokenRank",
    "MultiBounce",
    "Rollout(maps='alti', residual='depth')",
    "LogitTokenRank",
    "GradientTokenRank",
    *OTHERS,
)
"""The methods of README's table."""
SLOW: Final = ("LeaveOneOut", "IntegratedGradients(n_steps=10)")
FIRST_TOKEN: Final = [
    EvidenceAP("word"),
    EvidenceAP(),
    SentenceHit(),
    SentenceCorrelation(name="sentence-correlation"),
]
WHOLE_ANSWER: Final = [EvidenceAP("word"), EvidenceAP(), SentenceHit()]


def srg(occlusion: str, score: Any) -> ExampleMetric:
    name = "srg" if score == "probability" else "srg log p"
    steps = 10 if occlusion == TEXT["occlusion"] else 5
    return SRG(Protocol(occlusion, "token", fractions=steps, score=score), f"{name}/{occlusion}")


def faithfulness(*occlusions: str) -> list[ExampleMetric]:
    curves = [srg(occlusion, score) for occlusion in occlusions for score in ("probability", "log-probability")]
    return [*curves, *(preset(name, **TEXT) for name in ("comprehensiveness", "sufficiency")), EvidenceAP()]


TASKS: Final[Mapping[str, tuple[str | Path, Callable[..., Any], Task]]] = {
    "facts": (
        "facts.jsonl",
        Facts,
        Task(
            "Facts",
            "Which tokens does the prediction of a fact depend on? The evidence is the subject.",
            (*OURS, *OTHERS, *FURTHER, *SLOW),
            faithfulness("attention-mask", "token-delete", "mean-embedding"),
        ),
    ),
    "common-facts": (
        COMMON_FACTS,
        Facts,
        Task(
            "Common facts",
            "The same question about the facts that come with the library (`COMMON_FACTS`). No setting was chosen on them.",
            (*OURS, *OTHERS, *FURTHER, SLOW[0]),
            faithfulness("attention-mask", "token-delete", "mean-embedding"),
        ),
    ),
    "indirect-objects": (
        "indirect_objects.jsonl",
        IndirectObjects,
        Task(
            "Indirect objects",
            "Which tokens does the prediction of a name depend on? The evidence is the name that was said once.",
            (*OURS, *OTHERS, *FURTHER, SLOW[0]),
            faithfulness("attention-mask"),
            limit=200,
        ),
    ),
    "passages": (
        "passages.jsonl",
        partial(Passages, own_words=0),
        Task(
            "Passages",
            "Which words of a passage did an answer come from? The evidence is the answer in the passage. The model begins its"
            " reply with the answer.",
            (*OURS, *OTHERS, *FURTHER),
            FIRST_TOKEN,
            limit=60,
        ),
    ),
    "answers": (
        "passages.jsonl",
        partial(Passages, explained="answer", own_words=0),
        Task(
            "Passages: the whole answer",
            "Which words of a passage did an answer come from, over all tokens of the answer?",
            (*OURS, *OTHERS),
            WHOLE_ANSWER,
            limit=60,
        ),
    ),
    "invented-passages": (
        INVENTED_PASSAGES,
        Passages,
        Task(
            "Invented passages",
            "The same question about the passages that come with the library (`INVENTED_PASSAGES`). No setting was chosen on"
            " them. The model may write up to 16 tokens of its own before the answer.",
            CHIEF,
            FIRST_TOKEN,
        ),
    ),
    "invented-answers": (
        INVENTED_PASSAGES,
        partial(Passages, explained="answer"),
        Task(
            "Invented passages: the whole answer",
            "The same, over all tokens of the answer.",
            CHIEF,
            WHOLE_ANSWER,
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


NOTES: Final = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")


def page(found: Mapping[str, Summary]) -> str:
    """Returns the page of the tasks that were measured."""
    sections = "\n".join(section(TASKS[name][2], found[name]) for name in TASKS if name in found)
    return f"""# Real text

Which method finds the tokens that an answer of a language model depends on? This page compares methods on
SmolLM2-135M-Instruct, on facts, names, passages and reviews. `python -m studies.real_text` writes it. Settings were chosen
on the validation prompts. The figures are of the test prompts. The model runs in bfloat16, the type of its published weights.

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
        data = reader(options.data / file, loaded.reading.tokenizer, model, options.split, limit=limit)
        found[name] = measure(model, data, task, None, options.output / f"{name}-{options.split}", BASELINE, 1, limit)
        print(section(task, found[name]))
    return found


if __name__ == "__main__":
    carry_out(str(__doc__), [*TASKS], measured, KEPT, PAGE, page)
