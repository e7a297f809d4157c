"""The bundled task of text: look up a key among key–value pairs. The tokens that hold the answer are known."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from attnchain_evals.tasks.drawn_dataset import BLOCK, DrawnDataset, Split
from attnchain_interp import AttentionError
from attnchain_interp.reprs import with_fields

PAD: Final = 0
START: Final = 1
QUESTION: Final = 2
KEYS: Final = range(4, 20)
VALUES: Final = range(20, 36)
FILLERS: Final = range(36, 64)
VOCABULARY: Final = 64
CONTEXT: Final = 24  # tokens between the start and the question
TOKENS: Final = CONTEXT + 3
MOST_PAIRS: Final = 6
_LONE: Final = 2  # keys without a value, and as many values without a key
_DOUBLES: Final = MOST_PAIRS + 2 * _LONE  # items of two tokens
_SINGLES: Final = CONTEXT - 2 * _DOUBLES  # items of one filler
_RESIDUES: Final[dict[Split, tuple[int, ...]]] = {"train": (0, 1), "validation": (2,), "test": (3,)}


class TextExample(NamedTuple):
    """One example, or a batch of them with a leading axis.

    `input_ids` (token,). `label` is the number of the answer among `VALUES`: the class of an encoder, the next token of a
    decoder. `evidence` (token,) is true at the asked key and its value in the context. `query` (token,) is true at the
    question mark and the key after it.
    """

    input_ids: Tensor
    label: Tensor
    evidence: Tensor
    query: Tensor

    def __repr__(self) -> str:
        return with_fields(self)

    @property
    def answer(self) -> Tensor:
        """The token number of the answer: the right next token of a decoder."""
        return self.label + VALUES.start

    @property
    def context(self) -> Tensor:
        """(…, token): true at the tokens that an attribution may rank, which are all but the start and the query."""
        return ~self.query & (self.input_ids != START)

    @property
    def words(self) -> Tensor:
        """(…, token): the number of each token of the context, where each token is a word; −1 for the others."""
        return (self.context.cumsum(-1) - 1).masked_fill(~self.context, -1)


class KeyValues(DrawnDataset[TextExample]):
    """Sequences `start … key value … filler … ? key` whose answer is the value that follows this key in the context.

    The context holds 24 tokens in random order: pairs of a key and its value, two keys without a value, two values without a
    key, and fillers. No key or value comes twice in it, and any pair may be asked, so neither frequency nor position of a
    value reveals the answer. A sequence has 27 tokens of a vocabulary of 64, without padding. Example i of a split depends on
    the seed and on i alone, not on batch size or order.

    No sequence is in two splits, for any seeds: the sum of its token numbers is 0 or 1 modulo 4 in "train", 2 in "validation",
    3 in "test". One filler is chosen so.

    Args:
        split: "train", "validation" or "test".
        length: the number of examples.
        seed: of all randomness.
        pairs: the least and the greatest number of pairs, between 1 and 6. All numbers between have the same probability.

    Raises:
        AttentionError: an unknown split, a length below one, or numbers of pairs out of range.
    """

    settings = ("pairs",)

    def __init__(self, split: Split = "test", length: int = 512, *, seed: int = 0, pairs: tuple[int, int] = (3, 6)) -> None:
        super().__init__(split, length, seed)
        if not 1 <= pairs[0] <= pairs[1] <= MOST_PAIRS:
            raise AttentionError(
                f"pairs is {pairs}; the least and the greatest number lie between 1 and {MOST_PAIRS}.", "Pass pairs=(3, 6)."
            )
        self.pairs = pairs

    def labels(self, input_ids: Tensor) -> list[str]:
        """Returns the words that reports show. See `as_words`."""
        return as_words(input_ids)

    def draw(self, rng: np.random.Generator) -> TextExample:
        n, items = BLOCK, _DOUBLES + _SINGLES
        keys = rng.permuted(np.tile(KEYS, (n, 1)), axis=1)[:, : MOST_PAIRS + _LONE]
        values = rng.permuted(np.tile(VALUES, (n, 1)), axis=1)[:, : MOST_PAIRS + _LONE]
        count = rng.integers(self.pairs[0], self.pairs[1] + 1, size=n)
        present = np.arange(MOST_PAIRS) < count[:, None]

        words = rng.integers(FILLERS.start, FILLERS.stop, size=(n, items, 2))
        paired, lone_keys, lone_values = np.split(np.arange(_DOUBLES), [MOST_PAIRS, MOST_PAIRS + _LONE])
        words[:, paired] = np.where(present[..., None], np.stack([keys, values], -1)[:, paired], words[:, paired])
        words[:, lone_keys, 0] = keys[:, MOST_PAIRS:]
        words[:, lone_values, 1] = values[:, MOST_PAIRS:]
        there = np.ones((n, items, 2), bool)
        there[:, _DOUBLES:, 1] = False
        asked = np.zeros((n, items, 2), bool)
        asked[:, 0] = True

        others = (words * there).sum((1, 2)) - words[:, -1, 0] + START + QUESTION + keys[:, 0]
        residue = rng.choice(_RESIDUES[self.split], size=n)
        words[:, -1, 0] = FILLERS.start + 4 * rng.integers(len(FILLERS) // 4, size=n) + (residue - others) % 4

        order = rng.permuted(np.tile(np.arange(items), (n, 1)), axis=1)[..., None]
        words, there, asked = (np.take_along_axis(field, order, 1) for field in (words, there, asked))
        ids = np.empty((n, TOKENS), np.int64)
        ids[:, 0], ids[:, -2], ids[:, -1] = START, QUESTION, keys[:, 0]
        ids[:, 1:-2] = words[there].reshape(n, CONTEXT)
        evidence, query = np.zeros((2, n, TOKENS), bool)
        evidence[:, 1:-2] = asked[there].reshape(n, CONTEXT)
        query[:, -2:] = True
        label = values[:, 0] - VALUES.start
        return TextExample(*map(torch.from_numpy, (ids, label, evidence, query)))


def as_words(input_ids: Tensor) -> list[str]:
    """Returns token numbers (token,) as words: "<start>", "k3" for a key, "v7" for a value, "w12" for a filler, "?"."""
    names = {PAD: "<pad>", START: "<start>", QUESTION: "?"}
    for letter, numbers in (("k", KEYS), ("v", VALUES), ("w", FILLERS)):
        names |= {number: f"{letter}{place}" for place, number in enumerate(numbers)}
    return [names[number] for number in input_ids.tolist()]
