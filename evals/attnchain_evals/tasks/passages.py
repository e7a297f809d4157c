"""Passages with questions: the formats of SQuAD."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final, final

from attnchain_evals.tasks.prompted_texts import PromptedTexts
from attnchain_evals.tasks.prompts import Prompt
from attnchain_evals.tasks.published_files import Record, is_jsonl, published_file, records, whole_record
from attnchain_interp.attribution import sentences_of

_FILES: Final = ("passages.jsonl", "train-v1.1.json", "dev-v1.1.json", "train-v2.0.json", "dev-v2.0.json")
_WANTED: Final = (
    "a line has 'id', 'context', 'question', 'answer' and 'answer_span'; SQuAD's own file has 'data', 'paragraphs', 'qas' and"
    " 'answers'"
)


@final
class Passages(PromptedTexts):
    """Passages with a question whose answer stands in the passage. The evidence is the answer's characters.

    The file is `passages.jsonl`, or SQuAD's own JSON of version 1.1 or 2.0. A question of several annotated answers has the
    first. Questions that SQuAD marks as impossible have no answer, and are not examples. The tokens of the passage are ranked.
    The reply begins with "Answer:". The model may go on with a few words of its own, "The colour of the door is", which belong
    to the prompt then (`own_words`). It must write the whole answer: many tokenizers cut numbers into digits, and a model that
    writes the first digit of the right year often goes on with another year. Questions about one passage are in one part of
    the data. See `PromptedTexts` for arguments, splits and errors.

    Source: Rajpurkar et al., *SQuAD*, EMNLP 2016; version 2.0: Rajpurkar, Jia & Liang, ACL 2018.
    """

    whole: ClassVar[bool] = True
    usual_own_words: ClassVar[int] = 16

    def read(self, path: Path) -> tuple[list[Path], list[Prompt]]:
        file = published_file(path, _FILES)
        return [file], list(_of_lines(file) if is_jsonl(file) else _of_squad(file))


def _of_lines(file: Path) -> Iterator[Prompt]:
    for record in records(file, _WANTED):
        span = record.field("answer_span", list)
        if len(span) != 2 or not all(type(place) is int for place in span):
            raise record.refusal(f"has the answer_span {span}, which is not the first and the last character")
        yield _prompt(record, record.text("context"), record.text("answer"), span[0])


def _of_squad(file: Path) -> Iterator[Prompt]:
    for article in whole_record(file, _WANTED).parts("data"):
        for paragraph in article.parts("paragraphs"):
            for question in paragraph.parts("qas"):
                if not question.fields.get("is_impossible"):
                    answer = next(iter(question.parts("answers")), None)
                    if answer is None:
                        raise question.refusal("has no answer")
                    yield _prompt(question, paragraph.text("context"), answer.text("text"), answer.field("answer_start", int))


def _prompt(record: Record, context: str, answer: str, start: int) -> Prompt:
    end = start + len(answer)
    if start < 0 or context[start:end] != answer:
        raise record.refusal(f"has the answer {answer!r}, and its passage has {context[max(start, 0) : end]!r} there")
    return Prompt(
        record.text("id"),
        context,
        answer.strip(),
        ((start, end),),
        sentences_of(context),
        f"\n\nQuestion: {record.text('question').strip()}\nAnswer with a few words from the passage.",
        "Answer:",
        chat=True,
        group=context,
    )
