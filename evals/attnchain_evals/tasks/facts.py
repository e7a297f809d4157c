"""Prompts whose answer is a fact about a subject: the formats of ROME."""

from __future__ import annotations

from pathlib import Path
from typing import Final, final

from attnchain_evals.tasks.json_records import Record, records
from attnchain_evals.tasks.prompted_texts import PromptedTexts
from attnchain_evals.tasks.prompts import Prompt, occurrences
from attnchain_evals.tasks.published_files import published_file

_FILES: Final = ("facts.jsonl", "known_1000.json", "counterfact.json")
_WANTED: Final = (
    "a fact has 'known_id', 'subject', 'attribute' and 'prompt', or 'case_id' and 'requested_rewrite' as in CounterFact"
)


@final
class Facts(PromptedTexts):
    """Prompts that a fact goes on: "Vinson Massif is located in the continent of". The evidence is the subject.

    The file is `facts.jsonl`, ROME's `known_1000.json`, or its `counterfact.json`, whose prompt is that of the requested
    rewrite and whose answer is the true one. All tokens but the last are ranked. See `PromptedTexts` for arguments, splits
    and errors.

    Source: Meng et al., *Locating and Editing Factual Associations in GPT*, NeurIPS 2022.
    """

    def read(self, path: Path) -> tuple[list[Path], list[Prompt]]:
        file = published_file(path, _FILES)
        return [file], [_prompt(record) for record in records(file, _WANTED)]


def _prompt(record: Record) -> Prompt:
    if "requested_rewrite" in record.fields:
        rewrite, name = record.part("requested_rewrite"), record.field("case_id", int)
        subject, answer = rewrite.text("subject"), rewrite.part("target_true").text("str")
        text = rewrite.text("prompt").replace("{}", subject)
    else:
        name, subject, answer = record.field("known_id", int), record.text("subject"), record.text("attribute")
        text = record.text("prompt")
    evidence = occurrences(subject, text)
    if not evidence:
        raise record.refusal(f"has the subject {subject!r}, which its prompt {text!r} does not hold")
    return Prompt(str(name), text.rstrip(), answer.strip(), evidence)
