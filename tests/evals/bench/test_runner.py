"""A run that is killed, shared, cut short or mixed up still gives the table of one that was left in peace, or refuses."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals import KeyValues, Trial, bundled_encoder
from attnchain_evals.bench import runner
from attnchain_evals.bench.benchmark import benchmark
from attnchain_evals.bench.fingerprint import key_of
from attnchain_evals.bench.manifest import read_manifest
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.bench.row_files import read_parts
from attnchain_evals.bench.runner import Plan, Share, run
from attnchain_evals.metrics import ExampleMetric
from attnchain_interp import AttentionError

from ..bench_tasks import ALONE, Examples, Peak, Reader, plan, same, table

fork = multiprocessing.get_context("fork")


def test_the_table(undisturbed: pd.DataFrame) -> None:
    assert list(undisturbed.columns) == ["run", "example", "method", "metric", "version", "column", "value"]
    assert len(undisturbed) == 11 * 3 * 3
    assert undisturbed.loc[:2, "column"].tolist() == ["score", "image", "value"]
    assert undisturbed["example"].is_monotonic_increasing
    chosen = (undisturbed["method"] == "magnitude") & (undisturbed["column"] == "image")
    images = np.array(undisturbed["value"])[np.array(chosen)]
    expected = Examples().images.mean((1, 2, 3)).double().numpy()
    expected[3] = np.nan
    assert np.allclose(images, expected, equal_nan=True)


def test_killed_at_random_moments_and_resumed(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    chance, deaths = random.Random(0), 0  # noqa: S311
    for _ in range(4):
        process = fork.Process(target=run, args=(plan(pause=0.02), tmp_path / "killed", ALONE))
        process.start()
        time.sleep(chance.uniform(0.03, 0.2))
        process.kill()
        process.join()
        deaths += process.exitcode != 0
    assert deaths >= 2, "the kills came too late to test anything"
    run(plan(), tmp_path / "killed", ALONE)
    same(table(tmp_path / "killed", plan()), undisturbed)


@pytest.mark.parametrize("cut", [1, 17, 60, 400, 1500])
def test_a_half_written_line_is_dropped_and_done_again(tmp_path: Path, undisturbed: pd.DataFrame, cut: int) -> None:
    part = tmp_path / "whole" / "rows-00000.csv"
    part.write_bytes(part.read_bytes()[:-cut])
    measured: list[str] = []
    spy = replace(plan(), metrics=[_Spy(measured), plan().metrics[1]])
    run(spy, tmp_path / "whole", ALONE)
    assert len(measured) <= 1 + cut // 150, "what was whole is not done again"
    same(table(tmp_path / "whole", plan()), undisturbed)


class _Spy(Peak):
    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        self._calls = calls

    def measure(self, trial: Any, attributions: Any) -> Any:
        self._calls.append("measured")
        return super().measure(trial, attributions)


def together(work: Callable[..., Any], calls: list[tuple[Any, ...]]) -> None:
    processes = [fork.Process(target=work, args=call) for call in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def test_two_processes_give_the_table_of_one(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    together(run, [(plan(), tmp_path / "two", Share(rank, 2)) for rank in (1, 0)])
    lines = [len(path.read_text().splitlines()) - 1 for path in sorted((tmp_path / "two").glob("rows-*.csv"))]
    assert lines == [54, 45], "batches 0 and 2, 1 and 3, nothing twice"
    same(table(tmp_path / "two", plan()), undisturbed)


def test_a_process_without_a_batch_leaves_numbers(tmp_path: Path) -> None:
    together(run, [(plan(limit=2), tmp_path / "two", Share(rank, 2)) for rank in (1, 0)])
    assert (tmp_path / "two" / "rows-00001.csv").stat().st_size == 0
    found = table(tmp_path / "two", plan(limit=2))
    assert found["value"].dtype == float
    result = BenchmarkResult.read(tmp_path / "two", plan().metrics)
    assert result.undefined == dict.fromkeys(plan().methods, dict.fromkeys(result.metrics, 0))


def test_one_process_goes_on_where_one_of_three_stopped(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    killed = fork.Process(target=run, args=(plan(), tmp_path / "more", Share(0, 3)))
    killed.start()
    time.sleep(0.5)
    killed.kill()
    killed.join()
    run(plan(), tmp_path / "more", ALONE)
    same(table(tmp_path / "more", plan()), undisturbed)


def test_processes_say_who_they_are_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert Share.from_environment() == Share(1, 4)
    with pytest.raises(AttentionError, match="one of 4 processes, which share their rows in a folder"):
        benchmark(Reader().eval(), Examples(), plan().methods, plan().metrics)


def test_a_stream_gives_the_table_of_a_sequence(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    class Stream:
        identity = Examples().identity

        def __iter__(self) -> Iterator[Any]:
            return iter(Examples())  # type: ignore[call-overload]

    assert run(plan(data=Stream()), tmp_path / "stream", ALONE)["examples"] == 11
    same(table(tmp_path / "stream", plan()), undisturbed)


def _other_model() -> Any:
    model = Reader().eval()
    model.weight.data[0, 0] = 2
    return model


class _Second(Peak):
    version = 2


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": _other_model()}, "model.sha256"),
        ({"data": Examples(seed=1)}, "data.seed: 1, not 0"),
        ({"limit": 4}, "limit: 4, not null"),
        ({"seed": 5}, "seed: 5, not 0"),
        ({"batch_size": 2}, "batch_size: 2, not 3"),
        ({"metrics": [_Second(), plan().metrics[1]]}, "metrics.peak.version: 2, not 1"),
        ({"methods": {**plan().methods, "noise": plan().methods["magnitude"]}}, "methods.noise.class"),
    ],
)
def test_rows_of_another_run_are_refused(
    tmp_path: Path, undisturbed: pd.DataFrame, changes: dict[str, Any], named: str
) -> None:
    before = (tmp_path / "whole" / "rows-00000.csv").read_bytes()
    with pytest.raises(AttentionError, match=f"holds another run .*{named}"):
        run(plan(**changes), tmp_path / "whole", ALONE)
    assert (tmp_path / "whole" / "rows-00000.csv").read_bytes() == before


@pytest.mark.parametrize("name", ["examples.safetensors", "sanity.json"])
def test_what_another_run_left_is_not_shown_as_of_this_one(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("old")
    with pytest.raises(AttentionError, match=rf"holds {name} of another run, and no run\.json.\nChoose another folder"):
        run(plan(), tmp_path, ALONE)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_settings_of_a_method_and_changed_code_are_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import attnchain_interp as ac

    keys = {
        runner.key_of(plan(methods={"m": ac.TokenRank(damping=d, layers=k)}).configuration)
        for d in (0.9, 0.99)
        for k in (-1, [0, 1])
    }
    assert len(keys) == 4
    assert runner.key_of(plan().configuration) == runner.key_of(plan().configuration)
    run(plan(), tmp_path, ALONE)
    monkeypatch.setattr(runner, "code_identity", lambda: {"sources": "changed"})
    with pytest.raises(AttentionError, match=r"code\.sources"):
        run(plan(), tmp_path, ALONE)


def test_random_numbers_depend_on_the_seed_and_leave_the_global_ones_alone(undisturbed: pd.DataFrame, tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    run(plan(seed=1), tmp_path / "seed", ALONE)
    assert torch.equal(torch.rand(3), expected)
    noise = [
        frame.query("method == 'noise' and column == 'value'")["value"]
        for frame in (undisturbed, table(tmp_path / "seed", plan()))
    ]
    assert not np.isclose(noise[0], noise[1]).any()


class Tight(Reader):
    """A model that fails on batches above a size; of a device that is full as CUDA says it, or the CPU's allocator."""

    def __init__(self, room: int, error: Exception) -> None:
        super().__init__()
        self.room, self.error = room, error

    def forward(self, images: Any) -> Any:
        if len(images) > self.room:
            raise self.error
        return super().forward(images)


CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


@pytest.mark.parametrize("error", [CUDA, CPU])
def test_auto_halves_the_batch_until_it_fits(tmp_path: Path, error: Exception) -> None:
    auto = plan(model=Tight(5, error).eval(), batch_size="auto")
    assert run(auto, tmp_path, ALONE)["batch_size"] == 4
    assert run(auto, tmp_path, ALONE)["batch_size"] == 4
    assert len(table(tmp_path, auto)) == 99


def test_errors_that_a_smaller_batch_does_not_mend(tmp_path: Path) -> None:
    for room, error in ((0, CUDA), (5, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))):
        with pytest.raises(RuntimeError, match="out of memory|shapes cannot be multiplied"):
            run(plan(model=Tight(room, error).eval(), batch_size="auto"), tmp_path, ALONE)
        assert not (tmp_path / "run.json").exists()


def test_what_was_measured_before_memory_ran_out_is_kept(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    model = Tight(3, CUDA).eval()
    calls = iter([3, 3, 3, 0])  # the fourth batch no longer fits: something else took the memory
    model.register_forward_pre_hook(lambda *_: setattr(model, "room", next(calls, 3)))
    with pytest.raises(torch.OutOfMemoryError):
        run(plan(model=model), tmp_path, ALONE)
    kept = (tmp_path / "rows-00000.csv").read_text().splitlines()
    assert 1 < len(kept) < 100
    run(plan(model=model), tmp_path, ALONE)
    assert table(tmp_path, plan())["value"].equals(undisturbed["value"])


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AttentionError, match="have no `identity`"):
        run(plan(data=[torch.rand(3, 8, 8)]), tmp_path / "a", ALONE)
    with pytest.raises(AttentionError, match="held no example"):
        benchmark(Reader().eval(), [], plan().methods, plan().metrics)
    with pytest.raises(AttentionError, match="an example is str"):
        benchmark(Reader().eval(), ["image"], plan().methods, plan().metrics)
    with pytest.raises(AttentionError, match="limit is 0"):
        benchmark(Reader().eval(), Examples(), plan().methods, plan().metrics, limit=0)
    with pytest.raises(AttentionError, match="metrics with different names"):
        benchmark(Reader().eval(), Examples(), plan().methods, [Peak(), Peak()])
    run(plan(seed=1), tmp_path / "other", ALONE)
    with pytest.raises(AttentionError, match="holds another run"):
        run(plan(), tmp_path / "other", ALONE)
    assert read_parts(tmp_path, "none").empty
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(AttentionError, match="(?s)file.* could not be made .*Choose another output"):
            run(plan(), output, ALONE)
    with pytest.raises(AttentionError, match="(?s)the folder .*a could not be made .*too long.*Choose another output"):
        run(plan(), tmp_path / ("a" * 300), ALONE)


