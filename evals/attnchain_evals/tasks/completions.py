"""Prompts that one answer completes: a fact about a subject, in the formats of ROME, or the name that was said once."""

from __future__ import annotations

from pathlib import Path
from typing import Final, final

from attnchain_evals.tasks.prompted_texts import PromptedTexts
from attnchain_evals.tasks.prompts import Prompt, Span, occurrences
from attnchain_evals.tasks.published_files import Record, published_file, records

_FACTS: Final = ("facts.jsonl", "known_1000.json", "counterfact.json")
_FACT: Final = (
    "a fact has 'known_id', 'subject', 'attribute' and 'prompt', or 'case_id' and 'requested_rewrite' as in CounterFact"
)
_OWN: Final = "a prompt has 'prompt' and 'answer', and perhaps 'evidence': a part of the prompt, or a list of parts"
_OBJECT: Final = "a prompt with an indirect object has 'case_id', 'prompt' and 'answer'"


@final
class Facts(PromptedTexts):
    """Prompts that a fact goes on: "Vinson Massif is located in the continent of". The evidence is the subject.

    The file is `facts.jsonl`, ROME's `known_1000.json`, or its `counterfact.json`, whose prompt is that of the requested
    rewrite and whose answer is the true one. All tokens but the last are ranked. See `PromptedTexts` for arguments, splits
    and errors.

    Source: Meng et al., *Locating and Editing Factual Associations in GPT*, NeurIPS 2022.
    """

    def read(self, path: Path) -> tuple[list[Path], list[Prompt]]:
        file = published_file(path, _FACTS)
        return [file], [_fact(record) for record in records(file, _FACT)]


@final
class IndirectObjects(PromptedTexts):
    """Prompts of two people, one of whom gives: "Then, Ella and Inez were working. Inez decided to give a banana to".

    The answer is the other one, and the evidence is the answer's name in the prompt. The file is `indirect_objects.jsonl`.
    All tokens but the last are ranked. See `PromptedTexts` for arguments, splits and errors.

    Source: Wang et al., *Interpretability in the Wild*, ICLR 2023 (arXiv 2211.00593).
    """

    def read(self, path: Path) -> tuple[list[Path], list[Prompt]]:
        file = published_file(path, ("indirect_objects.jsonl",))
        return [file], [_giving(record) for record in records(file, _OBJECT)]


@final
class Prompts(PromptedTexts):
    """Prompts of your own, each with the answer that the model should go on with.

    The file is `.jsonl`, an object on each line, or `.json`, a list of objects: {"prompt": "The capital of France is",
    "answer": "Paris", "evidence": "France"}. The evidence may be a list of parts of the prompt, or absent. Other fields are
    left alone. All tokens but the last are ranked. The prompt decides about its split. See `PromptedTexts` for arguments,
    splits and errors.
    """

    def read(self, path: Path) -> tuple[list[Path], list[Prompt]]:
        file = published_file(path, ("prompts.jsonl", "prompts.json"))
        return [file], [_own(number, record) for number, record in enumerate(records(file, _OWN))]


def _own(number: int, record: Record) -> Prompt:
    text, answer = record.text("prompt").rstrip(), record.text("answer").strip()
    parts = record.fields.get("evidence")
    parts = [parts] if isinstance(parts, str) else record.field("evidence", list) if parts else []
    if odd := [part for part in parts if not isinstance(part, str) or not part.strip()]:
        raise record.refusal(f"has the evidence {odd[0]!r}, which is no part of a text")
    spans = tuple(span for part in parts for span in _evidence(record, "evidence", part.strip(), text))
    return Prompt(str(number), text, answer, spans, group=text)


def _fact(record: Record) -> Prompt:
    if "requested_rewrite" in record.fields:
        rewrite, name = record.part("requested_rewrite"), record.field("case_id", int)
        subject, answer = rewrite.text("subject"), rewrite.part("target_true").text("str")
        text = rewrite.text("prompt").replace("{}", subject)
    else:
        name, subject, answer = record.field("known_id", int), record.text("subject"), record.text("attribute")
        text = record.text("prompt")
    return Prompt(str(name), text.rstrip(), answer.strip(), _evidence(record, "subject", subject, text))


def _giving(record: Record) -> Prompt:
    text, answer = record.text("prompt").rstrip(), record.text("answer").strip()
    evidence = _evidence(record, "answer", answer, text)
    return Prompt(str(record.field("case_id", int)), text, answer, evidence)


def _evidence(record: Record, what: str, words: str, text: str) -> tuple[Span, ...]:
    found = occurrences(words, text)
    if not found:
        raise record.refusal(f"has the {what} {words!r}, which its prompt {text!r} does not hold")
    return found
