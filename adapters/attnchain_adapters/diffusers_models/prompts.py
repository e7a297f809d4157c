"""The tokens of prompts that a pipeline's text encoders see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from torch import Tensor

from attnchain_adapters.diffusers_models.families import Family
from attnchain_interp import AttentionError
from attnchain_interp.reprs import counted

_SAME: Final = 0.05  # the greatest distance, as a share of its length, between states of a token of one prompt in one batch


def labels_of(
    pipe: Any, family: Family, prompt: str | Sequence[str], states: Tensor, mask: Tensor | None = None
) -> list[list[str]]:
    """Returns the labels of the text tokens of each example.

    Args:
        pipe, family: the pipeline, and the family of its denoiser.
        prompt: of all examples; or a list of prompts, each of as many examples that follow one another.
        states: (example, token, width), the text that the denoiser is given.
        mask: (example, token), which of the tokens it reads; None for all.

    Raises:
        AttentionError: no prompts, or not as many as the examples say; examples of one prompt with different texts; as
            `prompt_tokens`.
    """
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(prompts, Sequence) or not prompts or not all(isinstance(each, str) for each in prompts):
        raise AttentionError(
            f"prompt is {prompt!r}; it is a text, or a list of texts.", "Pass the prompt of the pipeline's call."
        )
    if len(states) % len(prompts):
        raise AttentionError(
            f"there are {counted(len(prompts), 'prompt')} for {counted(len(states), 'image')}.",
            "Pass those of the pipeline's call.",
        )
    each = len(states) // len(prompts)
    for own in states.float().split(each):
        if bool(((own - own[:1]).norm(dim=-1) > _SAME * own[:1].norm(dim=-1)).any()):
            raise AttentionError(
                f"the {len(own)} images of one prompt read different texts.",
                "Pass the list of all prompts of the call: prompt=[…].",
            )
    read = [None] * len(states) if mask is None else mask.sum(1).tolist()
    return [prompt_tokens(pipe, family, prompts[k // each], states[k], read[k]) for k in range(len(states))]


def prompt_tokens(pipe: Any, family: Family, prompt: str, states: Tensor, read: int | None = None) -> list[str]:
    """Returns the labels of the text tokens that the denoiser is given for a prompt.

    Padding is labelled as the tokenizer calls it. Tokens of no encoder (zeros in place of T5) have empty labels.

    Args:
        pipe, family, prompt: the pipeline, the family of its denoiser, and the prompt.
        states: (token, width), the text that the denoiser is given.
        read: how many of the tokens are no padding, where that is known.

    Raises:
        AttentionError: a pipeline without a tokenizer; a prompt that is cut off, or has another number of tokens.
    """
    name, *more = family.tokenizers
    first = next(
        (found for each in (name, "tokenizer", "tokenizer_2") if (found := getattr(pipe, each, None)) is not None), None
    )
    if first is None:
        raise AttentionError(
            f"{type(pipe).__name__} has no tokenizer, so its text tokens have no labels.", "Leave out prompt=…."
        )
    if hasattr(pipe, "_text_preprocessing"):  # PixArt writes it in small letters
        prompt = pipe._text_preprocessing(prompt)[0]
    if not more:
        return _tokens(pipe, first, prompt, len(states), read)
    length = min(first.model_max_length, len(states))
    second, rest = getattr(pipe, more[0], None), states[length:]
    if second is None or not bool(rest.any()):
        return _tokens(pipe, first, prompt, length) + [""] * len(rest)
    return _tokens(pipe, first, prompt, length, cut=True) + _tokens(pipe, second, prompt, len(rest))


def _tokens(pipe: Any, tokenizer: Any, prompt: str, length: int, read: int | None = None, cut: bool = False) -> list[str]:
    if hasattr(pipe, "maybe_convert_prompt"):  # a word of a textual inversion has several vectors
        prompt = pipe.maybe_convert_prompt(prompt, tokenizer)
    whole = tokenizer(prompt, add_special_tokens=True).input_ids
    if len(whole) > length and not cut:
        lost = tokenizer.decode(whole[length - 1 :], skip_special_tokens=True)
        raise AttentionError(
            f"the prompt has {len(whole)} tokens and the model reads {length}; it never sees {lost!r}.", "Shorten the prompt."
        )
    if read not in (None, len(whole)):
        raise AttentionError(
            f"the prompt has {len(whole)} tokens, and the text that the denoiser is given has {read}.",
            "Pass the prompt of the pipeline's call, written as its encoder reads it (clean_caption=False).",
        )
    padded = tokenizer(prompt, padding="max_length", max_length=length, truncation=True).input_ids
    return tokenizer.convert_ids_to_tokens(padded)
