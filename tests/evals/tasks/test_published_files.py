from __future__ import annotations

from pathlib import Path

import pytest

from attnchain_evals.tasks.published_files import check_folder, contents, published_file, records, records_of, whole_record
from attnchain_interp import AttentionError

from ..published_texts import write_json, write_lines

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


WANTED = "a line has 'id'"


def test_lines_and_lists_hold_the_same_records(tmp_path: Path) -> None:
    rows = [{"id": 1, "inner": {"name": "x"}}, {"id": 2, "list": [{"deep": 3}]}]
    lines = records(write_lines(tmp_path / "a.jsonl", [rows[0], "", rows[1]]), WANTED)
    listed = records(write_json(tmp_path / "a.json", rows), WANTED)
    assert [record.fields for record in lines] == [record.fields for record in listed] == rows
    assert lines[1].place == "a.jsonl, line 3", "blank lines are counted"
    assert lines[0].part("inner").text("name") == "x"
    assert lines[1].parts("list")[0].field("deep", int) == 3
    assert whole_record(write_json(tmp_path / "b.json", rows[0]), WANTED).field("id", int) == 1


@pytest.mark.parametrize(("name", "text"), [("a.jsonl", '{"id": 1}\n'), ("a.json", '[{"id": 1}]')])
def test_a_file_may_begin_with_a_byte_order_mark(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    (record,) = records(tmp_path / name, WANTED)
    assert record.field("id", int) == 1


def test_broken_records_are_refused_by_their_place(tmp_path: Path) -> None:
    for rows, message in (
        (['{"id": 1}', '{"id": '], r"(?s)a\.jsonl, line 2 is not JSON.*Correct it: a line has 'id'"),
        (["[1]"], "line 1 holds a list, not an object"),
        (["[" * 100_000], r"a\.jsonl, line 1 is not JSON"),
        ([], "holds no record"),
    ):
        with pytest.raises(AttentionError, match=message):
            records(write_lines(tmp_path / "a.jsonl", rows), WANTED)
    (record,) = records_of([{"id": True, "name": " ", "list": [1], "half": "a \ud800"}], "x.json", WANTED)
    for read, message in (
        (
            lambda: record.field("id", int),
            r"x\.json, entry 0 has 'id' of type bool; its fields are 'id', 'name', 'list', 'half'",
        ),
        (lambda: record.field("other", str), "has no 'other'"),
        (lambda: record.text("name"), "has an empty 'name'"),
        (lambda: record.text("half"), r"has '\\ud800' in 'half', which is half of a character"),
        (lambda: record.parts("list"), "x.json, entry 0, 'list' is not a list of objects"),
        (lambda: records(write_json(tmp_path / "b.json", {"id": 1}), WANTED), "b.json is not a list of objects"),
        (lambda: whole_record(write_json(tmp_path / "c.json", []), WANTED), "c.json holds a list, not an object"),
        (lambda: whole_record(write_lines(tmp_path / "d.json", ["{"]), WANTED), "d.json is not JSON"),
        (lambda: records(write_lines(tmp_path / "d.json", ["[" * 100_000]), WANTED), "d.json is not JSON"),
    ):
        with pytest.raises(AttentionError, match=message):
            read()
    (tmp_path / "e.jsonl").write_bytes(b"\xff\xfe")
    (tmp_path / "e.zip").write_bytes(b"\xff\xfe")
    for name in ("e.jsonl", "e.zip"):
        with pytest.raises(AttentionError, match=rf"^\S*{name} cannot be read \(.*\)\.\nPass a file of text in UTF-8\.$"):
            records(tmp_path / name, WANTED)


def test_an_ending_in_capitals_is_one_of_lines(tmp_path: Path) -> None:
    rows = ['{"id": 1}', '{"id": 2}']
    assert [each.field("id", int) for each in records(write_lines(tmp_path / "a.JSONL", rows), WANTED)] == [1, 2]


def test_a_folder_is_told_from_an_archive(tmp_path: Path) -> None:
    check_folder(tmp_path, "Pass the folder.")
    (tmp_path / "a.zip").touch()
    with pytest.raises(
        AttentionError, match=r"a\.zip is a file, not a folder\.\nPass the folder\. An archive must be unpacked first"
    ):
        check_folder(tmp_path / "a.zip", "Pass the folder.")
    with pytest.raises(AttentionError, match=r"there is no folder .*nothing\.\nPass the folder\.$"):
        check_folder(tmp_path / "nothing", "Pass the folder.")
