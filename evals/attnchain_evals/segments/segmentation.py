"""`segment`: regions, the object, or what belongs to a point, a box or a word, from the attention of one model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, get_args

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from torch import Tensor

from attnchain_evals.segments.hierarchy import nesting
from attnchain_evals.segments.objects import object_scores, otsu, two_sided
from attnchain_evals.segments.places import as_place, patches_in
from attnchain_evals.segments.refinement import OBJECT_SCALES, Painter, Share, interpolated, working_size
from attnchain_evals.segments.regions import regions, states
from attnchain_evals.segments.segments import Segments
from attnchain_evals.segments.whole_patches import WholePatches
from attnchain_evals.segments.words import word_scores
from attnchain_interp import AttentionError, AttentionStore, bounce, reverse
from attnchain_interp.capture import rgb_image
from attnchain_interp.chain import reversible
from attnchain_interp.checks import check_one_of, check_type, check_whole_number

Wanted = Literal["regions", "pieces", "object"]
LAYERS: Final = slice(-3, None)
"""The layers whose attention is averaged. Chosen on photographs of BSDS500 val."""
_STEPS: Final = 2  # bounces from a point or a box


def segment(
    model: Any,
    image: Any,
    preprocess: Callable[[Any], Tensor] | None = None,
    *,
    wanted: Wanted = "regions",
    k: int | None = None,
    point: tuple[float, float] | None = None,
    box: tuple[float, float, float, float] | None = None,
    word: str | None = None,
    tokenizer: Any = None,
    scales: int | None = None,
    side: int | None = None,
    refine: bool = True,
) -> Segments:
    """Returns the segments of a photograph that the attention of a vision transformer makes. No labels are needed.

    - "regions" are the metastable states of the last three layers' balanced chain, along attention as often as against it:
      sets of patches between which attention rarely leads. A region may lie in several places.
    - "pieces" are the connected pieces of the regions, which are what people draw.
    - "object" is one segment: where walks lead to what the class token looks at (`object_scores`), above Otsu's threshold.
    - `point` or `box` gives one segment too: what patches there attend to and what attends to them, within two steps, above
      its mean.
    - `word` gives one segment of a model that has text: where the walk from the word leads, above its mean (`word_scores`).

    Args:
        model: a vision transformer that an adapter recognises, a callable that takes images and returns an `AttentionStore`,
            or a `WholePatches` of one, which looks at the model once for many photographs. With `word`: a pipeline of
            diffusers from text to image, or a `CLIPModel` or `SiglipModel` of transformers.
        image: a PIL image of any mode.
        preprocess: a PIL image → the model's input (1, channel, height, width), as the model was trained. Its normalisation is
            used; the photograph itself is resized whole.
        wanted: what is sought without a point and a box.
        k: the number of regions. None counts the slow eigenvalues of the chain (see `Segments.facts`). A region that is the
            greatest of almost no patch is left out: `facts["states_left_out"]`.
        point: (x, y) in pixels of the photograph, from the top left.
        box: (left, top, right, bottom) in pixels.
        word: one word, or several ("great white shark"). A pipeline sees the photograph as a square, noised a little, with the
            prompt "a WORD"; towers of text and images compare each patch with "a photo of a WORD".
        tokenizer: of a model with towers.
        scales: also find 2, 3, … up to this many regions, from the same forward: `Segments.scales`, and which lies in which
            in `facts["nesting"]`.
        side: pixels of the shorter side that the model sees. None means 24 patches, or the model's own size if it takes no
            other; for a pipeline 512.
        refine: draw boundaries along the edges of the photograph: segments take whole superpixels (Felzenszwalb &
            Huttenlocher, by scikit-image). `Segments.unrefined` holds the interpolated shares' labels in any case.

    Raises:
        AttentionError: a model without a grid of patches or, for the object, without a class token; k above the number of
            patches; a point or box outside the photograph; several of k, point, box and word; a word without a model of text.

    Source: Erel et al. 2025 (metastable states of tokens; bounces from the class token); Reuter et al. 2018 (GPCCA).
    """
    check_type("image", image, PIL.Image.Image, "Pass PIL.Image.open(path), or PIL.Image.fromarray(array).")
    check_one_of("wanted", wanted, get_args(Wanted))
    place = asked_place(wanted, k, point, box, word, scales)
    if side is not None:
        check_whole_number("side", side, "the pixels of the shorter side")
    photograph = rgb_image(image)
    pixels = np.asarray(photograph)
    if word is not None:
        found, covered = word_scores(model, photograph, word, preprocess, tokenizer, side)
        return _one(pixels, found.float().cpu().numpy(), covered, refine, {"segment": word})
    reader = model if isinstance(model, WholePatches) else _reader(model, preprocess, side)
    store = reader.store(photograph, LAYERS)
    covered = reader.covered(store, photograph)
    if (scales or 1) > len(store.tokens):
        raise AttentionError(
            f"scales is {scales}; the model sees {len(store.tokens)} tokens.", "Pass fewer, such as scales=8."
        )
    if place is not None:
        shares = _around(store, patches_in(store, place, photograph.size, covered))
        facts = {"segment": "around the point" if box is None else "around the box", "from": list(place)}
    elif wanted == "object":
        scores = _grid(store, object_scores(store))
        threshold = otsu(scores, working_size(pixels.shape), covered)
        return _one(pixels, scores, covered, refine, {"segment": "object"}, threshold)
    else:
        return _regions(store, pixels, covered, k, scales or 1, refine, wanted == "pieces")
    return _one(pixels, _grid(store, shares), covered, refine, facts)


def asked_place(
    wanted: Any, k: Any = None, point: Any = None, box: Any = None, word: Any = None, scales: Any = None
) -> tuple[float, ...] | None:
    """Checks what is asked of `segment`, and returns the point or the box.

    Raises:
        AttentionError: several things are asked for, or one of another type.
    """
    if k is not None:
        check_whole_number("k", k, "the number of regions")
    if scales is not None:
        check_whole_number("scales", scales, "the greatest number of regions", 2)
    asked = [each is not None for each in (k, point, box, word)] + [wanted == "object"]
    if sum(asked) > 1 or (scales is not None and any(asked[1:])):
        raise AttentionError(
            "several of k, point, box, word and the object are asked for, or scales of one of these.", "Ask for one at a time."
        )
    return as_place("box", box, 4) if point is None else as_place("point", point, 2)


def _one(
    pixels: NDArray[np.uint8],
    scores: NDArray[np.float32],
    covered: Share,
    refine: bool,
    facts: dict[str, Any],
    threshold: float | None = None,
) -> Segments:
    """Returns the one segment where scores (row, column) are above a threshold; None is their mean over the pixels."""
    mean = float(interpolated(scores[None], working_size(pixels.shape), covered).mean())
    both = two_sided(scores, mean if threshold is None else threshold)
    painter = Painter(pixels, refine, scales=OBJECT_SCALES, covered=covered)
    return Segments(pixels, painter.labels(both), painter.unrefined(both), both[1:], np.zeros(0), facts)


def _reader(model: Any, preprocess: Callable[[Any], Tensor] | None, side: int | None) -> WholePatches:
    if preprocess is None:
        raise AttentionError("preprocess is None.", "Pass what turns a PIL image into the model's input.")
    if hasattr(model, "get_text_features") and hasattr(model, "vision_model"):
        raise AttentionError(f"{type(model).__name__} has two towers.", "Pass its vision_model, or a word.")
    if hasattr(preprocess, "image_mean"):  # a processor of transformers
        raise AttentionError(
            f"preprocess is a {type(preprocess).__name__}, which gives more than a tensor.",
            'Pass lambda image: processor(images=image, return_tensors="pt").pixel_values.',
        )
    return WholePatches(model, preprocess, side)


def _regions(
    store: AttentionStore, pixels: NDArray[np.uint8], covered: Share, k: int | None, most: int, refine: bool, pieces: bool
) -> Segments:
    chain = reversible(store.chain(balanced=True))
    found = regions(chain, k)
    shares = _grid(store, found.memberships.mT)
    painter = Painter(pixels, refine, pieces, covered=covered)
    scales = {each: painter.labels(_grid(store, states(chain, each).memberships.mT)) + 1 for each in range(2, most + 1)}
    nested = zip([*scales][1:], nesting([*scales.values()]), strict=True)
    facts = {
        "k": len(found.weights),
        "k_rule": found.rule,
        "states_left_out": found.left_out,
        "eigenvalues": [round(float(value), 6) for value in found.eigenvalues.real],
        "grid": list(store.tokens.grid or ()),
        "nesting": {each: {"parents": of.parents.tolist(), "shares": of.shares.round(4).tolist()} for each, of in nested},
    }
    weights = found.weights.double().cpu().numpy()
    return Segments(pixels, painter.labels(shares) + 1, painter.unrefined(shares) + 1, shares, weights, facts, scales)


def _around(store: AttentionStore, start: Tensor) -> Tensor:
    """Returns the mean of bounces (token,) from some patches, along attention and against it."""
    chain = store.chain(balanced=True)
    first = start.to(chain.device, chain.dtype)[None]
    return (bounce(chain, first, _STEPS) + bounce(reverse(chain), first, _STEPS))[0] / 2


def _grid(store: AttentionStore, scores: Tensor) -> NDArray[np.float32]:
    """Returns scores (…, token) of one image as (…, row, column)."""
    flat = scores.reshape(1, -1, scores.shape[-1]).float().cpu()
    return store.tokens.to_grid(flat)[0].reshape(*scores.shape[:-1], *(store.tokens.grid or ())).numpy()
