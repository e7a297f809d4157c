"""Places of results, of every command that has one."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnchain_evals.cli.outputs import PICTURES, check_file, check_folder, is_file, made
from attnchain_interp import AttentionError

from .command_line import commands, refused, run


def test_a_place_that_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_file(tmp_path / "a" / "b.png", PICTURES)
    check_folder(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir()), "a check makes nothing"
    assert made(tmp_path / "a" / "b").is_dir()
    monkeypatch.chdir(tmp_path)
    check_file(Path("x.png"), PICTURES)
    check_folder(Path("new/folder"))


def test_the_name_of_a_folder_may_hold_dots(tmp_path: Path) -> None:
    (tmp_path / "heat.png").mkdir()
    files = ["a.png", "a.PNG", "a.jpg", "a.html", "a.json"]
    assert [name for name in (*files, "vit_base_patch16_224.augreg", "v1.5", "a") if is_file(Path(name))] == files
    assert not is_file(tmp_path / "heat.png")


def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("none")
    (tmp_path / "heat.png").mkdir()
    for name, said in (
        ("heat.png", "is a folder"),
        ("heat.jpg", r"ends in '\.jpg'.*\nEnd the name of the file in \.png, \.pdf, \.svg"),
        ("heat.PNG", r"ends in '\.PNG'"),
        ("heat", "has no ending"),
        ("file/heat.png", r"/file is a file"),
        ("link/heat.png", r"/link is a link to nothing"),
    ):
        with pytest.raises(AttentionError, match=said):
            check_file(tmp_path / name, PICTURES)
    for name in ("file", "file/deep/er"):
        with pytest.raises(AttentionError, match=r"--output needs the folder .*/file is a file"):
            check_folder(tmp_path / name)
        with pytest.raises(AttentionError, match="could not be made"):
            made(tmp_path / name)


def test_every_place_is_named_alike() -> None:
    """By the same options in every command, and in every study."""
    places = {
        name: option.opts
        for name, command in commands().items()
        for option in command.params
        if option.name in ("out", "output", "outputs", "folder") and option.param_type_name == "option"
    }
    assert len(places) >= 12
    assert all(opts == ["--output", "-o"] for opts in places.values()), places
    studies = Path(__file__).parents[3] / "studies"
    assert not [file for file in studies.rglob("*.py") if '"--out"' in file.read_text(encoding="utf-8")]


COMMANDS = [
    (["attribute", "hf:/none", "PHOTO", "--output"], ["heat.jpg", "heat.PNG", "file", "file/x.png"]),
    (["explore", "hf:/none", "PHOTO", "--output"], ["folder", "page.png", "file/x.html"]),
    (["figure", "layers", "hf:/none", "PHOTO", "--output"], ["x.gif", "folder", "file/x.pdf"]),
    (["figure", "bounces", "hf:/none", "PHOTO", "--output"], ["x.jpg", "file/x.gif"]),
    (["figure", "toy", "--output"], ["x.jpg", "folder", "file/x.pdf"]),
    (["segment", "hf:/none", "PHOTO", "--output"], ["file", "file/x"]),
    (["bench", "run", "--model", "hf:/none", "--output"], ["file", "file/x"]),
    (["reproduce", "imagenet-segmentation", "--model", "hf:/none", "--output"], ["file", "file/x"]),
    (["demo", "--output"], ["file", "file/x"]),
]


@pytest.mark.parametrize(("words", "places"), COMMANDS)
def test_a_place_is_checked_before_a_model_is_loaded(
    words: list[str],
    places: list[str],
    tmp_path: Path,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for place in places:
        given = [str(photo) if word == "PHOTO" else word for word in words]
        assert f"{words[-1]} " in refused(monkeypatch, capsys, *given, place, status=2)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder", photo.name}


def test_an_input_is_not_replaced(
    tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, other = photo.read_bytes(), tmp_path / "other.png"
    other.write_bytes(before)
    for words in (["attribute", "bundled", other, photo], ["figure", "layers", "bundled", photo]):
        said = refused(monkeypatch, capsys, *words, "--output", tmp_path / "." / "photo.png", status=2)
        assert "photo.png, which is the input and would be replaced.\nChoose another name." in said
    assert photo.read_bytes() == before


@pytest.mark.parametrize("foreign", ['{"mine": 1}', "[]", "no JSON"])
def test_a_json_of_the_user_is_not_replaced_by_scores(
    foreign: str, tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words, scores = ["attribute", "bundled", photo, "--output", tmp_path / "heat.png"], tmp_path / "heat.json"
    scores.write_text(foreign)
    assert "heat.json, which was not written by this command" in refused(monkeypatch, capsys, *words, status=2)
    assert scores.read_text() == foreign
    scores.unlink()
    for _ in range(2):
        run(*words)
    assert "grid" in scores.read_text(), "scores of this command are replaced"


def test_folders_are_made(tmp_path: Path, photo: Path) -> None:
    run("attribute", "bundled", photo, "--method", "ColumnSum", "--output", tmp_path / "a" / "b" / "heat.png")
    run("explore", "bundled", photo, "--methods", "ColumnSum", "--output", tmp_path / "c" / "d" / "page.html")
    run("figure", "toy", "--output", tmp_path / "e" / "f" / "toy.png")
    assert {path.suffix for path in tmp_path.rglob("*/*") if path.is_file()} == {".html", ".json", ".png"}
