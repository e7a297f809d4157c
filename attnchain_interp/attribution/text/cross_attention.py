"""Cross-attention as a text result: what a decoder attends to in the source, token by token."""

from __future__ import annotations

from typing import Any

import torch

from attnchain_interp.attribution.text.result import TextAttributionResult
from attnchain_interp.attribution.text.spelling import Spelling, spelling_of
from attnchain_interp.checks import check_position
from attnchain_interp.errors import AttentionError
from attnchain_interp.reprs import counted
from attnchain_interp.store import AttentionStore, LayerSelection, Role, TokenLayout
from attnchain_interp.store.label_texts import label_texts
from attnchain_interp.store.layers import check_store


def cross_attention(
    store: AttentionStore,
    tokenizer: Any = None,
    *,
    layers: LayerSelection = "all",
    head: int | None = None,
    example: int = 0,
) -> TextAttributionResult:
    """Returns the cross-attention of an encoder–decoder: target × source, with both texts, for every text picture.

    Each row is the attention of the position that reads a target token: it writes the token after it. Special tokens have the
    place of a chat template: they are grey in pictures, and out of the scale.

    Args:
        store: a capture with `Reading(kind="cross", tokenizer=…)`.
        tokenizer: spells the tokens. None takes the labels without the marks of their tokenizer.
        layers: whose mean is shown. See `AttentionStore.select`.
        head: a head by number; None is the mean of all.
        example: number of the example in the batch.

    Raises:
        AttentionError: a store whose queries are not other tokens, or that has no labels; or no such layer, head or example.

    >>> from attnchain_interp import TokenLayout
    >>> source, target = (TokenLayout.text(torch.ones(1, len(each)), labels=[each]) for each in (["▁a", "▁cat"], ["▁chat"]))
    >>> cross = AttentionStore.from_maps([torch.tensor([[[[0.25, 0.75]]]])], source, queries=target)
    >>> cross_attention(cross).top()
    [('cat', 0.75), ('a', 0.25)]
    """
    check_store(store)
    queries = store.queries
    if queries is None:
        raise AttentionError(
            "the store holds attention of a sequence to itself.", 'Capture with reading=ac.Reading(kind="cross", tokenizer=…).'
        )
    example = check_position("example", example, store.batch)
    chosen = store.select(layers)
    maps = [layer.maps[example] for layer in chosen]
    if head is not None:
        maps = [each[check_position("head", head, len(each))][None] for each in maps]
    rows = torch.stack([each.double().mean(0) for each in maps]).mean(0).cpu()
    (sources, source), (targets, target) = (_spelling(each, tokenizer, example) for each in (store.tokens, queries))
    of = "mean of all heads" if head is None else f"head {head}"
    return TextAttributionResult(
        input_tokens=sources,
        output_tokens=targets,
        token_attr=rows[queries.mask[example].cpu()][:, store.tokens.mask[example].cpu()],
        policy=f"cross-attention of {counted(len(chosen), 'layer')}, {of}: a row is the position that reads its token",
        spelling=source,
        output_spelling=target,
    )


def _spelling(tokens: TokenLayout, tokenizer: Any, example: int) -> tuple[list[str], Spelling]:
    """Returns the labels of the tokens that are no padding, and their spelling."""
    if tokens.labels is None:
        raise AttentionError("the tokens of the store have no labels.", "Capture with reading=ac.Reading(…, tokenizer=…).")
    places = tokens.mask[example].nonzero()[:, 0].tolist()
    labels = [tokens.labels[example][place] for place in places]
    special = [int(tokens.roles[example, place]) == Role.SPECIAL for place in places]
    if tokenizer is not None:
        return labels, Spelling(spelling_of(tokenizer.convert_tokens_to_ids(labels), tokenizer).pieces, special)
    return labels, Spelling(label_texts(labels), special)
