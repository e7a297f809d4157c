from pathlib import Path

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.store import stored_format


def test_the_format_of_a_file(tmp_path: Path) -> None:
    ac.AttentionStore.from_maps([torch.eye(2)[None, None]]).write(tmp_path / "a")
    assert stored_format(tmp_path / "a") == stored_format(str(tmp_path / "a")) == 5
    (tmp_path / "b").write_bytes(b"no store")
    with pytest.raises(ac.AttentionError, match="is not a complete safetensors file"):
        stored_format(tmp_path / "b")
