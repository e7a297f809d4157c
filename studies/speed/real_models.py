"""Trained models for the rows that need them: from where `attnchain fetch` put them, or the row is skipped."""

from __future__ import annotations

from functools import cache
from typing import Any

from attnchain_evals import fetched
from attnchain_interp import AttentionError
from studies.speed.rows import Skipped


@cache
def loaded(name: str, kind: str) -> Any:
    """The model, or the tokenizer, of `attnchain fetch NAME`, by a class of transformers.

    Raises:
        Skipped: it has not been fetched.
    """
    try:
        folder = fetched(name).path
    except AttentionError as missing:
        raise Skipped(f"{name} is not fetched: attnchain fetch {name}") from missing
    import transformers

    found = getattr(transformers, kind).from_pretrained(folder)
    return found.eval().requires_grad_(False) if hasattr(found, "eval") else found
