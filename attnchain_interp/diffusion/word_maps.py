"""From a word of the prompt to its tokens, and to its region of the image."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from attnchain_interp.chain import bounce
from attnchain_interp.checks import check_position, check_type, check_whole_number
from attnchain_interp.diffusion.pipelines import TIMESTEP, HeadWeighting, capture_pipeline, denoise_image, pipeline_adapter_of
from attnchain_interp.errors import AttentionError
from attnchain_interp.reprs import counted
from attnchain_interp.store import AttentionStore, Direction, Grid, LayerSelection, TokenLayout
from attnchain_interp.store.label_texts import byte_characters
from attnchain_interp.store.layers import check_store

_BEGINNINGS, _END, _CONTINUED = ("▁", "Ġ"), "</w>", "##"  # marks of words by tokenizers

log = logging.getLogger("attnchain_interp")


def tokens_of_word(tokens: TokenLayout, word: str, example: int = 0) -> list[int]:
    """Returns the positions of a word's tokens in the sequence of a store, for every occurrence of the word in the prompt.

    A word that the tokenizer splits has several tokens. All are returned, and the log says so. Several words ("great white
    shark") are the tokens of each in turn. A part of a longer word ("dog" in "hotdog") counts only where the prompt does not
    have the word by itself.

    Raises:
        AttentionError: a layout without labels, an example that does not exist, or a word that is not in the prompt.

    >>> from attnchain_interp.store.roles import Role
    >>> import torch
    >>> roles = torch.full((1, 4), int(Role.TEXT), dtype=torch.uint8)
    >>> tokens_of_word(TokenLayout(roles, labels=[["▁a", "▁cor", "gi", "</s>"]]), "corgi")
    [1, 2]
    """
    check_type("word", word, str, 'Pass a word of the prompt, such as "dog".')
    check_type("tokens", tokens, TokenLayout, "Pass the tokens of a store: store.tokens.")
    if tokens.labels is None:
        raise AttentionError("these tokens have no labels.", "Give the prompt: capture_pipeline(pipe, prompt=…).")
    labels = tokens.labels[check_position("example", example, tokens.batch)]
    wanted = "".join(word.split())
    in_bytes = "".join(map(byte_characters().__getitem__, wanted.lower().encode()))  # as CLIP writes it: "cafÃ©" for "café"
    found = _places(labels, wanted.casefold()) or _places(labels, in_bytes.casefold())
    if not found:
        there = " ".join(label for label in dict.fromkeys(labels) if label)
        raise AttentionError(f"{word!r} is not among the tokens of the prompt: {there}.", "Use one of its words.")
    within = _within_words(labels)
    alone = [place for place in found if not within[place.start] and not within[place.stop]]
    if not alone:
        log.info("%r is only a part of a word; that part is used", word)
    for place in alone or found:
        if len(place) > 1:
            log.info("%r is %d tokens; all are used", word, len(place))
    return sorted({position for place in alone or found for position in place})


def _places(labels: list[str], wanted: str) -> list[range]:
    """Returns the positions of each run of labels that spells `wanted`."""
    plain, found = [_plain(label) for label in labels], list[range]()
    for first in range(len(labels)):
        text = ""
        for last in range(first, len(labels)):
            text += plain[last]
            if not labels[last] or not wanted.startswith(text) or not text:
                break
            if text == wanted:
                found.append(range(first, last + 1))
                break
    return found


def _within_words(labels: list[str]) -> list[bool]:
    """Returns for each boundary of labels, from the first one's start to the last one's end, whether it is inside a word."""
    marked = any(label.startswith(_BEGINNINGS) or label.endswith(_END) for label in labels)  # the tokenizer marks whole words
    inside = [False]
    for label, following in pairwise(labels):
        letters = label[-1:].isalnum() and _plain(following)[:1].isalnum()
        continued = not following.startswith(_BEGINNINGS) if marked else following.startswith(_CONTINUED)
        inside.append(letters and continued)
    return [*inside, False]


def _plain(label: str) -> str:
    for mark in (*_BEGINNINGS, _END, _CONTINUED):
        label = label.replace(mark, "")
    return label.casefold()


def word_map(
    store: AttentionStore, word: str, *, steps: int = 2, direction: Direction = "incoming", cross: AttentionStore | None = None
) -> Tensor:
    """Returns where a walk from a word is after some steps: probabilities (batch, row, column) on the grid of the image.

    The walk starts at the tokens of the word, equally likely. Where text and image are one sequence, the walk is v Pⁿ: one
    step is the mean row of the word's tokens ("incoming") or their normalised mean column ("outgoing"). Where the image
    attends to the text from outside, the first step is the normalised sum of the word's columns of `cross`, and n − 1 steps
    over the image's own chain follow.

    Args:
        store: text and image in one sequence, with labels; or the image alone, together with `cross`. Layers and heads are
            averaged. `capture_pipeline` holds one mean, of a sampling or of one image (`denoise_image`).
        word: a word of the prompt of every example. All its tokens are used, at every place.
        steps: n, one or more.
        direction: of the chain: see `AttentionStore.chain`.
        cross: attention from the image, on the same grid, to the text, with labels.

    Raises:
        AttentionError: a word that is not in the prompt, text without labels, no grid, grids or numbers of images
            that differ, or no steps.

    Source: Erel et al., *Attention (as Discrete-Time Markov) Chains*, NeurIPS 2025 (bounces from the class's word).
    """
    check_store(store)
    check_whole_number("steps", steps, "the number of steps of the walk from the word")
    if cross is None:
        chain = store.chain(tokens="all", direction=direction)
        start = _of_word(store.tokens, word)
        return store.tokens.to_grid(bounce(chain, start / start.sum(-1, keepdim=True), steps))
    check_type("cross", cross, AttentionStore, "Pass the attention from the image to the text: a store.")
    if store.batch != cross.batch:
        raise AttentionError(
            f"store holds the attention of {counted(store.batch, 'image')}, and cross that of {cross.batch}.",
            "Capture both from the same images.",
        )
    grids = store.tokens.grid, None if cross.queries is None else cross.queries.grid
    if grids[0] != grids[1]:
        raise AttentionError(
            f"store is on the grid {grids[0]}, and cross on {grids[1]}; both must be on the same grid.",
            "Capture both with the same grid=.",
        )
    maps = cross.maps().float().mean((1, 2))
    columns = (maps @ _of_word(cross.tokens, word).to(maps.device)[..., None])[..., 0]
    start = columns / columns.sum(-1, keepdim=True)
    return store.tokens.to_grid(bounce(store.chain(direction=direction), start, steps - 1))


def _of_word(tokens: TokenLayout, word: str) -> Tensor:
    """Returns (batch, token): 1 at the tokens of the word in the prompt of each example."""
    found = torch.zeros(tokens.roles.shape, dtype=torch.float32, device="cpu")
    for example, row in enumerate(found):
        row[tokens_of_word(tokens, word, example)] = 1
    return found


def capture_image(
    pipe: Any,
    image: Any,
    prompt: str,
    *,
    heads: HeadWeighting = "mean",
    layers: LayerSelection = "all",
    grid: Grid | None = None,
    timestep: float = TIMESTEP,
    generator: torch.Generator | None = None,
    **call: Any,
) -> tuple[AttentionStore, AttentionStore | None]:
    """Captures the attention of a pipeline's denoiser on an image with its prompt. Returns the two stores of `word_map`.

    The stores are text and image in one sequence, and None; or the image's own attention, and the attention to the text. The
    image is noised to a timestep and denoised once (`denoise_image`), and the maps of the layers are averaged as they pass
    (`capture_pipeline`).

    Args:
        pipe, image, prompt, timestep, generator, call: see `denoise_image`.
        heads, layers, grid: see `capture_pipeline`. In the attention to the text all heads and layers on the grid count the
            same.

    Raises:
        AttentionError: as `denoise_image` and `capture_pipeline`.
    """
    joint = pipeline_adapter_of(pipe).joins_text(pipe)
    with ExitStack() as contexts:
        own = contexts.enter_context(
            capture_pipeline(
                pipe, "joint" if joint else "self", grid=grid, layers=layers, heads=heads, prompt=prompt if joint else None
            )
        )
        cross = None if joint else contexts.enter_context(capture_pipeline(pipe, "cross", grid=grid, prompt=prompt))
        denoise_image(pipe, image, prompt, timestep=timestep, generator=generator, **call)
    return own.store, None if cross is None else cross.store


def concept_map(
    pipe: Any, image: Any, prompt: str, word: str, *, steps: int = 2, direction: Direction = "incoming", **options: Any
) -> Tensor:
    """Returns where a concept is in an image (batch, row, column), by a diffusion model that was not trained for it.

    A walk from the concept's word (`word_map`) over the attention of the denoiser (`capture_image`).

    Args:
        pipe, image, prompt, options: see `capture_image`.
        word, steps, direction: see `word_map`.

    Raises:
        AttentionError: as `capture_image` and `word_map`.

    Source: Erel et al. 2025; with one forward on a noised image, Helbling et al., *ConceptAttention*, ICML 2025.
    """
    store, cross = capture_image(pipe, image, prompt, **options)
    return word_map(store, word, steps=steps, direction=direction, cross=cross)
