"""The examples of a benchmark: read by number or in order, and cut into fixed batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol, final

import numpy as np
import torch
from torch import Tensor

from attnchain_interp import AttentionError
from attnchain_interp.reprs import brief, with_fields


class Examples(Protocol):
    """Examples that are read by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


Data = Examples | Iterable[Any]

_FIELDS: Final = ("mask", "label", "words", "sentences", "answers")


class Picture(NamedTuple):
    """An image (channel, height, width), with the mask (height, width) of its object and its class if known."""

    image: Tensor
    mask: Tensor | None = None
    label: int | None = None


class Passage(NamedTuple):
    """A text, with what is known of it.

    Attributes:
        input_ids: (token,) token numbers.
        words: (token,) the word of each token, −1 if it is not ranked. All tokens are ranked when None.
        evidence: (token,) bool, true on the evidence.
        sentences: (token,) the sentence of each token, −1 if it is not ranked.
        answer: the number of the first token of the right answer.
        rest: the numbers of its other tokens.
        explained: (token,) the tokens after the text that are explained together, by the sum of their scores. The next token
            alone when None.
    """

    input_ids: Tensor
    words: Tensor | None = None
    evidence: Tensor | None = None
    sentences: Tensor | None = None
    answer: int | None = None
    rest: tuple[int, ...] = ()
    explained: Tensor | None = None

    def __repr__(self) -> str:
        return with_fields(self)


class Batch(NamedTuple):
    """Consecutive examples.

    Attributes:
        number: of the batch.
        first: the number of its first example.
        inputs: (batch, channel, height, width) images, or (batch, token) texts.
        masks: (batch, height, width) or (batch, token) bool, or None.
        labels: (batch,) classes according to the data, or None.
        words, sentences: (batch, token) for texts, or None.
        answers: (batch, token of the answer) the tokens after each text that are explained together, or None.
    """

    number: int
    first: int
    inputs: Tensor
    masks: Tensor | None
    labels: Tensor | None = None
    words: Tensor | None = None
    sentences: Tensor | None = None
    answers: Tensor | None = None


def batches(data: Data, batch_size: int, limit: int | None, wanted: Callable[[int, int | None], bool]) -> Iterator[Batch]:
    """Yields the wanted batches. Batch b always starts with example b · batch_size.

    Args:
        data: a sequence (`len` and numbers), of which only wanted examples are read, or an iterable, read in order. An example
            is an image, a tuple (image, label, …), an object with `image` and perhaps `mask` and `label` (see `Picture`), or
            one with `input_ids` and perhaps `words`, `evidence`, `sentences` and `explained` (see `Passage`). All texts of a
            batch are equally long, and so are their answers.
        batch_size: examples per batch.
        limit: the number of examples that are read; all when None.
        wanted: the number of a batch, its number of examples (None if unknown) → whether the batch is wanted.
    """
    total = size_of(data, limit)
    if total is None:
        stream, number = islice(data, limit), 0  # type: ignore[arg-type] - no sequence, so an iterable
        while rows := list(islice(stream, batch_size)):
            if wanted(number, len(rows)):
                yield _stacked(number, number * batch_size, rows)
            number += 1
        return
    for number, first in enumerate(range(0, total, batch_size)):
        size = min(batch_size, total - first)
        if wanted(number, size):
            yield _stacked(number, first, [data[k] for k in range(first, first + size)])  # type: ignore[index]


def size_of(data: Any, limit: int | None) -> int | None:
    """Returns the number of examples within the limit. None for data that are read in order."""
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        return None
    return len(data) if limit is None else min(limit, len(data))


def data_identity(data: Any) -> dict[str, Any]:
    """Returns the `identity` of the data."""
    found = getattr(data, "identity", None)
    if found is None:
        raise AttentionError(
            f"the data ({type(data).__name__}) have no `identity`, so kept rows could not be told from those of other data.",
            "Give them one: a JSON value that changes whenever the examples do, such as a digest of the files.",
        )
    return found


