from __future__ import annotations

from pathlib import Path

import pytest

from attnchain_evals.tasks.published_files import contents, published_file
from attnchain_interp import AttentionError

NAMES = ("facts.jsonl", "known_1000.json", "counterfact.json")


def test_the_one_file_of_a_published_name(tmp_path: Path) -> None:
    for name in ("other.txt", "known_1000.json", "mine.json"):
        (tmp_path / name).touch()
    assert published_file(tmp_path, NAMES) == tmp_path / "known_1000.json"
    assert published_file(str(tmp_path / "mine.json"), NAMES) == tmp_path / "mine.json", "a file may have any name"


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AttentionError, match=r"(?s)holds nothing; exactly one of facts\.jsonl, known_1000\.json or counter"):
        published_file(tmp_path, NAMES)
    with pytest.raises(AttentionError, match="there is no file or folder"):
        published_file(tmp_path / "nowhere", NAMES)
    for name in NAMES[:2]:
        (tmp_path / name).touch()
    with pytest.raises(AttentionError, match=r"holds facts\.jsonl, known_1000\.json; exactly one of"):
        published_file(tmp_path, NAMES)


def test_contents_name_folders_and_count_the_rest(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}").mkdir()
    assert contents(tmp_path) == "0/, 1/, 2/, 3/, 4/, 5/, 6/, 7/ and 2 more"
