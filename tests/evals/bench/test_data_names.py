from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnchain_evals import COMMON_FACTS, INVENTED_PASSAGES, ClassFolder, ClutteredDigits, Facts, KeyValues, Passages
from attnchain_evals.bench.data_names import check_data, open_data
from attnchain_interp import AttentionError

from ..miniatures import write_classes
from ..published_texts import CONTEXT, FACTS, Says, byte_tokenizer, write_lines

TOKENIZER: Any = byte_tokenizer()


def test_drawn_data() -> None:
    assert isinstance(open_data("digits:test", None, 4, 0), ClutteredDigits)
    texts = open_data("key-values:validation", None, 600, 0)
    assert isinstance(texts, KeyValues)
    assert len(texts) == 600


def test_texts_and_their_splits(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "facts.jsonl", [FACTS[0] | {"known_id": number} for number in range(12)])
    whole = open_data(f"facts:{tmp_path}", None, None, 0, TOKENIZER)
    assert isinstance(whole, Facts)
    sizes = {part: len(open_data(f"facts:{file}:{part}", None, None, 0, TOKENIZER)) for part in ("validation", "test")}
    assert sum(sizes.values()) == len(whole) == 12
    assert sizes["validation"] == 5
    italy = Says(TOKENIZER.encode("I")[0]).eval()
    assert len(open_data(f"facts:{file}", None, 3, 0, TOKENIZER, italy)) == 3
    with pytest.raises(AttentionError, match="the model has no tokenizer"):
        open_data(f"facts:{file}", None, None, 0)
    for kind, wanted in (("indirect-objects", "indirect_objects"), ("passages", "passages"), ("reviews", "movie_reviews")):
        with pytest.raises(AttentionError, match=rf"holds facts\.jsonl; .*{wanted}\.jsonl"):
            open_data(f"{kind}:{tmp_path}", None, None, 0, TOKENIZER)


@pytest.mark.parametrize(
    ("kind", "whole"),
    [("common-facts", Facts(COMMON_FACTS, TOKENIZER)), ("invented-passages", Passages(INVENTED_PASSAGES, TOKENIZER))],
)
def test_bundled_texts(kind: str, whole: Any) -> None:
    parts = [open_data(f"{kind}:{part}", None, None, 0, TOKENIZER) for part in ("validation", "test")]
    assert [part.split for part in parts] == ["validation", "test"]
    assert sum(len(part) for part in parts) == len(whole)
    check_data(f"{kind}:test")


def test_whole_answers_of_bundled_passages() -> None:
    assert open_data("invented-passages-answers:test", None, None, 0, TOKENIZER).explained == "answer"


def test_prompts_of_your_own(tmp_path: Path) -> None:
    own = write_lines(tmp_path / "mine.jsonl", [{"prompt": "Rome is in", "answer": "Italy"}])
    assert len(open_data(f"prompts:{own}", None, None, 0, TOKENIZER)) == 1


def test_passages_explain_the_first_token_or_the_answer(tmp_path: Path) -> None:
    passage = {"id": "a", "context": CONTEXT, "question": "Who built Rome?", "answer": "Romulus", "answer_span": [43, 50]}
    file = write_lines(tmp_path / "passages.jsonl", [passage])
    for kind, explained in (("passages", "first token"), ("passages-answers", "answer")):
        assert open_data(f"{kind}:{file}", None, None, 0, TOKENIZER).explained == explained


def test_images(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "images")
    data = open_data(f"classes:{folder}", lambda _: None, None, 0, classes=["n01484850", "n01440764"])
    assert isinstance(data, ClassFolder)
    assert data.labels == [1, 1, 1, 0, 0, 0]
    with pytest.raises(AttentionError, match="images/val/ and groundTruth/val/ are wanted"):
        open_data(f"bsds500:{folder}:validation", lambda _: None, None, 0)
    with pytest.raises(AttentionError, match="the model takes no images"):
        open_data(f"bsds500:{folder}", None, None, 0)


@pytest.mark.parametrize(
    "name", ["imagenet", "facts:", "digits:all", "passage:x", "common-facts:train", "invented-passages:train"]
)
def test_unknown_names(name: str) -> None:
    with pytest.raises(AttentionError, match="is unknown"):
        open_data(name, None, None, 0)
    with pytest.raises(AttentionError, match="is unknown"):
        check_data(name)


def test_a_path_without_its_kind_is_told(tmp_path: Path) -> None:
    with pytest.raises(AttentionError, match=f"(?s)is a path, and its kind is not named.*Write folder:{tmp_path} for images"):
        check_data(str(tmp_path))


def test_a_path_is_checked_without_a_model(tmp_path: Path) -> None:
    for name in ("digits:test", f"folder:{tmp_path}", f"facts:{tmp_path}:test", f"reviews:{tmp_path}"):
        check_data(name)
    for kind in ("folder:", "classes:", "facts:", "bsds500:"):
        with pytest.raises(AttentionError, match=rf"there is no file or folder {tmp_path}/none\."):
            check_data(f"{kind}{tmp_path}/none")