def groups_of(data: Any, limit: int | None) -> dict[str, list[int]]:
    """Returns {"groups": the number of each example's group}, where the data know `groups` and one has several examples.

    Raises:
        AttentionError: the `groups` of data of a known length are not one name or number for each example.
    """
    known = getattr(data, "groups", None) if hasattr(data, "__len__") else None
    if known is None:
        return {}
    numbers: dict[Any, int] = {}
    try:
        names = np.asarray(known).tolist()
        groups = [numbers.setdefault(name, len(numbers)) for name in names]
    except (TypeError, ValueError, RuntimeError):
        groups = []
    if len(groups) != len(data):
        raise AttentionError(
            f"the `groups` of the data are {brief(known)}; the data hold {len(data)} examples.",
            "Give one name or number of a group for each example, or call the attribute otherwise.",
        )
    return {"groups": groups[:limit]} if len(set(groups[:limit])) < len(groups[:limit]) else {}


def _stacked(number: int, first: int, rows: list[Any]) -> Batch:
    parts = [_example(row) for row in rows]
    for what in ("inputs", "answers"):
        shapes = {tuple(part[what].shape) for part in parts if part.get(what) is not None}
        if len(shapes) > 1:
            raise AttentionError(
                f"batch {number} has {what} of the shapes {sorted(shapes)}.",
                f"Give all {what} one shape, or pass batch_size=1.",
            )
    fields = (_all_or_none(number, what, [part.get(what) for part in parts]) for what in _FIELDS)
    return Batch(number, first, torch.stack([part["inputs"] for part in parts]), *fields)


def _all_or_none(number: int, what: str, fields: list[Tensor | None]) -> Tensor | None:
    there = [field for field in fields if field is not None]
    if there and len(there) < len(fields):
        raise AttentionError(
            f"batch {number} has {what} for {len(there)} of {len(fields)} examples.", "Give it for all of them, or none."
        )
    return torch.stack(there) if there else None


def _example(row: Any) -> dict[str, Any]:
    if hasattr(row, "image"):
        return {"inputs": row.image, "mask": getattr(row, "mask", None), "label": _label(getattr(row, "label", None))}
    if hasattr(row, "input_ids"):
        mask, words, sentences, answers = (
            getattr(row, name, None) for name in ("evidence", "words", "sentences", "explained")
        )
        return {"inputs": row.input_ids, "mask": mask, "words": words, "sentences": sentences, "answers": answers}
    image, *rest = row if isinstance(row, tuple | list) and row else (row,)
    if not isinstance(image, Tensor) or image.ndim != 3:
        raise AttentionError(
            f"an example is {type(row).__name__}, which holds no image and no tokens.",
            "Pass an image (channel, height, width), a tuple that begins with one, or an object with `image` or `input_ids`."
            " Of prompts and answers make the file of attnchain_evals.Prompts.",
        )
    return {"inputs": image, "label": _label(rest[0]) if rest else None}


def _label(number: Any) -> Tensor | None:
    if number is None:
        return None
    try:
        found = torch.as_tensor(number)
    except (TypeError, ValueError, RuntimeError):
        found = torch.empty(0)
    if found.numel() != 1 or found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise AttentionError(
            f"the label of an example is {brief(number)}, which is not one whole number.",
            "Give the number of its class, or None where it is unknown.",
        )
    return found.view(()).long()


@final
@dataclass(frozen=True)
class Selection:
    """The examples of these numbers, in this order.

    Attributes:
        data: a sequence of examples, with an `identity`.
        numbers: of the examples in the data.
    """

    data: Any
    numbers: Sequence[int]

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": "Selection", "numbers": list(self.numbers), "of": data_identity(self.data)}

    @property
    def groups(self) -> list[int] | None:
        """The numbers of the examples' groups; None if the data know none."""
        known = getattr(self.data, "groups", None)
        return None if known is None else [known[number] for number in self.numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Any:
        return self.data[self.numbers[index]]
