"""Writes the results in README.md from the kept figures of real models: `python -m studies.real_results`.

It measures nothing. docs/real-text.json and docs/real-vision.json hold the figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Final

from attnchain_evals.bench.tables import figure, table
from studies import real_text, real_vision
from studies.real_runs import Summary
from studies.report_pages import between, kept, write

BEGIN, END = "<!-- results: python -m studies.real_results -->\n", "<!-- end of results -->"
Columns = Mapping[str, tuple[str, str]]  # title → task and metric

TEXTS: Final[Columns] = {
    "facts: SRG of log p ↑": ("common-facts", "srg log p/attention-mask"),
    "facts: SRG of p ↑": ("common-facts", "srg/attention-mask"),
    "first token: AP of tokens ↑": ("invented-passages", "evidence-ap"),
    "first token: AP of words ↑": ("invented-passages", "evidence-ap/word"),
    "first token: sentence ↑": ("invented-passages", "sentence-hit"),
    "whole answer: AP of words ↑": ("invented-answers", "evidence-ap/word"),
    "whole answer: sentence ↑": ("invented-answers", "sentence-hit"),
}
BY_DEPTH: Final = "Rollout(maps='alti', residual='depth')"
CONTRIBUTIONS: Final = "Rollout(maps='alti')"
PHOTOGRAPHS: Final[Columns] = {
    "mean IoU ↑": ("objects", "miou"),
    "AP ↑": ("objects", "map"),
}
LOOKERS: Final = (
    "MultiBounce",
    "TokenRank",
    "MultiBounce(layers='all', balanced=False)",
    "TokenRank(layers='all', balanced=False)",
    "Rollout",
    "ColumnSum(layers='all')",
    "feature component",
    "centre prior",
    "RandomRanking",
)
NAMES: Final = {
    real_text.LAST_ROW: "the last row of attention",
    BY_DEPTH: "Rollout of contributions, by depth",
    CONTRIBUTIONS: "Rollout of contributions",
    "MultiBounce(layers='all', balanced=False)": "MultiBounce as published",
    "TokenRank(layers='all', balanced=False)": "TokenRank as published",
    "ColumnSum(layers='all')": "ColumnSum",
}


def results(texts: Mapping[str, Summary], photographs: Mapping[str, Summary]) -> str:
    """Returns the part of README.md between its two markers."""
    facts, passages, answers = (texts[name] for name in ("common-facts", "invented-passages", "invented-answers"))
    objects = photographs["objects"]
    return (
        f"**SmolLM2-135M-Instruct**, on test prompts that it answers: {facts['examples']} common facts, and questions about"
        f" invented passages. A method\nexplains the first token of the answer ({passages['examples']} questions) or the whole"
        f" answer ({answers['examples']}). AP is that of the answer's tokens or words among\nthose of the passage:\n\n"
        f"{_table(real_text.CHIEF, TEXTS, texts)}\n\n"
        f"**DINOv2-small**, on the objects of {objects['examples']} test photographs of ECSSD:\n\n"
        f"{_table(LOOKERS, PHOTOGRAPHS, photographs)}\n"
    )


def pages(texts: Mapping[str, Summary], photographs: Mapping[str, Summary]) -> dict[str, str]:
    """Returns path → text of every page that is made of the figures."""
    return {"README.md": between("README.md", BEGIN, END, results(texts, photographs))}


def _table(methods: tuple[str, ...], columns: Columns, found: Mapping[str, Summary]) -> str:
    def cell(method: str, task: str, metric: str) -> str:
        scores: Any = found[task]["scores"]
        return figure(scores[method][metric])

    rows = [[NAMES.get(method, method), *(cell(method, *column) for column in columns.values())] for method in methods]
    return table(["method", *columns], rows)


def main() -> None:
    write(pages(kept(real_text.KEPT), kept(real_vision.KEPT)))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
