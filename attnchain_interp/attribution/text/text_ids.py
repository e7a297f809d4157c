"""The token ids of one text: of a string, of the messages of a conversation, or given as ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import torch
from captum.attr import TextTokenInput
from torch import Tensor

from attnchain_interp.attribution.text.conversation import is_conversation, written
from attnchain_interp.errors import AttentionError

Text = str | TextTokenInput | Sequence[Mapping[str, Any]] | Mapping[str, Any] | Tensor | Sequence[int]

_TOKENIZER: Final = ("__call__", "encode", "decode", "convert_ids_to_tokens")
_KINDS: Final = "a string, a list of messages (role and content), token ids, or a captum TextTokenInput"


def input_of(text: Any, tokenizer: Any, add_special_tokens: bool | None) -> TextTokenInput:
    """Returns Captum's input of a text.

    Args:
        text: see `TextAttribution.attribute`.
        tokenizer: of the model.
        add_special_tokens: whether the tokenizer adds its special tokens to a string. None adds those that the string does not
            begin or end with.
    """
    if isinstance(text, TextTokenInput):
        _check_no_choice(add_special_tokens)
        return text
    if not isinstance(text, str) and not is_conversation(text):
        ids = _given(text)
        if ids and min(ids) < 0:
            raise AttentionError(f"text holds the token number {min(ids)}.", "Pass numbers from 0 on.")
        check_tokenizer(tokenizer)
        _check_no_choice(add_special_tokens)
        return _with_ids("", tokenizer, ids)
    check_tokenizer(tokenizer)
    if not isinstance(text, str):
        text, add_special_tokens = written(text, tokenizer), bool(add_special_tokens)
    if not text.strip():
        raise AttentionError(f"text is {text!r}; an empty prompt has no tokens to score.", "Pass at least one word.")
    if add_special_tokens is None:
        ids = _once(tokenizer.encode(text), tokenizer.encode(text, add_special_tokens=False))
    else:
        ids = tokenizer.encode(text, add_special_tokens=add_special_tokens)
    return _with_ids(text, tokenizer, ids)


def check_tokenizer(tokenizer: Any) -> None:
    """Refuses None, and an object without the methods of a tokenizer."""
    absent = [name for name in _TOKENIZER if not callable(getattr(tokenizer, name, None))]
    if absent:
        held = "None" if tokenizer is None else f"{type(tokenizer).__name__}, which lacks {', '.join(absent)}"
        raise AttentionError(
            f"tokenizer is {held}. A text needs the model's tokenizer.",
            "Pass tokenizer=AutoTokenizer.from_pretrained(…), or a captum TextTokenInput, which brings its own.",
        )


def _once(every: list[int], own: list[int]) -> list[int]:
    """Returns the ids of a text with the special tokens that it lacks.

    Args:
        every: its ids with all special tokens that the tokenizer adds.
        own: its ids without them.
    """
    places = (k for k in range(len(every) - len(own) + 1) if every[k : k + len(own)] == own)
    first = next(places, None)
    if first is None:
        return every
    before, after = every[:first], every[first + len(own) :]
    begins, ends = own[: len(before)] == before, own[len(own) - len(after) :] == after
    return ([] if begins else before) + own + ([] if ends else after)


def _given(text: Any) -> list[int]:
    """Returns the ids of one text that is given as ids, or as what a tokenizer returns."""
    if isinstance(text, Mapping):
        return _of_encoding(text)
    if isinstance(text, list | tuple) and text and not all(isinstance(each, int) for each in text):
        each = "[method.attribute_text(each, …) for each in text]"
        fix = f"Write {each}." if all(isinstance(one, str) for one in text) else f"Pass {_KINDS}."
        raise AttentionError(f"text is {len(text)} texts; attribute them one by one.", fix)
    try:
        ids = torch.as_tensor(text, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        ids = torch.empty(0, 0, 0, device="cpu")
    if ids.ndim == 2 and len(ids) > 1:
        raise AttentionError(f"text is {len(ids)} texts; attribute them one by one.", "Pass the ids of one: ids[:1].")
    ids = ids[0] if ids.ndim == 2 and len(ids) == 1 else ids
    if ids.ndim != 1 or ids.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8):
        raise AttentionError(f"text is a {type(text).__name__}. It must be {_KINDS}.", "Pass one string.")
    return ids.tolist()


def _of_encoding(encoding: Mapping[str, Any]) -> list[int]:
    if "input_ids" not in encoding:
        fix = "Put the message into a list: [text]." if "role" in encoding else "Pass what the tokenizer returns."
        raise AttentionError(f"text holds {', '.join(map(repr, encoding))}, and no 'input_ids'.", fix)
    ids = encoding["input_ids"]
    ids = ids[0] if isinstance(ids, list) and len(ids) == 1 and isinstance(ids[0], list) else ids
    found = _given(ids)
    for name, value in encoding.items():
        expected = {"attention_mask": 1, "token_type_ids": 0}.get(name)
        if name != "input_ids" and (expected is None or bool((torch.as_tensor(value) != expected).any())):
            why = (
                "masks some of its tokens" if name == "attention_mask" else f"has {name}, which go to the model beside the ids"
            )
            raise AttentionError(
                f"the encoding {why}; attribute_text passes token ids alone.",
                'Tokenize one text without padding, or use attribute(encoding["input_ids"], output="tokens",'
                f' model_kwargs={{"{name}": encoding["{name}"]}}).',
            )
    return found


def _check_no_choice(add_special_tokens: bool | None) -> None:
    if add_special_tokens is not None:
        raise AttentionError(
            f"add_special_tokens={add_special_tokens} is for a string, and the text is given as token ids.",
            "Leave add_special_tokens out.",
        )


def _with_ids(text: str, tokenizer: Any, ids: list[int]) -> TextTokenInput:
    made = TextTokenInput(text, _Encoded(tokenizer, ids))  # type: ignore[arg-type]
    made.tokenizer = tokenizer
    return made


@final
class _Encoded:
    """A tokenizer whose text has these ids."""

    def __init__(self, tokenizer: Any, ids: list[int]) -> None:
        self._ids = ids
        self.convert_ids_to_tokens = tokenizer.convert_ids_to_tokens

    def encode(self, text: str, return_tensors: str) -> Tensor:
        return torch.tensor([self._ids], dtype=torch.long, device="cpu")
