"""The result of `TextAttribution`: Captum's `LLMAttributionResult`, with the earlier output and the policy added."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, Final, cast, final

import torch
from captum.attr import InterpretableInput
from captum.attr._core.llm_attr import LLMAttributionResult
from torch import Tensor

from attnchain_interp.attribution.text.page import Sentence, Shaded, page
from attnchain_interp.attribution.text.spelling import Spans, Spelling
from attnchain_interp.checks import check_type, check_whole_number, wide_scores
from attnchain_interp.errors import AttentionError
from attnchain_interp.files import as_path, write_text
from attnchain_interp.reprs import counted, visible

_SEEN: Final = 0.005  # of all scores: less is not said


@final
class TextAttributionResult(LLMAttributionResult):
    """Scores of the tokens of a prompt for each output. Captum's plots work on it.

    Attributes:
        input_tokens, output_tokens: labels. A classifier has one output.
        token_attr: (output token, input token). Each row holds the scores for one output token.
        seq_attr: (input token,): the sum of the rows, as in Captum's gradient methods.
        output_probs: (output token,): the model's probability of each output token after the tokens before it. None where
            the model outputs no text.
        output_attr: (output token, output token): the rest of each row, over the earlier output tokens. It is zero for the
            token itself and for later ones. None where rows hold the prompt alone (classifiers, encoder–decoders).
        own: (output token, input token): the part of `token_attr` that lies on the position which predicts the output token
            itself, where the method's walks start or jump there. Of a class, it is the token at which they start (the class
            token, or the last of a decoder). See `elsewhere`. None for other methods.
        policy: where the walks start, and which tokens they see.
        sinks: a text about each input token (or word with a token) that is an attention sink, by its place among
            `input_tokens`. See `ac.sinks`. Plots outline them. Empty where the method reads no attention.
        inp: Captum's input.
        spelling, output_spelling: the text of the input and output tokens, with its spaces, and which of them belong to a chat
            template. See `grouped`.

    Raises:
        AttentionError: scores that are not finite, of no token, or of another shape.

    A notebook shows the prompt, shaded by its words. Pointing at an output token shades the prompt by its row.
    """

    def __init__(
        self,
        *,
        input_tokens: list[str],
        output_tokens: list[str],
        token_attr: Tensor,
        policy: str,
        output_probs: Tensor | None = None,
        output_attr: Tensor | None = None,
        own: Tensor | None = None,
        inp: InterpretableInput | None = None,
        sinks: Mapping[int, str] | None = None,
        spelling: Spelling | None = None,
        output_spelling: Spelling | None = None,
    ) -> None:
        rows, axes = (len(output_tokens), len(input_tokens)), "(output token, input token)"
        token_attr = wide_scores("token_attr", token_attr, axes, rows)
        own = None if own is None else wide_scores("own", own, axes, rows)
        if output_attr is not None:
            output_attr = wide_scores("output_attr", output_attr, "(output token, output token)", (rows[0], rows[0]))
        super().__init__(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            seq_attr=token_attr.sum(0),
            token_attr=token_attr,
            output_probs=output_probs,
            inp=inp,
        )
        self.output_attr = output_attr
        self.own = own
        self.policy = policy
        self.sinks = dict(sinks or {})
        self.spelling = spelling or Spelling.spaced(input_tokens)
        self.output_spelling = output_spelling or Spelling.spaced(output_tokens)

    def __repr__(self) -> str:
        inputs, outputs = counted(len(self.input_tokens), "input token"), counted(len(self.output_tokens), "output")
        return "\n  ".join([f"TextAttributionResult({inputs} × {outputs}; {self.policy})", *self._sink_lines])

    @property
    def _rows(self) -> Tensor:
        return cast("Tensor", self.token_attr)  # Captum's type has None, for methods without rows

    def grouped(self, features: Spans) -> TextAttributionResult:
        """Returns the same scores of words, sentences, passages or parts of the prompt: sums over their tokens.

        The result has no tokens of a chat template, and of parts no other tokens.

        Args:
            features: "word", "sentence", "passage" (between empty lines), parts of the prompt as strings, or their first and
                last characters as pairs (start, end) in `spelling.text`.

        Raises:
            AttentionError: an unknown name, a part that the prompt does not hold, or no part at all.
        """
        groups = self.spelling.groups(features)
        if not groups:
            raise AttentionError(
                f"the prompt has no part by features={features!r}; its tokens are {self.input_tokens}.",
                "Read the scores of its tokens: seq_attr.",
            )
        return self._summed(groups)

    def elsewhere(self) -> TextAttributionResult:
        """Returns the same scores without those that the positions which predict output tokens give themselves.

        They say where a walk starts, and not where the answer came from. Pictures and `top` leave them out.
        """
        if self.own is None:
            return self
        earlier = self.output_attr
        if earlier is not None:
            earlier = earlier - torch.diag(earlier.diagonal(-1), -1)
        return self._with(self._rows - self.own, None, self.input_tokens, self.sinks, self.spelling, earlier)

    def by_word(self) -> TextAttributionResult:
        """Returns the same scores of words, with the tokens of a chat template and whatever else is in no word."""
        return self._summed(self._words())

    def _words(self) -> list[list[int]]:
        words = self.spelling.groups("word")
        held = {k for group in words for k in group}
        return sorted([*words, *([k] for k in range(len(self.input_tokens)) if k not in held)])

    def _summed(self, groups: list[list[int]]) -> TextAttributionResult:
        spelling = self.spelling.joined(groups)
        told = {unit: self.sinks[k] for unit, group in enumerate(groups) for k in reversed(group) if k in self.sinks}
        rows, own = (
            None if each is None else torch.stack([each[:, group].sum(1) for group in groups], 1)
            for each in (self._rows, self.own)
        )
        tokens = ["".join(self.input_tokens[k] for k in group) for group in groups]  # of white space alone
        labels = [" ".join(piece.split()) or token for piece, token in zip(spelling.pieces, tokens, strict=True)]
        return self._with(cast("Tensor", rows), own, labels, told, spelling, self.output_attr)

    def _with(
        self,
        rows: Tensor,
        own: Tensor | None,
        input_tokens: list[str],
        sinks: Mapping[int, str],
        spelling: Spelling,
        output_attr: Tensor | None,
    ) -> TextAttributionResult:
        return TextAttributionResult(
            input_tokens=input_tokens,
            output_tokens=self.output_tokens,
            token_attr=rows,
            policy=self.policy,
            output_probs=self.output_probs,
            output_attr=output_attr,
            own=own,
            inp=self.inp,
            sinks=sinks,
            spelling=spelling,
            output_spelling=self.output_spelling,
        )

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Returns the input tokens with the greatest sums over the outputs, and their shares of all positive sums.

        Tokens are written as a reader sees them, without the marks of a tokenizer.
        The scores are those `elsewhere`. Which sentences did the answer come from: `result.grouped("sentence").top(3)`.
        """
        check_whole_number("count", count, "how many input tokens are returned")
        positive = self.elsewhere().seq_attr.clamp_min(0)
        shares = positive / positive.sum().clamp_min(torch.finfo(positive.dtype).tiny)
        best = shares.argsort(descending=True, stable=True)[:count].tolist()
        return [(" ".join(self.spelling.pieces[k].split()) or self.input_tokens[k], float(shares[k])) for k in best]

    def write_html(self, path: str | Path, title: str = "attribution of a text") -> Path:
        """Writes the picture that a notebook shows as a page of its own, under a title. Returns the path.

        Raises:
            AttentionError: a path that cannot be written.
        """
        check_type("title", title, str, 'Pass title="a few words".')
        said = escape(visible(title, but="\t\n"))
        head = (
            f'<!doctype html><meta charset="utf-8"><title>{said}</title><p style="font:14px system-ui,sans-serif">{said}</p>'
        )
        write_text(written := as_path(path), f"{head}{self._repr_html_()}")
        return written

    def _repr_html_(self) -> str:
        found, groups = self.elsewhere(), self._words()
        words = found._summed(groups)
        spelling, shares = words.spelling, found._rows / found._rows.abs().sum().clamp_min(torch.finfo(found._rows.dtype).tiny)
        passages = self.spelling.groups("sentence")
        begins = [next((k for k, group in enumerate(groups) if passage[0] in group), 0) for passage in passages]
        sentences = [
            Sentence(self.spelling.joined([passage]).text, begin, float(shares[:, passage].sum()))
            for passage, begin in zip(passages, begins, strict=True)
        ]
        note = f"{self.left_out} {self.policy}".strip()
        outputs = self.output_spelling.pieces
        return page(
            Shaded(spelling.pieces, spelling.template, words.sinks, outputs, words._rows, found.output_attr, note, sentences)
        )

    @property
    def left_out(self) -> str:
        """Says how much of the scores pictures and `top` leave out (see `elsewhere`); empty where that is next to nothing."""
        held = 0.0 if self.own is None else float(self.own.abs().sum() / self._rows.abs().sum().clamp_min(1e-30))
        return f"Left out: what the position that predicts gives itself ({held:.0%} of all scores)." if held > _SEEN else ""

    @property
    def _sink_lines(self) -> list[str]:
        return [f"{self.input_labels[k]!r} is an attention sink: it {told}" for k, told in self.sinks.items()]

    def plot_token_attr(self, show: bool = False) -> tuple[Any, Any] | None:
        """As Captum's. The columns of attention sinks have a dashed outline, and are named under the picture."""
        return self._marked(super().plot_token_attr(), show)

    def plot_seq_attr(self, show: bool = False) -> tuple[Any, Any] | None:
        """As Captum's, with the same marks as `plot_token_attr`."""
        return self._marked(super().plot_seq_attr(), show)

    def _marked(self, drawn: Any, show: bool) -> tuple[Any, Any] | None:
        figure, axes = drawn
        for place in self.sinks:
            axes.axvspan(place - 0.5, place + 0.5, fill=False, edgecolor="#E69F00", linestyle="--", linewidth=2)
        axes.set_xlabel("\n".join(self._sink_lines), fontsize=8, parse_math=False)
        if show:
            figure.canvas.manager_class.pyplot_show()
        return None if show else (figure, axes)

    @property
    def input_labels(self) -> list[str]:
        """The input tokens. A token that occurs more than once has its position: "the (0)", "cat", "the (2)"."""
        counts = Counter(self.input_tokens)
        return [f"{token} ({k})" if counts[token] > 1 else token for k, token in enumerate(self.input_tokens)]

    @property
    def seq_attr_dict(self) -> dict[str, float]:
        """`seq_attr` by `input_labels`. It has an entry for every token, unlike Captum's."""
        return dict(zip(self.input_labels, self.seq_attr.tolist(), strict=True))
