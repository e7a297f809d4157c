"""The contents of a page: tokens, picture, methods, curves and classes, each checked against the example that is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnchain_interp.chain import Chain
from attnchain_interp.errors import AttentionError
from attnchain_interp.explorer.encoding import Floats, compressed, data_url, jpeg, quantise
from attnchain_interp.explorer.example_chains import ExampleChains, metastable_regions
from attnchain_interp.explorer.first_view import first_choices
from attnchain_interp.explorer.map_quality import MapQuality, MeasuredMaps
from attnchain_interp.explorer.page import Payload
from attnchain_interp.gradients import AttentionGradients
from attnchain_interp.store import NAMED_WEIGHTS, AttentionStore, Role, TokenSelection, covered_by
from attnchain_interp.store.interop import token_labels
from attnchain_interp.store.layer_weights import depths

VERSION: Final = 2
SIDES: Final = ((1_500_000, 1024), (0, 448))  # bytes of a page, and from there on the longer side of its picture in pixels


class Curve(Protocol):
    """A perturbation curve: (step,) fractions and (batch, step) scores. `attnchain_evals.perturbation_curve` returns one."""

    @property
    def fractions(self) -> Tensor: ...

    @property
    def scores(self) -> Tensor: ...


@final
class Contents:
    """Everything that a page shows except the maps. `with_maps` adds these.

    Attributes:
        header: of the payload, without what `with_maps` adds.
        pixels: the picture (height, width, 3) from 0 to 1, or None.
    """

    def __init__(self, header: dict[str, Any], arrays: Mapping[str, Any], pixels: NDArray[np.float64] | None) -> None:
        self.header, self._arrays, self.pixels = header, arrays, pixels
        self._sections = {name: compressed(array) for name, array in arrays.items()}

    def with_maps(self, quality: MapQuality, contributions: MapQuality | None, room: int) -> Payload:
        """Returns the payload with maps of these qualities, and a picture that fits a page of `room` bytes."""
        header, arrays, sections = dict(self.header), dict(self._arrays), dict(self._sections)
        side = next(side for least, side in SIDES if room >= least)
        header["image"] = None if self.pixels is None else data_url(jpeg(self.pixels, side))
        header["contributions"], header["room"] = None, room
        if quality.scope in ("all", "none") and contributions is None:  # there are no layers to choose
            header["first"] = {**header["first"], "layers": None, "depth": "even"}
        for name, given in (("maps", quality), ("contributions", contributions)):
            if given is None:
                continue
            encoded = given.encoded()
            before = "" if name == "maps" else f"{name}."
            arrays |= {before + section: array for section, array in encoded.sections.items()}
            sections |= {before + section: data for section, data in encoded.compressed.items()}
            header[name] = {
                "what": given.scope,
                "levels": given.levels,
                "kept": given.kept,
                "error": encoded.error,
                "misplaced": encoded.misplaced,
            }
        header["sections"] = {name: {"type": array.dtype.name, "shape": list(array.shape)} for name, array in arrays.items()}
        return Payload(header, sections)


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
    contributions: bool,
    outputs: int,
) -> Contents:
    """Returns the contents of the page of an example. See `explore`."""
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
        "sinks": chains.sinks,
        "grid": tokens.grid,
        "states": chains.states.tolist(),
        "outside": chains.outside.tolist(),
        "layers": [{"name": layer.name, "heads": layer.heads} for layer in chains.store],
        "depths": depths(chains.store),
        "first": first_choices(chains, measured.means, contributions, outputs),
        "outputs": list(range(len(shown) - outputs, len(shown))),
        "weightings": NAMED_WEIGHTS,
        "rank": {"damping": chains.damping, "jump": chains.jump},
        "causal": chains.causal,
        "triangle": chains.triangle,
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
        "vectors": quantise(measured.vectors, 255),
        "regions": shares,
        "methods": np.stack(scores) if scores else np.zeros((0, n), dtype=np.float32),
        "targets": quantise(np.stack(of_targets), 255) if of_targets else np.zeros((0, n, m), dtype=np.uint8),
    }
    return Contents(header, arrays, None if image is None else _pixels(chains.store, image, normalization))


def _pixels(store: AttentionStore, image: Any, normalization: Any) -> NDArray[np.float64]:
    """Returns the part of a picture on which the patches lie, whose edges are continued where patches lie outside."""
    from attnchain_interp.pictures.images import displayable

    picture = displayable(image, normalization)
    size = picture.shape[0], picture.shape[1]
    height, width = covered_by(store, size)
    return np.pad(picture, ((0, max(0, height - size[0])), (0, max(0, width - size[1])), (0, 0)), "edge")[:height, :width]


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
