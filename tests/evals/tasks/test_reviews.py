from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnchain_evals import Reviews
from attnchain_interp import AttentionError

from ..published_texts import byte_tokenizer, text_of, write_lines

TOKENIZER = byte_tokenizer()
TOKENS = ["the", "film", "is", "long", ".", "i", "loved", "it", "!"]
LINE = {"id": "posR_1.txt", "label": "POS", "tokens": TOKENS, "evidence": [[5, 7], [3, 3]]}


@pytest.fixture
def eraser(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "posR_1.txt").write_text("the film is long .\ni loved it !\n")
    piece = {"docid": "posR_1.txt", "start_token": 5, "end_token": 7, "text": "i loved"}
    row: dict[str, Any] = {"annotation_id": "posR_1.txt", "classification": "POS", "evidences": [[piece]]}
    for name in ("val", "test"):
        write_lines(tmp_path / f"{name}.jsonl", [row])
    return tmp_path


def test_both_formats(tmp_path: Path, eraser: Path) -> None:
    lines = Reviews(write_lines(tmp_path / "mine.jsonl", [LINE]), TOKENIZER)
    own = Reviews(eraser, TOKENIZER, split="validation")
    for data in (lines, own):
        (passage,) = data
        assert passage.evidence is not None
        assert passage.sentences is not None
        assert text_of(TOKENIZER, passage.input_ids, passage.evidence) == "i loved"
        second = text_of(TOKENIZER, passage.input_ids, passage.sentences == 1)
        assert second == "i loved it !"
        assert data.prompts[0].answer == "positive"
    assert len(Reviews(eraser, TOKENIZER)) == 2, "of ERASER's folder, the splits are the published ones"
    assert [file.name for file in own.files] == ["val.jsonl"]


@pytest.mark.parametrize("odd", ["", " ", "10\u00a0km", "two words"])
def test_rationales_stay_where_they_are_beside_odd_tokens(odd: str, tmp_path: Path) -> None:
    tokens = [odd, *TOKENS[:5], odd, *TOKENS[5:]]
    spans = [[7, 9], [0, 1]]
    (prompt,) = Reviews(write_lines(tmp_path / "a.jsonl", [LINE | {"tokens": tokens, "evidence": spans}]), TOKENIZER).prompts
    found = [prompt.text[first:behind] for first, behind in prompt.evidence]
    assert found == (["i loved", odd] if odd.strip() else ["i loved"])


def test_what_is_refused(tmp_path: Path, eraser: Path) -> None:
    for change, message in (
        ({"label": "GOOD"}, r"a\.jsonl, line 1 has the label 'GOOD', not POS or NEG"),
        ({"tokens": []}, "line 1 has no word"),
        ({"tokens": ["", " "]}, "line 1 has no word"),
        ({"evidence": [[5, 10]]}, r"has the rationale \[5, 10\], and 9 words"),
        ({"evidence": [7]}, "has the rationale 7"),
    ):
        with pytest.raises(AttentionError, match=message):
            Reviews(write_lines(tmp_path / "a.jsonl", [LINE | change]), TOKENIZER)
    lines = (eraser / "test.jsonl").read_text()
    (eraser / "test.jsonl").write_text(lines.replace('"docid": "posR_1', '"docid": "posR_2'))
    with pytest.raises(AttentionError, match=r"test\.jsonl, line 1 has a rationale in another document, 'posR_2\.txt'"):
        Reviews(eraser, TOKENIZER, split="test")
    (eraser / "test.jsonl").write_text(lines)
    (eraser / "docs" / "posR_1.txt").write_bytes("café".encode("cp1252"))
    with pytest.raises(AttentionError, match=r"posR_1\.txt cannot be read .*\nPass a file of text in UTF-8"):
        Reviews(eraser, TOKENIZER, split="test")
    (eraser / "docs" / "posR_1.txt").unlink()
    with pytest.raises(AttentionError, match=r"test\.jsonl, line 1 has the annotation_id 'posR_1\.txt', and .* no such file"):
        Reviews(eraser, TOKENIZER, split="test")
    (eraser / "docs").rmdir()
    with pytest.raises(AttentionError, match=r"holds .*val\.jsonl; movie_reviews\.jsonl, or docs/ and train\.jsonl or"):
        Reviews(eraser, TOKENIZER)
