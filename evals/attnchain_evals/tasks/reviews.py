"""Reviews with the rationales of people: the formats of ERASER."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, final

from attnchain_evals.tasks.prompted_texts import PromptedTexts
from attnchain_evals.tasks.prompts import Prompt
from attnchain_evals.tasks.published_files import Record, contents, published_file, records, records_of, text_of
from attnchain_interp import AttentionError
from attnchain_interp.attribution import sentences_of

_WANTED: Final = (
    "a line has 'id', 'label', 'tokens' and 'evidence'; ERASER's own has 'annotation_id', 'classification' and 'evidences'"
)
_ANSWERS: Final = {"POS": "positive", "NEG": "negative"}
_PARTS: Final = {"validation": ("val.jsonl",), "test": ("test.jsonl",), None: ("train.jsonl", "val.jsonl", "test.jsonl")}


@final
class Reviews(PromptedTexts):
    """Film reviews with their label, and the words that people gave as the rationale, which are the evidence.

    The path is a file `movie_reviews.jsonl`, or ERASER's own folder: `docs/`, with the words of a review, and `train.jsonl`,
    `val.jsonl` and `test.jsonl`. The folder has the published splits. The model is asked for "positive" or
    "negative". The tokens of the review are ranked. See `PromptedTexts` for arguments and errors.

    A rationale without a word, of which the published file has some, is none.

    Source: DeYoung et al., *ERASER*, ACL 2020.
    """

    def read(self, path: Path) -> tuple[list[Path], list[Prompt]]:
        if not path.is_dir() or (path / "movie_reviews.jsonl").is_file():
            file = published_file(path, ("movie_reviews.jsonl",))
            return [file], [_of_line(record) for record in records(file, _WANTED)]
        found = [path / name for name in _PARTS[self.split] if (path / name).is_file()]
        if not (path / "docs").is_dir() or not found:
            wanted = " or ".join(_PARTS[self.split])
            raise AttentionError(
                f"{path} holds {contents(path)}; movie_reviews.jsonl, or docs/ and {wanted}, are wanted.",
                "Pass the folder of ERASER's movies, or the file.",
            )
        return found, [prompt for file in found for prompt in _of_eraser(file, path / "docs")]

    def in_split(self, prompt: Prompt, path: Path) -> bool:
        return (path / "docs").is_dir() or super().in_split(prompt, path)


def _of_line(record: Record) -> Prompt:
    words = [str(word) for word in record.field("tokens", list)]
    return _prompt(record, record.text("id"), record.text("label"), [words], record.field("evidence", list))


def _of_eraser(file: Path, docs: Path) -> Iterator[Prompt]:
    for record in records(file, _WANTED):
        name = record.text("annotation_id")
        if not (docs / name).is_file():
            raise record.refusal(f"has the annotation_id {name!r}, and {docs} holds no such file")
        lines = [line.split() for line in text_of(docs / name).removesuffix("\n").split("\n")]
        groups = record.field("evidences", list)
        pieces = [piece for group in groups for piece in records_of(group, f"{record.place}, 'evidences'", _WANTED)]
        if foreign := [own for piece in pieces if (own := piece.fields.get("docid", name)) != name]:
            raise record.refusal(f"has a rationale in another document, {foreign[0]!r}")
        spans = [(piece.field("start_token", int), piece.field("end_token", int)) for piece in pieces]
        yield _prompt(record, name, record.text("classification"), lines, spans)


def _prompt(record: Record, name: str, label: str, lines: list[list[str]], spans: list[Any]) -> Prompt:
    if label not in _ANSWERS:
        raise record.refusal(f"has the label {label!r}, not {' or '.join(_ANSWERS)}")
    text = "\n".join(" ".join(line) for line in lines if line)
    if not text.strip():
        raise record.refusal("has no word")
    words = [word for line in lines for word in line]
    starts = [0, *accumulate(len(word) + 1 for word in words)]  # one character stands behind each word, also an empty one
    for span in spans:
        pair = isinstance(span, list | tuple) and len(span) == 2 and all(type(place) is int for place in span)
        if not pair or not 0 <= span[0] <= span[1] <= len(words):
            raise record.refusal(f"has the rationale {span}, and {len(words)} words")
    places = [(starts[first], starts[behind] - 1) for first, behind in spans if first < behind]
    evidence = tuple((first, behind) for first, behind in places if text[first:behind].strip())
    question = "\n\nIs this review positive or negative? Answer with one word."
    return Prompt(name, text, _ANSWERS[label], evidence, sentences_of(text), question, "Answer:", chat=True)
