"""Prompts whose answer is the name that was said once."""

from __future__ import annotations

from pathlib import Path
from typing import Final, final

from attnchain_evals.tasks.json_records import Record, records
from attnchain_evals.tasks.prompted_texts import PromptedTexts
from attnchain_evals.tasks.prompts import Prompt, occurrences
from attnchain_evals.tasks.published_files import published_file

_WANTED: Final = "a prompt with an indirect object has 'case_id', 'prompt' and 'answer'"


@final
class IndirectObjects(PromptedTexts):
    """Prompts of two people, one of whom gives: "Then, Ella and Inez were working. Inez decided to give a banana to".

    The answer is the other one, and the evidence is the answer's name in the prompt. The file is `indirect_objects.jsonl`.
    All tokens but the last are ranked. See `PromptedTexts` for arguments, splits and errors.

    Source: Wang et al., *Interpretability in the Wild*, ICLR 2023 (arXiv 2211.00593).
    """

    def read(self, path: Path) -> tuple[list[Path], list[Prompt]]:
        file = published_file(path, ("indirect_objects.jsonl",))
        return [file], [_prompt(record) for record in records(file, _WANTED)]


def _prompt(record: Record) -> Prompt:
    text, answer = record.text("prompt").rstrip(), record.text("answer").strip()
    evidence = occurrences(answer, text)
    if not evidence:
        raise record.refusal(f"has the answer {answer!r}, which its prompt {text!r} does not hold")
    return Prompt(str(record.field("case_id", int)), text, answer, evidence)
