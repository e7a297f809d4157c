"""The result of `TextAttribution`: Captum's `LLMAttributionResult`, with the earlier output and the policy added."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, final

from captum.attr import InterpretableInput
from captum.attr._core.llm_attr import LLMAttributionResult
from torch import Tensor

from attnchain_interp.reprs import counted


@final
class TextAttributionResult(LLMAttributionResult):
    """Scores of the tokens (or words) of a prompt for each output. Captum's plots work on it.

    Attributes:
        input_tokens, output_tokens: labels. A classifier has one output.
        token_attr: (output token, input token). Each row holds the scores for one output token.
        seq_attr: (input token,): the sum of the rows, as in Captum's gradient methods.
        output_probs: (output token,): the model's probability of each output token after the tokens before it. None where
            the model outputs no text.
        output_attr: (output token, output token): the rest of each row, over the earlier output tokens. It is zero for the
            token itself and for later ones. None where rows hold the prompt alone (classifiers, encoder–decoders).
        policy: where the walks start, and which tokens they see.
        sinks: a text about each input token (or word with a token) that is an attention sink, by its place among
            `input_tokens`. See `ac.sinks`. Plots outline them. Empty where the method reads no attention.
        inp: Captum's input.
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
        inp: InterpretableInput | None = None,
        sinks: Mapping[int, str] | None = None,
    ) -> None:
        super().__init__(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            seq_attr=token_attr.sum(0),
            token_attr=token_attr,
            output_probs=output_probs,
            inp=inp,
        )
        self.output_attr = output_attr
        self.policy = policy
        self.sinks = dict(sinks or {})

    def __repr__(self) -> str:
        inputs, outputs = counted(len(self.input_tokens), "input token"), counted(len(self.output_tokens), "output")
        return "\n  ".join([f"TextAttributionResult({inputs} × {outputs}; {self.policy})", *self._sink_lines])

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
