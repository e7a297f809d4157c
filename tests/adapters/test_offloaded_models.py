"""Models larger than a device, as people load them: weights on the CPU and on disk that come when a layer runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
import transformers

import attnchain_interp as ac
from attnchain_interp.attribution import IntegratedGradients, LeaveOneOut

SIZES = {"vocab_size": 60, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
IDS = torch.randint(3, 60, (2, 9), generator=torch.Generator().manual_seed(1))
PLACES = {
    "model.embed_tokens": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "disk",
    "model.layers.2": "disk",
    "model.norm": "cpu",
    "model.rotary_emb": "cpu",
    "lm_head": "disk",
}


def plain() -> Any:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, num_key_value_heads=2)).eval()  # type: ignore[arg-type]


def by_device_map(folder: Path) -> Any:
    plain().save_pretrained(folder / "weights")
    kind = transformers.LlamaForCausalLM
    return kind.from_pretrained(folder / "weights", device_map=PLACES, offload_folder=folder / "offloaded").eval()


def to_the_cpu(_: Path) -> Any:
    return accelerate.cpu_offload(plain(), torch.device("cpu"))


def to_disk(folder: Path) -> Any:
    return accelerate.disk_offload(plain(), str(folder), torch.device("cpu"))


@pytest.mark.parametrize("load", [by_device_map, to_the_cpu, to_disk])
def test_offloaded_weights_change_no_number(load: Callable[[Path], Any], tmp_path: Path) -> None:
    model, whole = load(tmp_path), plain()
    assert any(weight.is_meta for weight in model.parameters())
    for keep in ("maps", "factors"):
        assert torch.equal(ac.capture(model, IDS, keep=keep).maps(), ac.capture(whole, IDS, keep=keep).maps())
    assert torch.equal(ac.capture(model, IDS, maps="alti").maps(), ac.capture(whole, IDS, maps="alti").maps())
    for method in (ac.TokenRank, ac.GradientAttention, ac.LeGrad):
        scores = method(model).attribute(IDS, (8, 5), output="tokens")
        assert torch.equal(scores, method(whole).attribute(IDS, (8, 5), output="tokens"))
    for make in (lambda each: IntegratedGradients(each, n_steps=4), lambda each: LeaveOneOut(each, removal="mean-embedding")):
        scores = make(model).attribute(IDS, (8, 5), output="tokens")
        assert torch.equal(scores, make(whole).attribute(IDS, (8, 5), output="tokens"))
    assert ac.prove(model, IDS).holds
    assert any(weight.is_meta for weight in model.parameters())