def test_a_run_that_began_without_groups_ends_with_them(tmp_path: Path) -> None:
    data: Any = Examples()
    run(plan(data=data), tmp_path)
    rows = (tmp_path / "rows-00000.csv").read_bytes()
    assert "groups" not in read_manifest(tmp_path)
    data.groups = [number // 2 for number in range(11)]
    run(plan(data=data), tmp_path)
    assert read_manifest(tmp_path)["groups"] == data.groups
    assert (tmp_path / "rows-00000.csv").read_bytes() == rows
    run(plan(data=data, limit=3), tmp_path / "new")
    assert read_manifest(tmp_path / "new")["groups"] == [0, 0, 1]


def test_a_folder_of_another_schema_is_refused_in_words(tmp_path: Path) -> None:
    run(plan(), tmp_path, ALONE)
    manifest = json.loads((tmp_path / "run.json").read_text())
    manifest["configuration"]["schema"] = "attnchain-bench/1"
    manifest["key"] = key_of(manifest["configuration"])
    (tmp_path / "run.json").write_text(json.dumps(manifest))
    for call in (lambda: run(plan(), tmp_path, ALONE), lambda: BenchmarkResult.read(tmp_path, plan().metrics)):
        with pytest.raises(AttentionError, match=r"(?s)configuration\.schema: .*'attnchain-bench/1' came.*run again"):
            call()


class _Before(ExampleMetric):
    """How many methods this trial has measured before: what its methods share depends on them."""

    version = 1
    higher_is_better = True

    def __init__(self) -> None:
        super().__init__("before")

    def measure(self, trial: Trial, attributions: Tensor) -> Tensor:
        seen: list[Tensor] = trial.once("seen", list)
        seen.append(attributions)
        return torch.full((len(attributions), 1), len(seen), dtype=torch.float64)


def test_methods_share_the_forwards_of_a_text_also_after_a_kill(tmp_path: Path) -> None:
    methods = {"Rollout": ac.Rollout(), "TokenRank": ac.TokenRank(), "RandomRanking": ac.RandomRanking()}
    of = Plan(bundled_encoder(), KeyValues("validation", 4), methods, [_Before()], batch_size=2)
    run(of, tmp_path, ALONE)
    whole, part = table(tmp_path, of), tmp_path / "rows-00000.csv"
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(lines[:-3]))  # the last method of the last batch, and half of the one before
    run(of, tmp_path, ALONE)
    same(table(tmp_path, of), whole)
