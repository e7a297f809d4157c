"""What a user passes: modules, compiled, scripted, in copies; bound methods."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers.patch_dropout import PatchDropout
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

import attnchain_interp as ac
from attnchain_interp.capture import check_settled, uncompiled
from attnchain_interp.capture.source import check_holds_weights, forward_of, module_of


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)

    def features(self, images: Tensor) -> Tensor:
        return self.part(images)


def test_a_compiled_model_is_unwrapped(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with caplog.at_level(logging.WARNING, "attnchain_interp"):
        assert uncompiled(torch.compile(model)) is model
    assert "Sequential is compiled" in caplog.text
    model[0].compile()
    assert uncompiled(model) is model


def test_the_module_and_the_signature_of_a_method() -> None:
    model = Model()
    assert module_of(model) is module_of(model.features) is model
    assert forward_of(model) is Model.forward
    assert forward_of(model.features) is Model.features
    assert uncompiled(model.features) == model.features


@pytest.mark.parametrize("source", [len, "text", lambda x: x, [].append, partial(len)])
def test_other_sources_have_neither(source: Any) -> None:
    assert module_of(source) is None
    assert forward_of(source) is None
    assert uncompiled(source) is source


@pytest.mark.parametrize("make", [torch.jit.script, partial(torch.jit.trace, example_inputs=torch.rand(1, 2))])
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
def test_scripted_and_traced_modules_are_refused(make: Any) -> None:
    scripted = make(Model().eval())
    for given in (scripted, nn.Sequential(scripted)):
        with pytest.raises(ac.AttentionError, match=r"(?s)is scripted or traced .*clip.load\(name, jit=False\)"):
            ac.capture(given, torch.rand(1, 2))
    with pytest.raises(ac.AttentionError, match="is scripted or traced"):
        ac.TokenRank(scripted).attribute(torch.rand(1, 2))
    assert forward_of(scripted) is None


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
def test_methods_of_scripted_modules_are_refused_and_scripted_transforms_are_not() -> None:
    method = torch.jit.script(Model()).forward
    with pytest.raises(ac.AttentionError, match="is scripted or traced"):
        uncompiled(method)
    transform = nn.Sequential(torch.jit.script(nn.ReLU()), nn.Linear(2, 2))
    assert uncompiled(transform) is transform


def test_copies_are_refused() -> None:
    with pytest.raises(ac.AttentionError, match=r"(?s)DataParallel is an nn.DataParallel.*capture\(model.module, …\)"):
        uncompiled(nn.DataParallel(Model()))
    outer = Model()
    outer.part = nn.DataParallel(outer.part)  # type: ignore[assignment]
    with pytest.raises(ac.AttentionError, match=r"(?s)part is an nn.DataParallel.*model.part = model.part.module"):
        uncompiled(outer)


def test_train_mode_is_refused_where_a_forward_is_random_or_changes_the_model() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5))
    check_settled(model.eval())
    with pytest.raises(ac.AttentionError, match=r"(?s)train mode with dropout \(2.p = 0.5\).*model.eval\(\)"):
        check_settled(model.train())
    model[2].eval()
    with pytest.raises(ac.AttentionError, match=r"(?s)train mode with a norm \(1, BatchNorm1d\).*model.eval\(\)"):
        check_settled(model)
    check_settled(nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False), nn.InstanceNorm1d(2), nn.Dropout(0.0)))


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (spectral_norm(nn.Linear(2, 2)), r"a norm \(parametrizations.weight.0, _SpectralNorm\)"),
        (nn.utils.spectral_norm(nn.Linear(2, 2)), r"a norm \(Linear, SpectralNorm\)"),
        (nn.Sequential(nn.InstanceNorm1d(2, track_running_stats=True)), r"a norm \(0, InstanceNorm1d\)"),
        (nn.Sequential(PatchDropout(0.5)), r"dropout \(0.prob = 0.5\)"),
    ],
)
def test_what_each_forward_changes_or_draws_is_refused_in_train_mode(module: nn.Module, named: str) -> None:
    check_settled(module.eval())
    with pytest.raises(ac.AttentionError, match=f"(?s)train mode with {named}.*model.eval"):
        check_settled(module.train())


def test_a_probability_that_is_no_dropout_is_allowed_in_train_mode() -> None:
    model = nn.Linear(2, 2).train()
    model.prob = 0.3  # pyright: ignore[reportArgumentType]
    check_settled(model)


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, str(Path(__file__).with_name("two_processes.py")), str(folder)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "adapters"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(  # noqa: S603
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
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
    assert uncompiled(model) is model
    check_holds_weights(model)
    setattr(model[0], name, value)
    with pytest.raises(ac.AttentionError, match="0 is split among processes"):
        uncompiled(model)
    setattr(model[0], name, None)
    assert uncompiled(model) is model
