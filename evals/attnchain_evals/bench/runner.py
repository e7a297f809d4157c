"""The run: batch by batch, method by method. Each row is on the disk before the next is computed."""

from __future__ import annotations

import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from attnchain_evals.bench.fingerprint import code_identity, differences, key_of, method_identity, metric_identity
from attnchain_evals.bench.manifest import BESIDE, NAME, SCHEMA, check_outputs, outputs_of, read_manifest, write_manifest
from attnchain_evals.bench.row_files import check_names, part_file, read_parts
from attnchain_evals.bench.shared_capture import SharedCapture
from attnchain_evals.metrics.example_metric import ExampleMetric, Trial
from attnchain_evals.tasks.digest import model_identity
from attnchain_evals.tasks.examples import Batch, Data, batches, data_identity, groups_of, size_of
from attnchain_interp import AttentionError

LARGEST = 64
WAIT = 600.0  # seconds for the first process to have settled the batch size


@final
@dataclass(frozen=True)
class Plan:
    """The models, methods, metrics and data of a run.

    Attributes:
        model: images or texts → logits, in eval mode.
        data: as `batches` takes them.
        methods: name → method, as `benchmark` takes them.
        metrics: their names differ.
        batch_size: examples a forward; "auto" halves from 64 until the first batch fits into memory.
        limit: how many examples at most, for testing.
        seed: of random methods and metrics.
        name: of the model in reports.
        identity: of the data; what they say of themselves when None.
        capture: (model, inputs, number of the first example) → an object with the `known_target` (batch,) and
            `scores(method)`. Methods of a batch share it. It takes `answers` where the data have them.
        settings: further entries of the configuration, such as the settings of `capture`.
    """

    model: nn.Module
    data: Data
    methods: Mapping[str, Any]
    metrics: Sequence[ExampleMetric]
    batch_size: int | Literal["auto"] = 32
    limit: int | None = None
    seed: int = 0
    name: str = ""
    identity: Any = None
    capture: Callable[..., Any] = SharedCapture
    settings: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """Returns all settings that a figure depends on. Its digest is the key of the run."""
        return {
            "schema": SCHEMA,
            "model": {"name": self.name or type(self.model).__name__, **model_identity(self.model)},
            "data": data_identity(self.data) if self.identity is None else self.identity,
            "methods": {name: method_identity(method) for name, method in self.methods.items()},
            "metrics": {metric.name: metric_identity(metric) for metric in self.metrics},
            "batch_size": self.batch_size,
            "limit": self.limit,
            "seed": self.seed,
            "code": code_identity(),
            **self.settings,
        }

    def captured(self, batch: Batch) -> Any:
        """Returns the `capture` of a batch."""
        device = next(self.model.parameters()).device
        answers = {} if batch.answers is None else {"answers": batch.answers.to(device)}
        return self.capture(self.model, batch.inputs.to(device), batch.first, **answers)


@final
@dataclass(frozen=True)
class Share:
    """The number of this process and of all processes. torchrun and accelerate launch set them in the environment."""

    rank: int = 0
    world: int = 1

    @classmethod
    def from_environment(cls) -> Share:
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def run(plan: Plan, folder: Path, share: Share | None = None, progress: bool = False) -> dict[str, Any]:
    """Measures the rows that the folder lacks, and returns the manifest once every process has done its share.

    Process b mod world measures batch b. It appends to its own part file, one write for each batch and method. A killed run
    continues with the method and batch at which it stopped; with texts it repeats the batch, whose methods share forwards.
    A run of one process that fails before its first row removes the files and the folder that it made, and no others.
    """
    share = share or Share.from_environment()
    check_names("method", plan.methods)
    check_names("metric", [metric.name for metric in plan.metrics])
    is_new = not os.path.exists(folder)  # a name may be too long for Path.exists
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AttentionError(f"the folder {folder} could not be made ({error}).", "Choose another output.") from error
    try:
        return _run(plan, folder, share, progress)
    except BaseException:
        if is_new and not list(folder.iterdir()):
            folder.rmdir()
        raise


