"""The origin of each tensor of a forward: the tensors that it was computed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

from attnchain_adapters.softmaxes.origins import axis_given
from attnchain_adapters.torch_models.moves import moved_lengths, moves
from attnchain_adapters.torch_operators import tensors_in

_WRITES: Final = (Tensor.__setitem__, Tensor.copy_)  # into their first argument
_JOINS: Final = (torch.cat, torch.concat, torch.concatenate)


@final
@dataclass(frozen=True)
class Origin:
    """What a tensor was computed from.

    Attributes:
        uses: the numbers of the uses of attention.
        arguments: the names of the arguments of the model.
        learnt: from weights and numbers of the model alone.
        joined: (tokens, further) where so many tokens were joined with so many learnt ones, on the way.
        moved: the lengths of axes along which entries are at other places than in the arguments.
    """

    uses: frozenset[int] = frozenset()
    arguments: frozenset[str] = frozenset()
    learnt: bool = False
    joined: frozenset[tuple[int, int]] = frozenset()
    moved: frozenset[int] = frozenset()

    @classmethod
    def of_all(cls, origins: Iterable[Origin]) -> Origin:
        """Returns the origin of what is computed from several tensors; of none, it is learnt."""
        every = list(origins)
        if every and all(each is every[0] for each in every):  # as for most functions of a forward
            return every[0]
        return cls(
            frozenset[int]().union(*(each.uses for each in every)),
            frozenset[str]().union(*(each.arguments for each in every)),
            all(each.learnt for each in every),
            frozenset[tuple[int, int]]().union(*(each.joined for each in every)),
            _moved(every),
        )

    def has_moved(self, batch: int, tokens: int) -> bool:
        """Returns whether tokens or examples are at other places than in the arguments. Learnt tokens may be among them."""
        return bool({batch, tokens} & self.moved) or any((each, tokens - each) in self.joined for each in self.moved)


def _moved(every: Sequence[Origin]) -> frozenset[int]:
    """Returns what is moved of a tensor that is computed from others.

    An entry stays where it is in one of them that has the same arguments: a token and the one before it are added.
    """
    lengths = frozenset[int]().union(*(each.moved for each in every))
    if not lengths:
        return lengths
    arguments = frozenset[str]().union(*(each.arguments for each in every if each.moved))
    return lengths.intersection(*(each.moved for each in every if not each.learnt and each.arguments & arguments))


_FUSED: Final = (F.scaled_dot_product_attention, F.multi_head_attention_forward)
_NAMES: Final = ("query", "key", "value")
_UNKNOWN: Final = Origin()
_LEARNT: Final = Origin(learnt=True)


@final
class Provenance:
    """Follows a forward function by function, and module by module. It keeps no tensor alive.

    Args:
        model: its parameters and buffers are learnt.
        arguments: the arguments of the model by their names.
    """

    def __init__(self, model: nn.Module, arguments: Mapping[str, Any]) -> None:
        self._origins: Any = WeakIdKeyDictionary()
        for buffer in model.buffers():
            self._origins[buffer] = _LEARNT
        for name, value in arguments.items():
            for tensor in tensors_in((value,)):
                self._origins[tensor] = Origin(arguments=frozenset((name,)))

    def of(self, tensor: Tensor) -> Origin:
        """Returns the origin of a tensor. That of a tensor which no function has shown is not known, and it is not learnt."""
        return self._origins.get(tensor) or (_LEARNT if isinstance(tensor, nn.Parameter) else _UNKNOWN)

    def given(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Origin:
        """Returns the origin of the arguments of a function."""
        return Origin.of_all(map(self.of, tensors_in((*args, *kwargs.values()))))

    def values(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Origin:
        """Returns the origin of the values among the arguments of a function that is a use of attention.

        Values count as learnt where the map that multiplies them is not.
        """
        origins = self._factors(function, args, kwargs)
        if function in _FUSED:
            query, _, value = origins
            return replace(value, learnt=value.learnt and not query.learnt)
        data = [each for each in origins if not each.learnt]
        value = min(data, key=lambda each: len(each.arguments), default=_UNKNOWN)
        return replace(value, learnt=len(data) == 1 < len(origins))

    def places(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], shape: Sequence[int]) -> set[bool]:
        """Returns whether tokens were moved, for each factor of a use of attention by a map (batch, …, query, key).

        Both answers are there where keys were moved and queries of the same argument were not.
        """
        origins = [origin for origin in self._factors(function, args, kwargs) if not origin.learnt]
        moved = [origin for origin in origins if origin.has_moved(shape[0], shape[-1])]
        arguments = frozenset[str]().union(*(origin.arguments for origin in moved or origins))
        return {origin in moved for origin in origins if origin.arguments & arguments}

    def _factors(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Origin]:
        """The origins of queries, keys and values of a fused use of attention; of all tensors of another one."""
        if function in _FUSED:
            return [self.of(each) for each in (*args, *(kwargs[name] for name in _NAMES[len(args) :]))[:3]]
        return [self.of(each) for each in tensors_in((*args, *kwargs.values()))]

    def computed(
        self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any, origin: Origin, uses: Iterable[int]
    ) -> None:
        """Takes the next function of a forward, and the numbers of the uses that it was. `origin` is that of its arguments."""
        joined = self._joined(args, kwargs) if function in _JOINS and not origin.learnt else frozenset()
        if joined or (uses := frozenset(uses)):
            origin = replace(origin, uses=origin.uses.union(uses), joined=origin.joined | joined)
        if moves(function, args) and not self.of(args[0]).learnt:
            origin = replace(origin, moved=origin.moved | moved_lengths(function, args, kwargs))
        for tensor in tensors_in((result, *(args[:1] if function in _WRITES else ()))):
            self._origins[tensor] = origin

    def returned(self, given: Iterable[Any], output: Any, uses: Iterable[int]) -> None:
        """Takes a module's output: it was computed from what the module was given, and from its uses, in whatever way."""
        origin = Origin.of_all(map(self.of, tensors_in(given)))
        for tensor in tensors_in((output,)):
            known = self.of(tensor)
            self._origins[tensor] = Origin(
                known.uses | origin.uses | frozenset(uses),
                known.arguments | origin.arguments,
                known.learnt,
                known.joined,
                known.moved,
            )

    def _joined(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> frozenset[tuple[int, int]]:
        """The numbers of tokens and of learnt ones, in a list of tensors that is joined."""
        parts, axis = list(tensors_in(args[:1])), axis_given(args, kwargs) or 0
        lengths = {True: 0, False: 0}
        for part in parts:
            if part.numel():  # torch joins an empty vector to tensors of any shape
                lengths[self.of(part).learnt] += part.shape[axis]
        return frozenset([(lengths[False], lengths[True])] if all(lengths.values()) else [])
