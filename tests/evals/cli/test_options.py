from __future__ import annotations

from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from attnchain_evals.cli.options import check_effect, names_file
from attnchain_interp import AttentionError, AttentionStore

from .command_line import refused

app = typer.Typer()


@app.command()
def command(context: typer.Context, keep_sinks: bool = False, dpi: int = 150) -> None:
    check_effect(context, ("keep_sinks", "dpi"), "on a text", "give an image")


def error(*words: str) -> str:
    found = CliRunner().invoke(app, words).exception
    assert found is None or isinstance(found, AttentionError)
    return str(found)


def test_options_that_are_given_have_an_effect() -> None:
    assert error() == "None"
    assert error("--dpi", "150") == "--dpi has no effect on a text.\nLeave it out, or give an image.", "even at its default"
    both = "--keep-sinks and --dpi have no effect on a text.\nLeave them out, or give an image."
    assert error("--dpi", "90", "--keep-sinks") == both


def test_a_folder_is_no_file(photo: Path, tmp_path: Path) -> None:
    found = [names_file(str(each)) for each in (photo, tmp_path, "a walk", "", "a" * 9999, "\0", "/dev/null")]
    assert found == [True, False, False, False, False, False, True]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "attribute hf:/none text --smooth --keep-sinks",
            "--smooth and --keep-sinks have no effect on a text, and 'text' is no",
        ),
        ("attribute hf:/none text --dpi 99", "--dpi has no effect on a page.\nLeave it out, or write --output NAME.png."),
        ("attribute hf:/none text --dpi 99 -o x.html", "--dpi has no effect on a page"),
        ("attribute hf:/none text --target x --max-new-tokens 3", "--max-new-tokens has no effect with --target"),
        ("attribute hf:/none PHOTO --max-new-tokens 9 --features word", "--features and --max-new-tokens have no effect on /"),
        ("explore hf:/none PHOTO --max-new-tokens 9", "which is no text"),
        ("explore bundled --max-new-tokens 9", "--max-new-tokens has no effect on a test image, which is no text"),
        ("figure bounces hf:/none PHOTO -o x.gif --dpi 99 --keep-sinks", "--dpi and --keep-sinks have no effect on a film"),
        ("segment hf:/none PHOTO --wanted pieces --point 1,1", "--wanted has no effect with --point, --box or --word"),
        ("inspect STORE --maps alti --strong", "--strong and --maps have no effect on /"),
        ("bench ls data --model hf:/none", "--model has no effect on data"),
    ],
)
def test_each_command_refuses_what_would_have_no_effect(
    words: str, said: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a model is loaded."""
    monkeypatch.chdir(tmp_path)
    AttentionStore.from_maps([torch.rand(1, 2, 4, 4).softmax(-1)]).write(tmp_path / "store")
    places = {"PHOTO": str(photo), "STORE": str(tmp_path / "store")}
    assert said in refused(monkeypatch, capsys, *(places.get(word, word) for word in words.split()), status=2)