def _run(plan: Plan, folder: Path, share: Share, progress: bool) -> dict[str, Any]:
    groups = groups_of(plan.data, plan.limit)
    manifest, is_new = _manifest(plan, folder, share, groups)
    key, size = manifest["key"], manifest["batch_size"]
    columns = sum(len(metric.columns) for metric in plan.metrics)
    done = Counter[tuple[int, str]]()
    seen, written = 0, False  # seen: examples of a stream

    def missing(number: int, examples: int | None) -> list[str]:
        return [name for name in plan.methods if done[number, name] < (examples or size) * columns]

    def wanted(number: int, examples: int | None) -> bool:
        nonlocal seen
        seen += examples or 0
        return number % share.world == share.rank and bool(missing(number, examples))

    try:
        total = size_of(plan.data, plan.limit)
        rows = read_parts(folder, key)
        done.update(zip(rows["example"] // size, rows["method"], strict=True))
        mine = None if total is None else len(range(share.rank, -(-total // size), share.world)) * len(plan.methods)
        ready = sum(1 for number, _ in done if number % share.world == share.rank)
        bar = tqdm(total=mine, initial=ready, unit="batch × method", disable=None if progress else True, leave=False)
        with part_file(folder / f"rows-{share.rank:05d}.csv") as part, bar:
            for batch in batches(plan.data, size, plan.limit, wanted):
                names = missing(batch.number, len(batch.inputs))
                # methods share forwards of texts, so all are measured again: rows are then those of an unbroken run
                for name, found in measured(plan, batch, plan.methods if batch.inputs.ndim == 2 else names):
                    if name not in names:
                        continue
                    bar.set_description(name)
                    part.append((key, *row) for row in found)
                    written = True
                    bar.update()
            if not seen:
                raise AttentionError("the data held no example.", "Pass data with at least two examples.")
    except BaseException:
        if is_new and share.world == 1 and not written:
            (folder / NAME).unlink(missing_ok=True)
        raise
    manifest = {**manifest, "examples": seen, **groups}
    if share.rank == 0:
        write_manifest(folder, manifest)
    await_others(folder, key, seen * len(plan.methods) * columns, share)
    return manifest


def measured(plan: Plan, batch: Batch, names: Iterable[str]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """Yields (method, its rows on the batch). Random numbers depend on the seed, the batch and the names alone."""
    device = next(plan.model.parameters()).device
    inputs, shared = batch.inputs.to(device), plan.captured(batch)
    further = (batch.labels, batch.words, batch.sentences, batch.answers)
    known = (None if part is None else part.to(device) for part in further)
    trial = Trial(plan.model, inputs, shared.known_target, batch.masks, batch.first, *known)
    for name in names:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(_seed(plan.seed, batch.first, name))
            scores = shared.scores(plan.methods[name])
            rows: list[tuple[Any, ...]] = []
            for metric in plan.metrics:
                torch.manual_seed(_seed(plan.seed, batch.first, metric.name))  # the same for every method
                figures = metric.measure(trial, scores).double().cpu().tolist()
                rows += [
                    (batch.first + k, name, metric.name, metric.version, column, value)
                    for k, row in enumerate(figures)
                    for column, value in zip(metric.columns, row, strict=True)
                ]
        yield name, rows


def _manifest(plan: Plan, folder: Path, share: Share, groups: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Returns the manifest of the folder, and whether this call wrote it. The first process writes it if there is none."""
    key, path = key_of(plan.configuration), folder / NAME
    sizes = plan.limit, plan.batch_size
    outputs = outputs_of(plan.model, plan.data, *sizes) if plan.capture is SharedCapture else None
    started = time.monotonic()
    while not path.exists() and share.rank:
        if time.monotonic() - started > WAIT:
            raise AttentionError(f"the first process wrote no {path} in {WAIT:.0f} s.", "Read the output of that process.")
        time.sleep(0.2)
    if path.exists():
        manifest = read_manifest(folder)
        if manifest["key"] != key:
            changed = "; ".join(differences(plan.configuration, manifest["configuration"])[:5])
            raise AttentionError(f"{folder} holds another run ({changed}).", "Choose another folder, or move this one away.")
        check_outputs(folder, manifest["outputs"], outputs)
        return manifest, False
    if left := [name for name in BESIDE if (folder / name).exists()]:
        raise AttentionError(
            f"{folder} holds {' and '.join(left)} of another run, and no {NAME}.",
            "Choose another folder, or move this one away.",
        )
    size = _fitting(plan) if plan.batch_size == "auto" else plan.batch_size
    known = {"outputs": outputs, "configuration": plan.configuration, **groups}
    manifest = {"key": key, "batch_size": size, "examples": size_of(plan.data, plan.limit), **known}
    write_manifest(folder, manifest)
    return manifest, True


def _fitting(plan: Plan) -> int:
    """Returns the largest of 64, 32, … for which the first batch fits into memory."""
    size = LARGEST
    while True:
        try:
            for batch in batches(plan.data, size, size, lambda number, _: number == 0):
                for _ in measured(plan, batch, plan.methods):
                    pass
            return size
        except RuntimeError as error:
            short = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
            if not short or size == 1:
                raise
        size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def await_others(folder: Path, key: str, rows: int, share: Share) -> None:
    """Waits until all rows are there. torchrun ends this process if another fails."""
    while share.world > 1 and len(read_parts(folder, key)) < rows:
        time.sleep(0.5)


def _seed(seed: int, first: int, name: str) -> int:
    return int(np.random.SeedSequence([seed, first, zlib.crc32(name.encode())]).generate_state(1, np.uint64)[0] >> 1)
