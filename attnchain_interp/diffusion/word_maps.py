"""From a word of the prompt to its region of the image: zero-shot segmentation by a walk through text and image."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from attnchain_interp.chain.functionals import bounce
from attnchain_interp.diffusion.pipelines import TIMESTEP, HeadWeights, capture_pipeline, denoise_image, pipeline_adapter_of
from attnchain_interp.diffusion.prompt_words import tokens_of_word
from attnchain_interp.errors import AttentionError
from attnchain_interp.store.attention_store import AttentionStore, Direction
from attnchain_interp.store.layers import LayerSelection
from attnchain_interp.store.tokens import Grid


def word_map(
    store: AttentionStore,
    word: str,
    steps: int = 2,
    direction: Direction = "incoming",
    cross: AttentionStore | None = None,
) -> Tensor:
    """Where on the image a walk from a word is after some steps: (batch, row, column), on the grid of the tokens.

    The walk starts at the tokens of the word, equally likely. Over text and image in one sequence it is v Pⁿ; one step is the
    mean row of these tokens ("incoming") or their mean column, each normalised ("outgoing"). Where the image attends to the
    text from outside, the first step is the sum of the word's columns of `cross`, normalised, and n − 1 steps over the image's
    own chain follow.

    Args:
        store: of text and image in one sequence, with labels; or of the image alone, with `cross`. Layers and heads are
            averaged (`capture_pipeline`, of a sampling or of `denoise_image`, holds one mean).
        word: of the prompt; all tokens of it, at every place.
        steps: n, one or more.
        direction: of the chain, as in `AttentionStore.chain`.
        cross: from the image, on the same grid, to the text, with labels.

    Raises:
        AttentionError: a word that is not in the prompt or text without labels; no grid, or grids that differ; no steps.

    Source: Erel et al., *Attention (as Discrete-Time Markov) Chains*, NeurIPS 2025 (bounces from the class's word).
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise AttentionError(f"steps is {steps!r}; the walk from a word to the image needs one or more.")
    if cross is None:
        chain = store.chain(tokens="all", direction=direction)
        start = torch.zeros(len(store.tokens))
        start[tokens_of_word(store.tokens, word)] = 1
        return store.tokens.to_grid(bounce(chain, start / start.sum(), steps))
    grids = store.tokens.grid, None if cross.queries is None else cross.queries.grid
    if grids[0] != grids[1]:
        raise AttentionError(f"the image's own attention is on the grid {grids[0]}, and that to the text on {grids[1]}.")
    columns = cross.maps().float().mean((1, 2))[..., tokens_of_word(cross.tokens, word)].sum(-1)
    start = columns / columns.sum(-1, keepdim=True)
    return store.tokens.to_grid(bounce(store.chain(direction=direction), start, steps - 1))


def capture_image(
    pipe: Any,
    image: Any,
    prompt: str,
    heads: HeadWeights = "mean",
    layers: LayerSelection = "all",
    grid: Grid | None = None,
    timestep: float = TIMESTEP,
    generator: torch.Generator | None = None,
    **call: Any,
) -> tuple[AttentionStore, AttentionStore | None]:
    """What a pipeline's denoiser attends to in a given image with its prompt, as `word_map` takes it: two stores of one map.

    Text and image in one sequence, and None; or where the image attends to the text from outside, the image's own attention
    and that to the text. The image is noised to a timestep and shown to the denoiser once (`denoise_image`), and the maps of
    its layers are averaged as they pass (`capture_pipeline`).

    Args:
        pipe, image, prompt, timestep, generator, call: as in `denoise_image`.
        heads, layers, grid: as in `capture_pipeline`; of the attention to the text, all heads and layers on the grid count
            the same.

    Raises:
        AttentionError: as these.
    """
    joint = pipeline_adapter_of(pipe).joins_text(pipe)
    with ExitStack() as contexts:
        own = contexts.enter_context(
            capture_pipeline(pipe, "joint" if joint else "self", grid, layers, heads=heads, prompt=prompt if joint else None)
        )
        cross = None if joint else contexts.enter_context(capture_pipeline(pipe, "cross", grid, prompt=prompt))
        denoise_image(pipe, image, prompt, timestep, generator, **call)
    return own.store, None if cross is None else cross.store


def concept_map(
    pipe: Any,
    image: Any,
    prompt: str,
    word: str,
    steps: int = 2,
    direction: Direction = "incoming",
    **options: Any,
) -> Tensor:
    """Where a concept is in an image, by a diffusion model that was never trained for it: (batch, row, column).

    A walk from the concept's word (`word_map`) over what the denoiser attends to (`capture_image`).

    Args:
        pipe, image, prompt, options: as in `capture_image`.
        word, steps, direction: as in `word_map`.

    Raises:
        AttentionError: as these.

    Source: Erel et al. 2025; with one forward on a noised image, Helbling et al., *ConceptAttention*, ICML 2025.
    """
    store, cross = capture_image(pipe, image, prompt, **options)
    return word_map(store, word, steps, direction, cross)
