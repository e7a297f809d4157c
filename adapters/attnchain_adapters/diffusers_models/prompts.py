"""The tokens of a prompt that a pipeline's text encoders see."""

from __future__ import annotations

from typing import Any

from attnchain_interp import AttentionError


def prompt_tokens(pipe: Any, prompt: str, length: int) -> list[str]:
    """Returns the labels of the `length` text tokens that the denoiser is given for a prompt.

    FLUX reads its second tokenizer (T5), Stable Diffusion 3 the first (CLIP) and then the third (T5), others their only or
    first one. Padding is labelled as the tokenizer calls it.

    Raises:
        AttentionError: a pipeline without a tokenizer; a prompt that is cut off.
    """
    if getattr(pipe, "tokenizer", None) is None:
        raise AttentionError(
            f"{type(pipe).__name__} has no tokenizer, so its text tokens have no labels.", "Leave out prompt=…."
        )
    if getattr(pipe, "tokenizer_3", None) is not None:
        first = min(pipe.tokenizer.model_max_length, length)
        return _tokens(pipe.tokenizer, prompt, first) + (_tokens(pipe.tokenizer_3, prompt, length - first))
    joint = type(pipe).__name__.startswith("Flux") and getattr(pipe, "tokenizer_2", None) is not None
    return _tokens(pipe.tokenizer_2 if joint else pipe.tokenizer, prompt, length)


def _tokens(tokenizer: Any, prompt: str, length: int) -> list[str]:
    whole = tokenizer(prompt, add_special_tokens=True).input_ids
    if len(whole) > length:
        lost = tokenizer.decode(whole[length - 1 :], skip_special_tokens=True)
        raise AttentionError(
            f"the prompt has {len(whole)} tokens and the model reads {length}; it never sees {lost!r}.", "Shorten the prompt."
        )
    padded = tokenizer(prompt, padding="max_length", max_length=length, truncation=True).input_ids
    return tokenizer.convert_ids_to_tokens(padded)
