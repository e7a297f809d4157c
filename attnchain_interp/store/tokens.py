"""The layout of the tokens of a sequence: roles, image grid, labels, padding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from attnchain_interp.checks import WHOLE, check_position, check_tensor, check_whole_number
from attnchain_interp.errors import AttentionError
from attnchain_interp.reprs import counted
from attnchain_interp.store.layout_checks import Grid, check_labels, checked_grid, checked_pair, checked_roles, shape_of_labels
from attnchain_interp.store.roles import Role

TokenSelection = str | Role | Sequence[int] | Sequence[str] | Tensor | None


@final
@dataclass(frozen=True, eq=False)
class TokenLayout:
    """The role of every token, for every example of a batch.

    Attributes:
        roles: (batch, token) `Role` codes, uint8.
        grid: (rows, columns) of the patch tokens, row by row, when they cover an image.
        labels: one list of strings per example (the tokens as text), or None.
        any_length: a text of one token stands for a text of any number of tokens. See `fitted`.

    Raises:
        AttentionError: roles of another shape or with unknown codes, a grid that does not match the number of patches,
            labels that do not match the roles, or an example made of padding alone.
    """

    roles: Tensor
    grid: Grid | None = None
    labels: list[list[str]] | None = field(default=None, repr=False)
    any_length: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check_tensor("roles", self.roles, "(batch, token)")
        if self.roles.ndim != 2 or 0 in self.roles.shape:
            raise AttentionError(
                f"roles has shape {tuple(self.roles.shape)}; it must be (batch, token), none empty.", "Use TokenLayout.text."
            )
        if self.roles.dtype not in WHOLE or self.roles.min() < 0 or self.roles.max() > max(Role):
            raise AttentionError(f"roles holds codes outside 0…{max(Role)}.", "Build it from `Role` members.")
        object.__setattr__(self, "roles", self.roles.to(torch.uint8))
        if not self.mask.any(1).all():
            raise AttentionError("an example has only padding.", "Give every example a token that is not Role.PAD.")
        if self.grid is not None:
            object.__setattr__(self, "grid", checked_grid(self.grid, self.roles == Role.PATCH))
        if self.labels is not None:
            check_labels(self.labels, *self.roles.shape)
            object.__setattr__(self, "labels", [list(row) for row in self.labels])

    @classmethod
    def image(
        cls,
        batch: int = 1,
        grid: Grid = (1, 1),
        prefix: Sequence[Role | str] = (),
        *,
        suffix: Sequence[Role | str] = (),
        class_token: bool = False,
    ) -> TokenLayout:
        """Returns the layout of prefix tokens (class, registers), the patches of an image, and suffix tokens (queries).

        Args:
            batch: the number of images. One image stands for a batch of any size in `Reading(tokens=…)`.
            grid: (rows, columns) of the patches.
            prefix, suffix: the roles of the tokens before and after the patches, such as ["class", "register"].
            class_token: puts a class token before the prefix.

        >>> TokenLayout.image(grid=(1, 2), class_token=True).roles.tolist()
        [[0, 2, 2]]
        """
        check_whole_number("batch", batch, "the number of images")
        rows, columns = checked_pair(grid)
        before, after = checked_roles("prefix", prefix), checked_roles("suffix", suffix)
        roles = [*[Role.CLASS] * bool(class_token), *before, *[Role.PATCH] * (rows * columns), *after]
        return cls(torch.tensor(roles, dtype=torch.uint8, device="cpu").expand(batch, -1), (rows, columns))

    @classmethod
    def text(cls, mask: Tensor | None = None, labels: list[list[str]] | None = None) -> TokenLayout:
        """Returns the layout of text tokens where `mask` (batch, token) is true, and padding elsewhere.

        Without a mask every token with a label is a text token. Without labels, too, it is a text of any length, for
        `Reading(tokens=TokenLayout.text())`.
        """
        if mask is None:
            if labels is None:
                return cls(torch.tensor([[int(Role.TEXT)]], device="cpu"), any_length=True)
            mask = torch.ones(*shape_of_labels(labels), device="cpu")
        check_tensor("mask", mask, "(batch, token)")
        return cls(torch.where(mask.bool(), int(Role.TEXT), int(Role.PAD)), labels=labels)

    def fitted(self, batch: int, tokens: int) -> TokenLayout:
        """Returns the layout of a batch. One example stands for each example, a text of any length for one of `tokens` tokens.

        >>> TokenLayout.text().fitted(2, 3).roles.tolist()
        [[3, 3, 3], [3, 3, 3]]
        """
        if self.any_length:
            return TokenLayout.text(torch.ones(batch, tokens, device="cpu"))
        if self.batch != 1 or batch == 1:
            return self
        labels = None if self.labels is None else self.labels * batch
        return TokenLayout(self.roles.expand(batch, -1), self.grid, labels)

    @property
    def written(self) -> str:
        """The expression that makes this layout for any batch, for messages."""
        roles = [Role(code) for code in self.roles[0].tolist()]
        before = roles.index(Role.PATCH) if self.grid is not None else 0
        if self.grid is None or roles[before:] != [Role.PATCH] * (len(roles) - before):
            return "TokenLayout.text()" if set(roles) <= {Role.TEXT, Role.PAD} else "TokenLayout(your_roles)"
        prefix = f", prefix=[{', '.join(f'ac.Role.{role.name}' for role in roles[:before])}]" if before else ""
        return f"TokenLayout.image(grid={self.grid}{', class_token=True' if roles[:before] == [Role.CLASS] else prefix})"

    def __len__(self) -> int:
        return self.roles.shape[1]

    def __repr__(self) -> str:
        return f"TokenLayout(batch {self.batch}, {self.described})"

    @property
    def described(self) -> str:
        """The number of tokens of each role in the first example: "197 tokens: 1 class, 196 patch; grid 14×14"."""
        codes = self.roles[0].tolist()
        roles = ", ".join(f"{codes.count(role)} {role.name.lower()}" for role in Role if role in codes)
        same = bool((self.roles == self.roles[:1]).all())
        grid = f"; grid {self.grid[0]}×{self.grid[1]}" if self.grid else ""
        return f"{counted(len(self), 'token')}: {roles}{'' if same else ' in the first example'}{grid}"

    @property
    def batch(self) -> int:
        return self.roles.shape[0]

    @property
    def mask(self) -> Tensor:
        """Marks the tokens that are not padding: (batch, token) bool."""
        return self.roles != Role.PAD

    @property
    def last(self) -> Tensor:
        """The position of the last token that is not padding, (batch,)."""
        return (self.mask * torch.arange(1, len(self) + 1, device=self.roles.device)).argmax(1)

    def select(self, tokens: TokenSelection) -> Tensor:
        """Returns the selected tokens (batch, token) bool. Padding is never selected.

        Args:
            tokens: None (the patches if there are any, else all tokens), "all", a role or its name, a list of roles and
                positions, or a bool tensor (batch, token).

        Raises:
            AttentionError: an unknown role, a position out of range, a tensor of another shape, or an example in which
                nothing is selected.
        """
        if isinstance(tokens, Tensor):
            if tokens.dtype != torch.bool or tokens.shape != self.roles.shape:
                raise AttentionError(
                    f"tokens is {tokens.dtype} of shape {tuple(tokens.shape)}; it must be bool {tuple(self.roles.shape)}.",
                    "Pass true for each selected token.",
                )
            return self._selected(tokens.to(self.roles.device) & self.mask, "the given tensor")
        if tokens is None:
            tokens = "patch" if bool((self.roles == Role.PATCH).any()) else "all"
        if isinstance(tokens, str | Role):
            chosen = self.mask if tokens == "all" else self.roles == Role.named(tokens)
        else:
            chosen = self._select_several(tokens)
        return self._selected(chosen & self.mask, f"tokens={tokens!r}")

    def _selected(self, chosen: Tensor, by: str) -> Tensor:
        if not chosen.any(1).all():
            present = sorted({Role(code).name.lower() for code in self.roles.unique().tolist()})
            raise AttentionError(f"{by} selects nothing in an example.", f"This layout holds {', '.join(present)}.")
        return chosen

    def _select_several(self, tokens: Iterable[Any]) -> Tensor:
        if not isinstance(tokens, Iterable):
            raise AttentionError(
                f"tokens is of type {type(tokens).__name__}; it is a role, a list of roles and positions, or a bool tensor.",
                'Pass tokens="patch", tokens=[0, 5], or leave it out.',
            )
        chosen, places = torch.zeros_like(self.mask), torch.arange(len(self), device=self.roles.device)
        for token in tokens:
            chosen |= self.roles == Role.named(token) if isinstance(token, str | Role) else places == self.position(token)
        return chosen

    def position(self, token: int) -> int:
        """Returns the position of a token that is counted from either end; an `AttentionError` where it is out of range."""
        return check_position("token", token, len(self))

    @property
    def center(self) -> int:
        """The position of the centre patch, (rows // 2, columns // 2) of the grid; an `AttentionError` without a grid."""
        if self.grid is None:
            raise AttentionError("the centre token needs an image grid, and this layout has none.", "Pass a token by number.")
        rows, columns = self.grid
        patches = (self.roles[0] == Role.PATCH).nonzero()[:, 0]
        return int(patches[rows // 2 * columns + columns // 2])

    @property
    def class_tokens(self) -> Tensor:
        """The position of the class token in each example, (batch,).

        Raises:
            AttentionError: an example has none, or more than one.
        """
        marked = self.roles == Role.CLASS
        for count in marked.sum(1).tolist():
            if count != 1:
                raise AttentionError(
                    f'an example of this layout has {count} class tokens; "class" needs exactly one.',
                    'Start at "last", at a token by number, or at "center" of an image.',
                )
        return marked.int().argmax(1)

    @property
    def class_token(self) -> int:
        """The one position of all `class_tokens`; an `AttentionError` where examples have it at several."""
        places = self.class_tokens.unique().tolist()
        if len(places) > 1:
            raise AttentionError(f"class tokens are at positions {places} (padding on the left).", "Use class_tokens.")
        return places[0]

    def to_grid(self, scores: Tensor) -> Tensor:
        """Returns the patch scores of `scores` (batch, …, token) on the image grid: (batch, …, rows, columns).

        Raises:
            AttentionError: there is no grid, or there are scores of another number of tokens.
        """
        check_tensor("scores", scores, "(batch, …, token)")
        if self.grid is None:
            raise AttentionError("there is no image grid in this layout.", 'Ask for output="tokens".')
        if not scores.ndim or scores.shape[-1] != len(self):
            raise AttentionError(
                f"scores has shape {tuple(scores.shape)}; it must be (…, {len(self)}): one for every token of this layout.",
                "Pass scores of all tokens, also of those that are no patches.",
            )
        patches = (self.roles[0] == Role.PATCH).to(scores.device)
        return scores[..., patches].unflatten(-1, self.grid)
