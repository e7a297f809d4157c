"""A benchmark from names: the model, the data, the methods and the metrics of `attnchain bench run`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from attnchain_evals.bench.benchmark import benchmark, standard_metrics
from attnchain_evals.bench.class_numbers import check_labels, class_names, names_all
from attnchain_evals.bench.data_names import check_data, open_data
from attnchain_evals.bench.manifest import read_manifest
from attnchain_evals.bench.model_loading import check_model, grey_noise, load
from attnchain_evals.bench.names import build_methods, build_metrics, check_methods, from_grid, split, standard_methods
from attnchain_evals.bench.needs import ALL, Needs, check_fits, given_by, given_by_name, needs_of
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.bench.runner import Share
from attnchain_evals.bench.settings import BenchSettings
from attnchain_evals.probes import LinearProbe, check_source, kept_probe
from attnchain_evals.tasks.examples import batches
from attnchain_evals.tasks.prompted_texts import PromptedTexts
from attnchain_evals.terminal import as_usage
from attnchain_interp import AttentionError, Role, capture
from attnchain_interp.capture import LoadedModel
from attnchain_interp.files import write_text


class SetUp(NamedTuple):
    """A model, its data, its grid of patches (None for texts), whether it has a class token, and the `Needs` that it meets."""

    model: nn.Module
    data: Any
    grid: tuple[int, int] | None
    class_token: bool
    given: Needs = ALL


def set_up(
    model: str, data: str, limit: int | None, seed: int, device: str | None, probe: str | None = None, kept: Path | None = None
) -> SetUp:
    """Loads the model and opens the data of these names.

    Args:
        model, data, limit, seed, device: the options of `attnchain bench run`.
        probe: a folder of a probe, or of images to train one on, which takes the place of the model's head.
        kept: the folder where a trained probe is kept.
    """
    loaded = load(model)
    given = given_by(loaded) if probe is None else ALL - {"text"}
    network = loaded.model.to(device_named(device)).eval()
    if probe is not None:
        network = _probed(network, loaded, probe, kept)
    chosen = (data, loaded.preprocess, limit, seed, loaded.reading.tokenizer, network)
    names = class_names(network)
    opened = open_data(*chosen, None if probe is None else names)
    if probe is None and names_all(opened, names):
        opened = open_data(*chosen, names)
    of_texts = hasattr(opened[0], "input_ids")
    if of_texts == (loaded.preprocess is not None):
        taken, given_by_data = ("images", "texts") if of_texts else ("no images", "images")
        raise AttentionError(
            f"{model} takes {taken}, and {data} has {given_by_data}.",
            "Choose another model, or see `attnchain bench ls data`.",
        )
    tokens = capture(network, _firsts(opened, 1, network)[0], layers=-1).tokens
    if tokens.grid is None and not of_texts:
        raise AttentionError(
            f"{model} has no image grid. The benchmark scores heat maps of images, and texts.", "Choose another model or data."
        )
    return SetUp(network, opened, tokens.grid, Role.CLASS in tokens.roles[0], given)


def _probed(network: nn.Module, loaded: LoadedModel, probe: str, kept: Path | None) -> LinearProbe:
    if loaded.preprocess is None or kept is None:
        raise AttentionError("the model takes no images, so it has no probe.", "Leave --probe out, or take a vision model.")
    image = loaded.preprocess(grey_noise()).to(next(network.parameters()).device)
    return kept_probe(network, probe, loaded.preprocess, kept, image, Share.from_environment().rank)


def check_options(settings: BenchSettings) -> list[str]:
    """Checks all names before anything is loaded. Returns the methods that are named."""
    specs = [*([] if settings.methods is None else _listed(settings.methods)), *from_grid(settings.grid)]
    metrics = [] if settings.metrics is None else build_metrics(_listed(settings.metrics))
    check_model(settings.model)
    check_data(settings.data)
    if settings.probe is not None:
        check_source(settings.probe)
    device_named(settings.device)
    check_methods(specs)
    if settings.baseline is not None and settings.methods is not None and settings.baseline not in specs:
        raise AttentionError(f"baseline={settings.baseline!r} is not among the methods.", f"Use one of {', '.join(specs)}.")
    given = given_by_name(settings.model) | ({"logits"} if settings.probe else set())
    check_fits(settings.model, given, specs, metrics)
    return specs


def carry_out(settings: BenchSettings, output: Path) -> BenchmarkResult:
    """Measures, checks the methods if asked to, and returns the result."""
    with as_usage():
        named = check_options(settings)
    limit, seed = settings.limit, settings.seed
    kept = output / "probe"
    where = set_up(settings.model, settings.data, limit, seed, settings.device, settings.probe, kept)
    model, data, grid = where.model, where.data, where.grid
    text = grid is None
    fits = [name for name in standard_methods(text) if needs_of(name) <= where.given]
    specs = named if settings.methods is not None else [*fits, *named]
    if settings.metrics is None:
        metrics = [metric for metric in standard_metrics(data) if metric.needs <= where.given]
    else:
        metrics = build_metrics(_listed(settings.metrics), text)
    check_fits(settings.model, where.given, specs, metrics)
    check_labels(data, model, metrics)
    methods = build_methods(specs, model, grid)
    result = benchmark(
        model,
        data,
        methods,
        metrics,
        baseline=settings.baseline,
        batch_size=batch_size_of(settings.batch_size or (1 if isinstance(data, PromptedTexts) else 32)),
        limit=limit,
        seed=seed,
        output=output,
        progress=True,
        name=f"{settings.model}, linear probe" if settings.probe else settings.model,
    )
    if settings.sanity and not Share.from_environment().rank:
        _check(model, data, specs, grid, settings.sanity, seed, output / "sanity.json")
    return result


def read_result(folder: Path, baseline: str | None) -> BenchmarkResult:
    """Returns the result of a folder. The metrics are built from their names in `run.json`."""
    metrics = build_metrics(read_manifest(folder)["configuration"]["metrics"])
    return BenchmarkResult.read(folder, metrics, baseline)


def _check(model: Any, data: Any, specs: list[str], grid: Any, count: int, seed: int, path: Path) -> None:
    from attnchain_evals.bench.sanity_checks import read_checks, sanity_checks

    if (kept := read_checks(path)) is not None and kept[0] == count:
        return
    inputs, answers = _firsts(data, count, model)
    checks = sanity_checks(model, inputs, lambda model: build_methods(specs, model, grid), seed, answers)
    found = {method: {name: check._asdict() for name, check in row.items()} for method, row in checks.items()}
    write_text(path, json.dumps({"examples": count, "checks": found}, indent=1))


def _firsts(data: Any, count: int, model: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns the first inputs and their answers, if the data have them; of texts those that are as long as the first."""
    firsts = [
        [batch.inputs] if batch.answers is None else [batch.inputs, batch.answers]
        for batch in batches(data, 1, count, lambda *_: True)
    ]
    alike = [each for each in firsts if [part.shape for part in each] == [part.shape for part in firsts[0]]]
    inputs, *answers = (torch.cat(parts).to(next(model.parameters()).device) for parts in zip(*alike, strict=True))
    return inputs, answers[0] if answers else None


def device_named(name: str | None) -> str:
    """Returns the device of this name. None gives the CUDA device of this process, or the CPU without CUDA."""
    if name is not None:
        try:
            torch.zeros(1, device=name).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            said = str(error).partition("\n")[0].rstrip(".")
            raise AttentionError(f"there is no device {name!r} here ({said}).", "Use cpu, cuda or cuda:NUMBER.") from error
        return name
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def _listed(names: str | list[str]) -> list[str]:
    return split(names) if isinstance(names, str) else list(names)


def batch_size_of(text: str | int) -> Any:
    if text == "auto":
        return "auto"
    if re.fullmatch(r"[1-9]\d{0,8}", str(text)):
        return int(text)
    raise AttentionError(
        f"batch size {text!r} is neither a whole number from 1 on nor auto.", "Write --batch-size 32 or --batch-size auto."
    )
