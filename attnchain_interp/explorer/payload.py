"""What a page is made of: a header that JSON can hold, and arrays as compressed bytes."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, final

import numpy as np
import torch
from torch import Tensor

from attnchain_interp.chain.chain import Chain
from attnchain_interp.errors import AttentionError
from attnchain_interp.explorer.map_quality import Ladder, Rung
from attnchain_interp.explorer.png import png, shrunk
from attnchain_interp.explorer.quantising import dequantise, quantise, spread
from attnchain_interp.explorer.reading import WEIGHTINGS, Floats, Reading
from attnchain_interp.explorer.regions import regions
from attnchain_interp.store.interop import token_labels
from attnchain_interp.store.tokens import Role

VERSION: Final = 1
_SIDE: Final = 512  # pixels of the longer side of the picture, at most


class Curve(Protocol):
    """A perturbation curve, as `attnchain_evals.perturbation_curve` gives it: (step,) fractions, (batch, step) scores."""

    @property
    def fractions(self) -> Tensor: ...

    @property
    def scores(self) -> Tensor: ...


@final
@dataclass(frozen=True)
class Payload:
    """Header and sections of a page; the front end's `mount` takes both.

    Attributes:
        header: strings, numbers, lists and dicts; among it what the sections are ("sections": name → type and shape).
        sections: name → bytes of an array, little-endian, compressed by zlib.
    """

    header: dict[str, Any]
    sections: dict[str, bytes]

    @property
    def size(self) -> int:
        """Bytes of the sections in base64."""
        return sum(4 * -(-len(data) // 3) for data in self.sections.values())

    def array(self, name: str) -> Any:
        """The array of a section."""
        known = self.header["sections"][name]
        return np.frombuffer(zlib.decompress(self.sections[name]), known["type"]).reshape(known["shape"])

    def maps(self) -> Floats:
        """The maps (map, token, state) as the page computes with them: dequantised."""
        if self.header["maps"]["kept"]:
            places, values, kept = (self.array(name) for name in ("places", "values", "kept"))
            return spread(places, values, kept, len(self.header["states"]))
        return dequantise(self.array("maps"))


@final
class Contents:
    """Everything that a page shows but the maps, which `with_maps` adds."""

    def __init__(self, header: dict[str, Any], arrays: Mapping[str, Any]) -> None:
        self._header, self._arrays = header, arrays
        self._sections = {name: _packed(array) for name, array in arrays.items()}

    def with_maps(self, rung: Rung, passed: list[str]) -> Payload:
        """The payload with the maps of a rung; `passed` are the names of those that did not fit."""
        held = rung.held()
        arrays = {**self._arrays, **held.sections}
        described = {name: {"type": array.dtype.name, "shape": list(array.shape)} for name, array in arrays.items()}
        header = {**self._header, "maps": rung.described() | {"error": held.error, "passed": [*passed]}, "sections": described}
        return Payload(header, self._sections | held.packed)


def contents(
    reading: Reading,
    ladder: Ladder,
    image: Any,
    normalization: Any,
    methods: Mapping[str, Any],
    curves: Mapping[str, Curve],
    targets: Mapping[str, Chain],
    title: str,
) -> Contents:
    """What a page shows of a reading, without its maps.

    Raises:
        AttentionError: scores, curves or chains that do not fit the example.
    """
    tokens, example, shown = reading.store.tokens, reading.example, reading.shown
    labels = token_labels(tokens, example)
    roles = [Role(code).name.lower() for code in tokens.roles[example].tolist()]
    known, shares = regions(reading, ladder.means)
    chains = [_chain(name, chain, reading) for name, chain in targets.items()]
    header = {
        "version": VERSION,
        "title": title,
        "labels": [labels[position] for position in shown],
        "roles": [roles[position] for position in shown],
        "grid": tokens.grid,
        "states": reading.states.tolist(),
        "outside": reading.outside.tolist(),
        "image": image if image is None else _data_url(image, normalization),
        "layers": [{"name": layer.name, "heads": layer.heads} for layer in reading.store],
        "weightings": WEIGHTINGS,
        "rank": {"damping": reading.damping, "jump": reading.jump},
        "causal": reading.causal,
        "regions": known,
        "targets": list(targets),
        "methods": [
            {"name": name, "curve": _curve(name, curves[name], example) if name in curves else None} for name in methods
        ],
    }
    if unknown := [name for name in curves if name not in methods]:
        raise AttentionError(f"curves names {', '.join(unknown)}, of which methods has no scores; name both alike.")
    scores = [_scores(name, values, reading) for name, values in methods.items()]
    n, m = len(shown), len(reading.states)
    arrays = {
        "lambda2": ladder.second.astype(np.float32),
        "vectors": ladder.vectors.astype(np.float32),
        "regions": shares,
        "methods": np.stack(scores) if scores else np.zeros((0, n), dtype=np.float32),
        "targets": quantise(np.stack(chains), 255) if chains else np.zeros((0, n, m), dtype=np.uint8),
    }
    return Contents(header, arrays)


def _packed(array: Any) -> bytes:
    return zlib.compress(np.ascontiguousarray(array).tobytes(), 6)


def _data_url(image: Any, normalization: Any) -> str:
    from attnchain_interp.pictures.images import displayable

    pixels = (shrunk(displayable(image, normalization), _SIDE) * 255).round().astype(np.uint8)
    return f"data:image/png;base64,{base64.b64encode(png(pixels)).decode()}"


def _scores(name: str, values: Any, reading: Reading) -> Floats:
    """(token,) of scores given for every token of the store, or on the grid, with or without a batch."""
    tokens, scores = reading.store.tokens, torch.as_tensor(values).detach().float().cpu()
    batch, n, grid = tokens.batch, len(tokens), tokens.grid
    if scores.shape in ((batch, n), (batch, *(grid or ()))):
        scores = scores[reading.example]
    if grid is not None and scores.shape == grid:
        whole = torch.zeros(n)
        whole[tokens.roles[reading.example].cpu() == Role.PATCH] = scores.flatten()
        scores = whole
    if scores.shape != (n,) or not bool(scores.isfinite().all()):
        raise AttentionError(
            f"methods[{name!r}] has shape {tuple(torch.as_tensor(values).shape)}; give finite scores (token,) or (batch,"
            f" token) of {n} tokens" + (f", or (batch, {grid[0]}, {grid[1]}) on the grid." if grid else ".")
        )
    return scores.numpy()[reading.shown]


def _curve(name: str, curve: Curve, example: int) -> dict[str, list[float]]:
    fractions, scores = (torch.as_tensor(part).detach().float().cpu() for part in (curve.fractions, curve.scores))
    fractions, scores = (part[example] if part.ndim == 2 else part for part in (fractions, scores))
    if fractions.ndim != 1 or fractions.shape != scores.shape or not bool((fractions.isfinite() & scores.isfinite()).all()):
        raise AttentionError(
            f"curves[{name!r}] has fractions {tuple(curve.fractions.shape)} and scores {tuple(curve.scores.shape)}; give"
            " finite (step,) and (batch, step), as perturbation_curve does."
        )
    return {"fractions": fractions.tolist(), "scores": scores.tolist()}


def _chain(name: str, chain: Chain, reading: Reading) -> Floats:
    """(token, state) transitions of a chain over the same states."""
    tokens = reading.store.tokens
    if not isinstance(chain, Chain) or tuple(chain.states.shape) not in ((len(tokens),), (tokens.batch, len(tokens))):
        raise AttentionError(f"targets[{name!r}] must be a Chain over the {len(tokens)} tokens of the store.")
    matrix, states = chain.matrix.detach().float().cpu().numpy(), chain.states.cpu().numpy()
    if matrix.ndim == 3:
        matrix, states = matrix[reading.example], states[reading.example]
    if states[reading.shown].nonzero()[0].tolist() != reading.states.tolist():
        raise AttentionError(f"targets[{name!r}] is a chain over other states than the page; choose the same tokens for both.")
    return matrix[reading.shown][:, reading.shown][:, reading.states]
