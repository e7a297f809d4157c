"""`attnchain inspect` of a file; models are inspected in test_app.py."""

from pathlib import Path

import pytest
import torch

from attnchain_interp import AttentionStore

from .command_line import refused, run


def test_a_file_is_shown_and_its_checksum_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.safetensors"
    maps = torch.rand(1, 2, 4, 4).softmax(-1)
    AttentionStore.from_maps([maps, maps.flip(1)]).write(path)
    shown = run("inspect", path)
    assert "The tensors have the checksum of the file." in shown
    assert "layer.1" in shown
    contents = path.read_bytes()
    size = 4 * maps.numel()
    first = len(contents) - 2 * size - 4
    path.write_bytes(
        contents[:first]
        + contents[first + size : first + 2 * size]
        + contents[first : first + size]
        + contents[first + 2 * size :]
    )
    assert "its checksum differs" in refused(monkeypatch, capsys, "inspect", path)
    path.write_bytes(b"nothing")
    assert "not a complete safetensors file" in refused(monkeypatch, capsys, "inspect", path)
