"""Models over two processes: fully sharded ones are read as the plain one; the maps of half of the heads never come."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import attnchain_interp as ac
from attnchain_interp.capture import uncompiled
from attnchain_interp.capture.shards import check_holds_weights, check_whole_layers

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("two")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    torchrun += ["--rdzv-endpoint", "localhost:0", str(Path(__file__).with_name("two_processes.py")), str(folder)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "adapters"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(  # noqa: S603
        torchrun, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("way", ["by_fully_shard", "by_fsdp"])
def test_a_fully_sharded_model_is_read_as_the_plain_one(ranks: list[dict[str, Any]], way: str) -> None:
    for found in ranks:
        for asked in ("maps", "scores"):
            assert torch.equal(torch.tensor(found[way][asked]), torch.tensor(found["plain"][asked]))
        assert "is fully sharded (FSDP), so a layer's weights are gone" in found[way]["contributions"]


@pytest.mark.parametrize("way", ["by_parallelize", "by_tp_plan", "by_both"])
def test_a_model_whose_heads_are_split_is_refused(ranks: list[dict[str, Any]], way: str) -> None:
    for found in ranks:
        assert torch.tensor(found["plain"]["maps"]).shape == (1, 2, 4, 9, 9)
        for answer in found[way].values():
            assert "is split among processes" in answer
            assert 'from_pretrained(…, device_map="auto")' in answer


@pytest.mark.parametrize(("name", "value"), [("_tp_size", 2), ("_parallel_config", object())])
def test_models_that_say_that_they_are_split(name: str, value: Any) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    check_whole_layers(model)
    check_holds_weights(model)
    setattr(model[0], name, value)
    with pytest.raises(ac.AttentionError, match="0 is split among processes"):
        uncompiled(model)
    setattr(model[0], name, None)
    assert uncompiled(model) is model
