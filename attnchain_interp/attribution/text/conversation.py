"""The messages of a conversation, as a tokenizer's chat template writes them: one text, and where the messages stand in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeGuard

from attnchain_interp.errors import AttentionError

_NUMBER: Final = 7305128469371
"""A message by number from here on, in place of its content: digits, which templates neither trim nor change in case."""


class Conversation(NamedTuple):
    """The text of a conversation, and the spans (start, end) of the messages in it."""

    text: str
    contents: list[tuple[int, int]]


def is_conversation(text: Any) -> TypeGuard[Sequence[Mapping[str, Any]]]:
    """Returns whether a text is given as messages."""
    return (
        isinstance(text, list | tuple) and len(text) > 0 and all(isinstance(each, Mapping) and "role" in each for each in text)
    )


def written(messages: Sequence[Mapping[str, Any]], tokenizer: Any) -> str:
    """Returns the text of messages by the tokenizer's chat template, up to where the model goes on: with its own last message,
    or with an answer.

    Raises:
        AttentionError: a tokenizer without a template, or one that does not take the messages.
    """
    if not callable(getattr(tokenizer, "apply_chat_template", None)):
        raise AttentionError(
            f"text is a list of messages, and {type(tokenizer).__name__} has no apply_chat_template.",
            "Pass one string, as the model was trained to read a conversation.",
        )
    goes_on = messages[-1]["role"] == "assistant"
    try:
        return tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=not goes_on, continue_final_message=goes_on
        )
    except Exception as error:  # templates are code: they raise what they like, as for a role that they do not have
        missing = isinstance(error, ImportError)  # jinja2, or its version that templates need
        fix = (
            "Pass messages that the template takes, set tokenizer.chat_template, or pass one string, as the model was trained"
            " to read a conversation."
        )
        raise AttentionError(
            f"text is a list of messages, and tokenizer.apply_chat_template does not take them: {error}",
            "Install that version of jinja2, or pass one string." if missing else fix,
        ) from error


def conversation_of(text: Any, tokenizer: Any) -> Conversation | None:
    """Returns the conversation that a text is; None for another text, for messages of parts, or where messages are not found.

    The template is filled with numbers, too. The pieces around the numbers are its own, and what stands between the same
    pieces of the text are the messages, also those that the template rewrites.
    """
    if not is_conversation(text) or not all(isinstance(message.get("content"), str) for message in text):
        return None
    whole = written(text, tokenizer)
    numbered = written([{**message, "content": str(_NUMBER + k)} for k, message in enumerate(text)], tokenizer)
    numbers = re.compile("|".join(str(_NUMBER + k) for k in range(len(text))))
    said = [text[int(number) - _NUMBER]["content"] for number in numbers.findall(numbered)]
    contents = spans_between(whole, numbers.split(numbered), said)
    return None if contents is None else Conversation(whole, contents)


def spans_between(text: str, pieces: Sequence[str], said: Sequence[str]) -> list[tuple[int, int]] | None:
    """Returns the spans of messages in a text that begins and ends with the pieces of a template; None where a piece lacks.

    Args:
        text: of the conversation.
        pieces: before the first message, between two messages, and after the last one.
        said: the messages. One that stands in another way in the text ends where the next piece begins.
    """
    first, *others = pieces
    if not text.startswith(first):
        return None
    spans, at = list[tuple[int, int]](), len(first)
    for place, (content, piece) in enumerate(zip(said, others, strict=True), 1):
        end = _end(text, at, content, piece, place == len(said))
        if end is None:
            return None
        spans.append((at, end))
        at = end + len(piece)
    return spans


def _end(whole: str, at: int, content: str, piece: str, last: bool) -> int | None:
    """Returns where a message that begins at a character of the text ends: before a piece of the template."""
    if last:
        end = len(whole) - len(piece)
        return end if end >= at and whole.endswith(piece) else None
    for said in (content, content.strip()):
        if whole.startswith(said + piece, at):
            return at + len(said)
    end = whole.find(piece, at)
    return end if end >= 0 else None
