"""Scores methods × metrics on a data set: one table of all figures of each example, and every score with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from torch import nn

from attnchain_evals.bench.example_maps import write_example_maps
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.bench.runner import Plan, Share, run
from attnchain_evals.metrics import EvidenceAP, EvidenceFirst, SentenceHit, curve_metrics, localisation_metrics, text_metrics
from attnchain_evals.metrics.example_metric import ExampleMetric
from attnchain_evals.tasks.examples import Data
from attnchain_interp import AttentionError
from attnchain_interp.checks import check_type, check_whole_number
from attnchain_interp.reprs import brief


def benchmark(
    model: nn.Module,
    data: Data,
    methods: Mapping[str, Any],
    metrics: Sequence[ExampleMetric] | None = None,
    *,
    baseline: str | None = None,
    batch_size: int | Literal["auto"] = 32,
    limit: int | None = None,
    seed: int = 0,
    output: str | Path | None = None,
    progress: bool = False,
    name: str = "",
) -> BenchmarkResult:
    """Measures every metric of every method on every example, and returns the result.

    Attention methods share one capture per batch, class-specific methods one forward and backward. These explain the class
    of the clean prediction. With `output`, each row is on the disk before the next is computed, and the same call continues a
    killed one. Under torchrun or `accelerate launch` the processes share the batches, and all of them return the whole result.

    Args:
        model: images or token numbers → logits, in eval mode. The class of a language model is the next token.
        data: a sequence of examples or an iterable of them; an example is an image (channel, height, width), begins with one,
            or has `image` and perhaps `mask` (height, width); or a text with `input_ids` (token,) and perhaps `words`,
            `evidence`, `sentences` and `explained`, as `Passage`. With `output` it needs an `identity`.
        methods: name → an `AttentionAttribution`, an `AttentionGradientAttribution`, or anything else with
            `attribute(inputs, target, output="grid")`, "tokens" of texts. A class-specific one without a model reads the
            shared gradients; one that holds the model takes its own (`TransitionAttentionMaps` integrates).
        metrics: deletion, insertion and SRG with the mean colour and with blur when None, and localisation where the first
            example has a mask.
        baseline: what the others are compared with; "Rollout" where it is among the methods, else the first.
        batch_size: examples in a forward pass; "auto" takes as many as fit. Figures may depend on it in their last bits.
        limit: how many examples at most, for testing.
        seed: of random methods and metrics.
        output: a folder. It holds one run and refuses any other.
        progress: show a bar with the time left.
        name: of the model in reports.

    Raises:
        AttentionError: a baseline that is not among the methods, no method, one without `attribute`, names of metrics that are
            not unique, a batch size or limit below one, several processes without `output`, or what capture, the metrics and
            `run` raise.
    """
    check_type("methods", methods, Mapping, "Pass a name for each: {'TokenRank': ac.TokenRank()}.")
    if baseline is not None and baseline not in methods:
        raise AttentionError(f"baseline={baseline!r} is not among the methods.", f"Use one of {', '.join(methods)}.")
    if batch_size != "auto":
        check_whole_number("batch_size", batch_size, "the number of examples in a forward pass")
    if limit is not None:
        check_whole_number("limit", limit, "the greatest number of examples")
    check_whole_number("seed", seed, "the seed of random methods and metrics", least=0)
    for label, method in methods.items():
        if isinstance(method, type):
            raise AttentionError(f"method {label!r} is the class {method.__name__}.", f"Make one of it: {method.__name__}().")
        if not _has_outputs(method):
            raise AttentionError(
                f"method {label!r} is {brief(method)}, which has no attribute(inputs, target, output=…).",
                "Pass an object of a class with that method, such as ac.TokenRank(). perturbation_curve judges any scores.",
            )
    metrics = standard_metrics(data) if metrics is None else list(metrics)
    for metric in metrics:
        check_type("a metric", metric, ExampleMetric, "Pass preset('srg') for the metric of a name.")
        if absent := [name for name in ("version", "higher_is_better") if getattr(metric, name, None) is None]:
            raise AttentionError(
                f"the metric {metric.name!r} has no {' and no '.join(absent)}.",
                "Give its class version = 1, and higher_is_better = True or False.",
            )
    if not methods or not metrics or len({metric.name for metric in metrics}) < len(metrics):
        raise AttentionError(
            f"there are {len(methods)} methods and the metrics {[metric.name for metric in metrics]}.",
            "Pass at least one of each, and metrics with different names.",
        )
    share = Share.from_environment()
    if output is None and share.world > 1:
        raise AttentionError(f"this is one of {share.world} processes, which share their rows in a folder.", "Pass output=….")
    identity = getattr(data, "identity", "in memory") if output is None else None
    plan = Plan(model, data, dict(methods), metrics, batch_size, limit, seed, name, identity)
    with _folder(output) as folder:
        run(plan, folder, share, progress)
        if output is not None and share.rank == 0 and hasattr(data, "__getitem__"):
            write_example_maps(plan, folder)
        return BenchmarkResult.read(folder, metrics, baseline)


def standard_metrics(data: Any) -> list[ExampleMetric]:
    """Returns deletion, insertion and SRG; also localisation, where the first example of a sequence has a mask.

    Texts also get comprehensiveness and sufficiency, and the ranks of the evidence, its words and its sentence, where known.
    Whole answers get the latter alone: the other metrics score one token of the output.
    """
    first = data[0] if hasattr(data, "__getitem__") and len(data) > 0 else None
    if hasattr(first, "input_ids"):
        evidence, words, sentences = (getattr(first, name, None) is not None for name in ("evidence", "words", "sentences"))
        of_words = [EvidenceAP("word")] if words else []
        located = [EvidenceAP(), *of_words, EvidenceFirst(), *([SentenceHit()] if sentences else [])]
        of_output = [] if getattr(first, "explained", None) is not None else text_metrics()
        return [*of_output, *(located if evidence else [])]
    masked = getattr(first, "mask", None) is not None
    return [*curve_metrics(), *(localisation_metrics() if masked else [])]


def _has_outputs(method: Any) -> bool:
    attribute = getattr(method, "attribute", None)
    if not callable(attribute):
        return False
    arguments = signature(attribute).parameters
    return "output" in arguments or any(each.kind is each.VAR_KEYWORD for each in arguments.values())


@contextmanager
def _folder(output: str | Path | None) -> Iterator[Path]:
    if output is not None:
        yield Path(output)
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)
