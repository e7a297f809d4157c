"""The contents of a page: tokens, picture, methods, curves and classes, each checked against the example that is shown."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final, Protocol, final

import numpy as np
import torch
from torch import Tensor

from attnchain_interp.chain import Chain
from attnchain_interp.errors import AttentionError
from attnchain_interp.explorer.encoding import Floats, compressed, png, quantise, shrunk
from attnchain_interp.explorer.example_chains import ExampleChains, metastable_regions
from attnchain_interp.explorer.map_quality import MapQuality, MeasuredMaps
from attnchain_interp.explorer.page import Payload
from attnchain_interp.gradients import AttentionGradients
from attnchain_interp.store import NAMED_WEIGHTS, Role, TokenSelection, known_sinks
from attnchain_interp.store.interop import token_labels

VERSION: Final = 1
_SIDE: Final = 512  # pixels of the longer side of the picture, at most


class Curve(Protocol):
    """A perturbation curve: (step,) fractions and (batch, step) scores. `attnchain_evals.perturbation_curve` returns one."""

    @property
    def fractions(self) -> Tensor: ...

    @property
    def scores(self) -> Tensor: ...


@final
class Contents:
    """Everything that a page shows except the maps. `with_maps` adds these."""

    def __init__(self, header: dict[str, Any], arrays: Mapping[str, Any]) -> None:
        self._header, self._arrays = header, arrays
        self._sections = {name: compressed(array) for name, array in arrays.items()}

    def with_maps(self, quality: MapQuality, passed: list[str]) -> Payload:
        """Returns the payload with maps of this quality; `passed` names the qualities that did not fit."""
        encoded = quality.encoded()
        arrays = {**self._arrays, **encoded.sections}
        sections = {name: {"type": array.dtype.name, "shape": list(array.shape)} for name, array in arrays.items()}
        maps = {
            "what": quality.scope,
            "levels": quality.levels,
            "kept": quality.kept,
            "error": encoded.error,
            "passed": [*passed],
        }
        return Payload({**self._header, "maps": maps, "sections": sections}, self._sections | encoded.compressed)


def contents(
    chains: ExampleChains,
    measured: MeasuredMaps,
    image: Any,
    normalization: Any,
    methods: Mapping[str, Any],
    curves: Mapping[str, Curve],
    targets: Mapping[str, AttentionGradients | Chain],
    selection: TokenSelection,
    title: str,
) -> Contents:
    """Returns the contents of the page of an example."""
    tokens, example, shown = chains.store.tokens, chains.example, chains.shown
    labels = token_labels(tokens, example)
    roles = [Role(code).name.lower() for code in tokens.roles[example].tolist()]
    regions, shares = metastable_regions(chains, measured.means)
    of_targets = [_transitions(name, target, chains, selection) for name, target in targets.items()]
    header = {
        "version": VERSION,
        "title": title,
        "labels": [labels[position] for position in shown],
        "roles": [roles[position] for position in shown],
        "sinks": _sinks(chains),
        "grid": tokens.grid,
        "states": chains.states.tolist(),
        "outside": chains.outside.tolist(),
        "image": image if image is None else _data_url(image, normalization),
        "layers": [{"name": layer.name, "heads": layer.heads} for layer in chains.store],
        "weightings": NAMED_WEIGHTS,
        "rank": {"damping": chains.damping, "jump": chains.jump},
        "causal": chains.causal,
        "regions": regions,
        "targets": list(targets),
        "methods": [
            {"name": name, "curve": _curve(name, curves[name], example) if name in curves else None} for name in methods
        ],
    }
    if unknown := [name for name in curves if name not in methods]:
        raise AttentionError(f"curves names {', '.join(unknown)}, but methods has no scores of that name.", "Name both alike.")
    scores = [_scores(name, values, chains) for name, values in methods.items()]
    n, m = len(shown), len(chains.states)
    arrays = {
        "lambda2": measured.second.astype(np.float32),
        "vectors": measured.vectors.astype(np.float32),
        "regions": shares,
        "methods": np.stack(scores) if scores else np.zeros((0, n), dtype=np.float32),
        "targets": quantise(np.stack(of_targets), 255) if of_targets else np.zeros((0, n, m), dtype=np.uint8),
    }
    return Contents(header, arrays)


def _sinks(chains: ExampleChains) -> dict[int, str]:
    """Returns a text about each attention sink by its place among the shown tokens; none where values are not known."""
    found = known_sinks(chains.store)
    told = {} if found is None else found.described(chains.example)
    return {place: told[position] for place, position in enumerate(chains.shown.tolist()) if position in told}


def _data_url(image: Any, normalization: Any) -> str:
    from attnchain_interp.pictures.images import displayable

    pixels = (shrunk(displayable(image, normalization), _SIDE) * 255).round().astype(np.uint8)
    return f"data:image/png;base64,{base64.b64encode(png(pixels)).decode()}"


def _scores(name: str, values: Any, chains: ExampleChains) -> Floats:
    """The scores (token,) of the shown tokens."""
    tokens, scores = chains.store.tokens, torch.as_tensor(values).detach().float().cpu()
    batch, n, grid = tokens.batch, len(tokens), tokens.grid
    if scores.shape in ((batch, n), (batch, *(grid or ()))):
        scores = scores[chains.example]
    if grid is not None and scores.shape == grid:
        whole = torch.zeros(n, dtype=torch.float32, device="cpu")
        whole[tokens.roles[chains.example].cpu() == Role.PATCH] = scores.flatten()
        scores = whole
    if scores.shape != (n,) or not bool(scores.isfinite().all()):
        on_grid = f", or (batch, {grid[0]}, {grid[1]}) on the grid" if grid else ""
        raise AttentionError(
            f"methods[{name!r}] has shape {tuple(torch.as_tensor(values).shape)}, or values that are not finite.",
            f"Give finite scores (token,) or (batch, token){on_grid} of {n} tokens.",
        )
    return scores.numpy()[chains.shown]


def _curve(name: str, curve: Curve, example: int) -> dict[str, list[float]]:
    fractions, scores = (torch.as_tensor(part).detach().float().cpu() for part in (curve.fractions, curve.scores))
    fractions, scores = (part[example] if part.ndim == 2 else part for part in (fractions, scores))
    if fractions.ndim != 1 or fractions.shape != scores.shape or not bool((fractions.isfinite() & scores.isfinite()).all()):
        raise AttentionError(
            f"curves[{name!r}] has fractions {tuple(curve.fractions.shape)} and scores {tuple(curve.scores.shape)}; both must"
            " be finite, (step,) and (batch, step).",
            "Pass the result of attnchain_evals.perturbation_curve.",
        )
    return {"fractions": fractions.tolist(), "scores": scores.tolist()}


def _transitions(name: str, target: AttentionGradients | Chain, chains: ExampleChains, selection: TokenSelection) -> Floats:
    """The transitions (token, state) of the chain of a target, over the states of the example."""
    tokens = chains.store.tokens
    if isinstance(target, AttentionGradients):
        from attnchain_interp.attribution import gradient_chain  # captum loads pyplot

        target = gradient_chain(target, selection)
    if not isinstance(target, Chain) or tuple(target.states.shape) not in ((len(tokens),), (tokens.batch, len(tokens))):
        raise AttentionError(
            f"targets[{name!r}] is a {type(target).__name__} that does not fit; it must be a Chain over the {len(tokens)}"
            " tokens of the store, or the gradients of a target.",
            "Pass ac.capture_gradients(model, inputs, target=…) of the same inputs.",
        )
    matrix, states = target.matrix.detach().float().cpu().numpy(), target.states.cpu().numpy()
    if matrix.ndim == 3:
        matrix, states = matrix[chains.example], states[chains.example]
    if states[chains.shown].nonzero()[0].tolist() != chains.states.tolist():
        raise AttentionError(
            f"targets[{name!r}] is a chain over other states than the page.", "Choose the same tokens for both."
        )
    return matrix[chains.shown][:, chains.shown][:, chains.states]
