"""A manifest that is damaged is refused by file and field, and a model that does something else is another model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck
from hypothesis import strategies as st
from torch import Tensor, nn

from attnchain_evals.bench.manifest import check_outputs, outputs_of, read_manifest
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.bench.runner import run
from attnchain_interp import AttentionError

from ...fuzzing import fuzzed, refused_or
from ..bench_tasks import ALONE, Examples, Reader, plan


def negated() -> nn.Module:
    model = Reader().eval()
    model.register_forward_hook(lambda module, inputs, output: -output)
    return model


class Scaled(Reader):
    """Has the name of another class, an attribute that is not a parameter, and a buffer that is not kept."""

    temperature: Tensor

    def __init__(self, scale: float = 1, temperature: float = 1) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("temperature", torch.tensor(temperature), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * self.scale * self.temperature


Scaled.__qualname__ = Reader.__qualname__


@pytest.mark.parametrize(
    ("one", "other"),
    [(Reader, negated), (Reader, lambda: Scaled(-1)), (Scaled, lambda: Scaled(2)), (Scaled, lambda: Scaled(1, 2))],
)
def test_rows_of_a_model_that_does_something_else_are_not_taken(one: Any, other: Any, tmp_path: Path) -> None:
    run(plan(model=one().eval()), tmp_path, ALONE)
    run(plan(model=one().eval()), tmp_path, ALONE)
    with pytest.raises(AttentionError, match="holds (a run of a model with other outputs|another run)"):
        run(plan(model=other().eval()), tmp_path, ALONE)


class Long(Reader):
    """Has as many outputs as a decoder for 757 tokens, which float32 cannot count. The first and the last are 1 and 2."""

    def forward(self, images: Tensor) -> Tensor:
        numbers = torch.zeros(757 * 49152, dtype=torch.bfloat16)
        numbers[0], numbers[-1] = 1, 2
        return numbers


def test_outputs_of_a_long_text_are_evenly_spaced() -> None:
    found = outputs_of(Long(), Examples(), None, 1)
    assert found is not None
    assert (found[0], found[-1], sum(found)) == (1, 2, 3)


def test_outputs_are_compared_up_to_rounding(tmp_path: Path) -> None:
    check_outputs(tmp_path, [1.0, float("nan")], [1.0005, float("nan")])
    check_outputs(tmp_path, None, [1.0])
    for here in ([1.1, float("nan")], [1.0, 1.0], [1.0]):
        with pytest.raises(AttentionError, match="other outputs"):
            check_outputs(tmp_path, [1.0, float("nan")], here)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m: m | {"key": 5}, "key"),
        (lambda m: m | {"key": "0"}, "its key is not that"),
        (lambda m: m | {"batch_size": 0}, "batch_size"),
        (lambda m: m | {"examples": "x"}, "examples"),
        (lambda m: m | {"outputs": ["x"]}, "outputs.0"),
        (lambda m: m | {"configuration": []}, "configuration"),
        (lambda m: m | {"configuration": m["configuration"] | {"methods": {}}}, "configuration.methods"),
        (lambda m: m | {"configuration": m["configuration"] | {"seed": 9}}, "its key is not that"),
        (lambda m: [m], "the whole"),
    ],
)
def test_a_damaged_manifest_is_named(change: Any, named: str, tmp_path: Path) -> None:
    run(plan(), tmp_path, ALONE)
    path = tmp_path / "run.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    for call in (lambda: read_manifest(tmp_path), lambda: run(plan(), tmp_path, ALONE)):
        with pytest.raises(AttentionError, match=rf"run.json is damaged \({named}"):
            call()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    run(plan(), folder, ALONE)
    return folder


@fuzzed(40, st.data(), suppress=[HealthCheck.function_scoped_fixture])
def test_a_damaged_run_is_refused_or_read_as_it_was(finished: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Bytes of the manifest or of the rows are changed; the table then has its own figures, and no others."""
    before = BenchmarkResult.read(finished, plan().metrics).table()
    name = data.draw(st.sampled_from(["run.json", "rows-00000.csv"]))
    for file in finished.glob("r*-*.csv"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "run.json").write_bytes((finished / "run.json").read_bytes())
    contents = bytearray((tmp_path / name).read_bytes())
    place = data.draw(st.integers(0, len(contents) - 1))
    contents[place : place + data.draw(st.sampled_from([0, 1, 1, 50, 2000]))] = data.draw(st.binary(max_size=3))
    (tmp_path / name).write_bytes(contents)
    result = refused_or(lambda: BenchmarkResult.read(tmp_path, plan().metrics))
    if result is not None:
        both = before.merge(result.table(), on=["example", "method", "metric", "column"], validate="1:1")
        assert len(both) == len(result.table())
        assert both["value_x"].tolist() == pytest.approx(both["value_y"].tolist(), rel=0, abs=0, nan_ok=True)
