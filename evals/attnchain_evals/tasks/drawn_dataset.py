"""The base class of data sets that draw their examples from a seed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar, get_args

import numpy as np
import torch
from torch.utils.data import Dataset

from attnchain_interp.checks import check_one_of, check_whole_number
from attnchain_interp.reprs import with_settings

Split = Literal["train", "validation", "test"]
E = TypeVar("E", bound=tuple[Any, ...])

BLOCK: Final = 128
"""The number of examples that are drawn together from one seed. An example does not depend on who asks for it."""


class DrawnDataset(Dataset[E], Generic[E]):
    """Examples that are drawn in blocks. Example i of a split depends on the seed and on i alone.

    Args:
        split: "train", "validation" or "test".
        length: the number of examples.
        seed: of all randomness.
    """

    settings: ClassVar[tuple[str, ...]] = ()
    """The names of further arguments on which the examples depend."""

    def __init__(self, split: Split, length: int, seed: int) -> None:
        check_one_of("split", split, get_args(Split))
        check_whole_number("length", length, "the number of examples")
        self.split: Split = split
        self.length, self.seed = length, seed
        self._cached: tuple[int, E] | None = None

    def __repr__(self) -> str:
        return with_settings(self)

    @property
    def identity(self) -> dict[str, Any]:
        """All on which the examples depend."""
        own = {name: getattr(self, name) for name in ("split", "length", "seed", *self.settings)}
        return {"name": type(self).__name__, **{name: list(v) if isinstance(v, tuple) else v for name, v in own.items()}}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> E:
        if not -self.length <= index < self.length:
            raise IndexError(f"example {index} of {self.length}")
        block, row = divmod(index % self.length, BLOCK)
        if self._cached is None or self._cached[0] != block:
            rng = np.random.default_rng([self.seed, get_args(Split).index(self.split), block])
            self._cached = (block, self.draw(rng))
        drawn = self._cached[1]
        return type(drawn)(*(field[row] for field in drawn))

    def batches(self, batch_size: int) -> Iterator[E]:
        """Yields batches of consecutive examples, all fields with a leading batch axis."""
        for start in range(0, self.length, batch_size):
            rows = [self[i] for i in range(start, min(start + batch_size, self.length))]
            yield type(rows[0])(*(torch.stack(field) for field in zip(*rows, strict=True)))

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> E:
        """Draws `BLOCK` examples, all fields with a leading axis."""
