"""The options of a capture that are not arguments of the model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, final

from attnchain_interp.capture.source import forward_of
from attnchain_interp.errors import AttentionError
from attnchain_interp.reprs import brief
from attnchain_interp.store import Grid, TokenLayout


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class Reading:
    """Says which attention of a model is meant, and how its tokens are laid out.

    Pass it as `reading=` to `capture`, `prove` and the captures of gradients and contributions. The model never sees it, so
    its fields cannot collide with arguments of the model.

    Args:
        kind: the sequence that is read: "encoder", "decoder", "cross" (from a decoder's tokens to the encoder's), "pool" (a
            pooling head); for a diffusion model "self", "cross" or "joint".
        tower: the part of a transformers model with several towers: "text", "vision", …; where a model runs several known
            models, the path of one of them: "backbone"; in any other PyTorch model, the beginning of the paths of the modules
            that are meant: "visual".
        tokenizer: adds the tokens' texts as labels to the layout, and marks the special tokens.
        tokens: the layout of the tokens, for a model whose layout is not known. A model that gets it is read by what it
            computes, also one of a framework. A layout of one example stands for each example of a batch.
        grid: (rows, columns) of the image tokens, for a UNet that attends on several grids.
        labels: the texts of the prompt's tokens, for a diffusion model.
        arguments: keyword arguments for the model whose names `capture` uses itself: {"layers": …}.
    """

    kind: str | None = None
    tower: str | None = None
    tokenizer: Any = None
    tokens: TokenLayout | None = None
    grid: Grid | None = None
    labels: list[str] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Reading({', '.join(f'{name}={brief(getattr(self, name))}' for name in self.given)})"

    @property
    def given(self) -> list[str]:
        """The names of the fields that are set."""
        return [name for name in OPTIONS if getattr(self, name) is not None] + ["arguments"] * bool(self.arguments)

    def check_known(self, source: str, *known: str) -> None:
        """Refuses a field that has no meaning for a source.

        Raises:
            AttentionError: a field is set that is not among `known`.
        """
        for name in self.given:
            if name not in (*known, "arguments"):
                rest = f"It knows {', '.join(known)}." if known else "It knows no options."
                raise AttentionError(f"Reading({name}=…) has no meaning for {source}. {rest}", f"Leave {name} out.")


def checked(reading: Any) -> Reading:
    """Returns the options, or the defaults for None."""
    if reading is not None and not isinstance(reading, Reading):
        raise AttentionError(f"reading is a {type(reading).__name__}.", 'Pass reading=ac.Reading(kind="decoder", …).')
    return reading or Reading()


OPTIONS: Final = tuple(each.name for each in fields(Reading) if each.name != "arguments")
_ELSEWHERE: Final = {
    "measure": "Write maps= for measure=.",
    "layer": "Write layers= for layer=.",
    **{
        name: f"Give it to the method that reads the capture: TokenRank(model, {name}=…)."
        for name in ("heads", "layer_weights", "balanced", "direction", "damping")
    },
}


def separated(source: Any, reading: Reading | None, kwargs: Mapping[str, Any]) -> tuple[Reading, dict[str, Any]]:
    """Returns the options of a capture and the model's own keyword arguments.

    An option among the arguments is refused, and so is a setting of a method, since a model that takes any keyword would pass
    over it in silence. An argument of the model's own forward with that name goes to the model. A tokenizer, which no model
    computes with, is taken; beside another one it is refused.
    """
    reading, forward = checked(reading), forward_of(source)
    own = set() if forward is None else set(inspect.signature(forward).parameters)
    kwargs = dict(kwargs)
    if "tokenizer" in kwargs and "tokenizer" not in own:
        tokenizer = kwargs.pop("tokenizer")
        if reading.tokenizer not in (None, tokenizer):
            raise AttentionError("tokenizer=… is given beside another one in reading=….", "Give one of them alone.")
        reading = replace(reading, tokenizer=tokenizer)
    stray = {name: kwargs[name] for name in OPTIONS if name in kwargs and name not in own}
    if not isinstance(stray.get("tokens"), TokenLayout):
        stray.pop("tokens", None)
    for name, fix in _ELSEWHERE.items():
        if name in kwargs and name not in own:
            raise AttentionError(f"neither the model nor a capture has an argument {name}.", fix)
    if misspelt := next((name for name, value in kwargs.items() if isinstance(value, Reading)), ""):
        raise AttentionError(f"{misspelt} is a Reading, which is an option of a capture.", f"Write reading= for {misspelt}=.")
    if stray:
        written = ", ".join(f"{name}={value!r}" if isinstance(value, str) else f"{name}=…" for name, value in stray.items())
        raise AttentionError(
            f"the model has no argument {' or '.join(stray)}, which is an option of a capture.",
            f"Write reading=ac.Reading({written}).",
        )
    return reading, {**kwargs, **reading.arguments}


def cached_tokens(argument: Any) -> int | None:
    """Returns of how many tokens a cache of transformers holds keys and values. Returns None for any other argument."""
    length = getattr(argument, "get_seq_length", None)
    return None if length is None else int(length())


def without_empty_caches(named: Mapping[str, Any]) -> dict[str, Any]:
    """Returns keyword arguments of a model that runs several times: a forward fills a cache, and the next one reads it."""
    return {name: argument for name, argument in named.items() if cached_tokens(argument) != 0}
