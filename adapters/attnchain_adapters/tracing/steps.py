"""The steps of a generation put together: each adds the rows of its new tokens to the maps of a layer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from attnchain_adapters.tracing.shown_attention import Attention

# path of a layer → its maps so far, who is not padding, and the cached keys of a head
Rows = dict[str, tuple[Tensor, Tensor | None, Tensor | None]]


def whole(attention: Attention, rows: Rows | None, path: str, step: int = 0) -> Attention:
    """Returns the attention of all tokens so far, and keeps it in `rows`.

    Step 0 attends from the prompt to itself, each later one from its new tokens to all before them and to themselves; without
    a cache, from all to all.

    Raises:
        ValueError: maps that are not square and do not follow on what `rows` holds, beams, and a later step of another text.
    """
    one = attention.maps(slice(0, 1))
    queries, keys = one.shape[-2:]
    before = rows[path][0].shape[-1] if rows and path in rows else 0
    if queries == keys and step and (attention.cached is not None or before >= keys):
        raise ValueError(
            f"{path} attends in step {step} from {keys} tokens to themselves alone: this is another text than that of the"
            " steps before. Classifier-free guidance runs the model twice for each token, with the prompt and without it."
            " Choose the steps of the prompt, tracer.iter[[0, 2, 4]], or trace one forward over the finished text."
        )
    if queries == keys and rows is None:
        return attention
    maps, unpadded = attention.maps(slice(None)), attention.keys
    if queries != keys:
        earlier, unpadded, kept = (rows or {}).get(path, (maps[..., :0, :0], None, None))
        if earlier.shape[:2] != maps.shape[:2] or earlier.shape[-1] == 0 or earlier.shape[-1] + queries != keys:
            raise ValueError(
                f"{path} attends from {queries} of {keys} tokens, and a chain needs the rows of all; {earlier.shape[-1]}"
                " earlier ones are kept. In a generation keep the rows of every step: rows = {} before the loop over"
                " tracer.iter[:], and rows=rows in the call. Cross-attention, and steps with a sliding or static cache or with"
                " drafted tokens, are not a chain: leave that layer out, or trace one forward over the finished text."
            )
        if kept is not None and attention.cached is not None and not _same(kept, attention.cached, queries):
            raise ValueError(
                f"{path} has other keys of the tokens before this step than in the step before: a search with beams changes"
                " among several texts, so its steps are not those of one. Use num_beams=1, or trace one forward over the"
                " finished text."
            )
        maps = torch.cat([F.pad(earlier, (0, queries)), maps], -2)
        unpadded = None if unpadded is None else F.pad(unpadded, (0, queries), value=True)
    if rows is not None:
        rows[path] = maps, unpadded, None if attention.cached is None else attention.cached.clone()
    return Attention(lambda heads: maps[:, heads], attention.heads, unpadded)


def _same(before: Tensor, after: Tensor, new: int) -> bool:
    """Whether cached keys (batch, token, width) are those of the step before, with `new` tokens at their end.

    A sliding cache drops the first ones.
    """
    old = after[:, : max(after.shape[1] - new, 0)]
    both = min(before.shape[1], old.shape[1])
    return torch.equal(before[:, before.shape[1] - both :], old[:, old.shape[1] - both :])
