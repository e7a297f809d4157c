"""Sanity checks: does a method's map depend on the model, follow its tokens, know its class, and agree with itself?

Each check is a figure per method and whether it passes; the thresholds are the constants here.

Source: Adebayo et al., *Sanity Checks for Saliency Maps*, NeurIPS 2018, for the two randomisations.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from captum.attr import GradientAttribution, PerturbationAttribution
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from scipy.stats import rankdata
from torch import Tensor, nn

from attnchain_evals.bench.shared_capture import SharedCapture
from attnchain_interp import AttentionAttribution, AttentionError, AttentionGradientAttribution, AttentionStore
from attnchain_interp.gradients import AttentionGradients
from attnchain_interp.reprs import first_problem

RANDOMISED_BELOW = 0.5  # rank correlation of the maps of the model and of its randomised copy
FOLLOWS_WITHIN = 1e-3  # deviation, as a share of the greatest score
SWAPPED_BELOW = 0.95  # rank correlation of the maps of two classes
AGREES_ABOVE = 0.5  # rank correlation of two runs
NOISE = 0.02  # standard deviation of the noise between two runs, as a share of that of the images

Methods = Callable[[nn.Module], Mapping[str, Any]]


class Check(NamedTuple):
    """A figure and whether it passes. Both are None if the check does not apply."""

    value: float | None
    passed: bool | None


_KEPT = TypeAdapter(dict[str, dict[str, dict[str, float | bool | None]]])


def read_checks(path: Path) -> tuple[int, dict[str, dict[str, Any]]] | None:
    """Returns the number of examples of a `sanity.json`, and method → check → {"value", "passed"}; None without a file."""
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return int(found["examples"]), _KEPT.validate_python(found["checks"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        said = first_problem(error) if isinstance(error, ValidationError) else error
        raise AttentionError(f"{path} is damaged ({said}).", "Remove it and run again with --sanity.") from error


def sanity_checks(
    model: nn.Module, inputs: Tensor, methods: Methods, seed: int = 0, answers: Tensor | None = None
) -> dict[str, dict[str, Check]]:
    """Returns method → check → result.

    "randomised": rank correlation with the maps of the model whose parameters are all randomised; must fall below 0.5.
    "follows": how far the scores of permuted tokens are from the permuted scores. "class": rank correlation of the maps of
    the first and the second class, by class-specific methods; must fall below 0.95. It is left out for whole answers and for
    a model without a second class. "agreement": rank correlation of two runs that differ by noise of 2 % (texts have none)
    and by the numbers of the examples; must be above 0.5.

    Args:
        inputs: images (batch, channel, height, width), or texts (batch, token), a few.
        methods: a model → name → method, called for the model and for randomised copies.
        seed: of the permutations and the noise.
        answers: (batch, token of the answer) the tokens after each text that are explained together, or None.
    """
    built = methods(model)
    randomised = randomisation_curves(model, inputs, methods, stages=1, seed=seed, answers=answers)
    shared = SharedCapture(model, inputs, answers=answers)
    target = shared.known_target
    several = target is not None and shared.logits.shape[1] > 1
    second = SharedCapture(model, inputs, target=shared.logits.topk(2, 1).indices[:, 1]) if several else None
    other = SharedCapture(model, _noisy(inputs, seed), first=len(inputs), target=target, answers=answers)
    found: dict[str, dict[str, Check]] = {}
    for name, method in built.items():
        grid = shared.scores(method)
        correlation = randomised[name][-1]
        swap = None
        if second is not None and class_specific(method):
            swap = float(rank_correlation(grid, second.scores(method)).mean())
        agreement = float(rank_correlation(grid, other.scores(method)).mean())
        deviation = permutation_deviation(shared, method, seed)
        found[name] = {
            "randomised": Check(correlation, correlation < RANDOMISED_BELOW),
            "follows": Check(None, None) if deviation is None else Check(deviation, deviation <= FOLLOWS_WITHIN),
            "class": Check(swap, None if swap is None else swap < SWAPPED_BELOW),
            "agreement": Check(agreement, agreement > AGREES_ABOVE),
        }
    return found


def randomisation_curves(
    model: nn.Module, inputs: Tensor, methods: Methods, stages: int = 4, seed: int = 0, answers: Tensor | None = None
) -> dict[str, list[float]]:
    """Returns method → mean rank correlation with its own maps, as modules are randomised from the last to the first.

    Cascading: stage k has the last k / stages of the modules that hold parameters randomised. Each parameter keeps its values
    in a random order, so that its scale stays.
    """
    shared = SharedCapture(model, inputs, answers=answers)
    clean = {name: shared.scores(method) for name, method in methods(model).items()}
    target, randomised = shared.known_target, copy.deepcopy(model)
    holders = [module for module in randomised.modules() if list(module.parameters(recurse=False))][::-1]
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[float]] = {name: [] for name in clean}
    for stage in range(stages):
        for module in holders[stage * len(holders) // stages : (stage + 1) * len(holders) // stages]:
            for parameter in module.parameters(recurse=False):
                order = torch.randperm(parameter.numel(), generator=generator, device="cpu").to(parameter.device)
                parameter.data = parameter.data.flatten()[order].view_as(parameter)
        shared = SharedCapture(randomised, inputs, target=target, answers=answers)
        for name, method in methods(randomised).items():
            found[name].append(float(rank_correlation(clean[name], shared.scores(method)).mean()))
    return found


def permutation_deviation(shared: SharedCapture, method: Any, seed: int = 0) -> float | None:
    """Returns the greatest |score of permuted tokens − permuted score| over the greatest |score|.

    None without a method `score`, and for a decoder, whose maps depend on positions.

    All patches but the centre one, or all tokens of a text but special ones, change places, in rows and columns alike. The
    number of a token must not matter.
    """
    if shared.store.causal:
        return None
    if isinstance(method, AttentionAttribution):
        store = shared.maps(method.captured_maps)
        order = _order(store, seed)
        clean, moved = method.score(store), method.score(_permuted(store, order))
    elif isinstance(method, AttentionGradientAttribution) and method.forward_func is None:
        found = shared.gradients
        order = _order(found.store, seed)
        gradients = [found.gradient(k)[..., order, :][..., order] for k in range(len(found))]
        clean, moved = method.score(found), method.score(AttentionGradients(_permuted(found.store, order), gradients))
    else:
        return None
    return float((moved - clean[..., order]).abs().max() / clean.abs().max().clamp_min(1e-12))


def rank_correlation(left: Tensor, right: Tensor) -> NDArray[np.float64]:
    """Returns Spearman's ρ of the maps of each example (batch,); 0 if one of them is constant."""
    ranks = [rankdata(grid.detach().flatten(1).double().cpu().numpy(), axis=1) for grid in (left, right)]
    centred = [rank - rank.mean(1, keepdims=True) for rank in ranks]
    scale = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    return (centred[0] * centred[1]).sum(1) / np.where(scale > 0, scale, np.inf)


def class_specific(method: Any) -> bool:
    """Says whether a method explains a class: it reads gradients of the output, or the output of perturbed inputs."""
    return isinstance(method, GradientAttribution | PerturbationAttribution)


def _noisy(inputs: Tensor, seed: int) -> Tensor:
    """Adds noise to images and returns texts unchanged."""
    if not inputs.is_floating_point():
        return inputs
    noise = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(seed), device="cpu").to(inputs)
    return inputs + NOISE * inputs.std() * noise


def _order(store: AttentionStore, seed: int) -> Tensor:
    """(token,): new place → old place."""
    layout = store.tokens
    movable = layout.select("text" if layout.grid is None else "patch")[0].nonzero()[:, 0].cpu()
    if layout.grid is not None:
        movable = movable[movable != layout.center]
    order = torch.arange(len(layout))
    order[movable] = movable[torch.randperm(len(movable), generator=torch.Generator().manual_seed(seed), device="cpu")]
    return order.to(store[0].device)


def _permuted(store: AttentionStore, order: Tensor) -> AttentionStore:
    layers = [replace(layer, attention=layer.maps[..., order, :][..., order]) for layer in store]
    return AttentionStore(layers, store.tokens, store.metadata)
