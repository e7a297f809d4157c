"""The text that is attributed: its token ids, and the tokens that have scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

from captum.attr import TextTokenInput
from torch import Tensor

from attnchain_interp.attribution.text.conversation import conversation_of
from attnchain_interp.attribution.text.spelling import Spelling, spelling_of
from attnchain_interp.attribution.text.text_ids import input_of
from attnchain_interp.errors import AttentionError


@final
@dataclass(frozen=True, eq=False)
class Prompt:
    """One text for the model. Captum's input may skip tokens, which the model reads and which have no scores.

    Attributes:
        ids: the token ids (1, token).
        places: the positions of the tokens that have scores.
        inp: Captum's input. Its values are the labels of these tokens.
        spelling: of these tokens.
    """

    ids: Tensor
    places: list[int]
    inp: TextTokenInput
    spelling: Spelling

    def __len__(self) -> int:
        return self.ids.shape[1]

    @property
    def labels(self) -> list[str]:
        return list(self.inp.values)

    @property
    def tokenizer(self) -> Any:
        return self.inp.tokenizer

    def kept(self, scores: Tensor) -> Tensor:
        """Returns the scores (…, token) of all tokens for those that have one."""
        return scores[..., self.places]

    def kept_sinks(self, sinks: Mapping[int, str]) -> dict[int, str]:
        """Returns texts about sinks by the number of the token among those that have scores."""
        return {k: sinks[place] for k, place in enumerate(self.places) if place in sinks}


def prompt_of(text: Any, tokenizer: Any, add_special_tokens: bool | None = None) -> Prompt:
    """Returns the prompt of a text, as `TextAttribution` reads it. See its `attribute` for arguments and errors."""
    inp = input_of(text, tokenizer, add_special_tokens)
    if inp.n_itp_features == 0:
        raise AttentionError("text has no tokens, or skip_tokens skips all of them.", "Keep at least one token.")
    ids: Tensor = inp.inp_tensor
    places = list(range(ids.shape[1])) if inp.itp_mask is None else inp.itp_mask[0].nonzero()[:, 0].tolist()
    read = spelling_of(ids[0].tolist(), inp.tokenizer, conversation_of(text, inp.tokenizer))
    apart = [" " * (place > before + 1) for before, place in pairwise([places[0] - 1, *places])]  # where a token is skipped
    pieces = [space + read.pieces[place] for space, place in zip(apart, places, strict=True)]
    return Prompt(ids, places, inp, Spelling(pieces, [read.template[place] for place in places]))
