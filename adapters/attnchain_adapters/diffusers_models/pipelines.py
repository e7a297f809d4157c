"""The attention of a whole sampling: a context around a pipeline's call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import index
from typing import Any, final

import torch
from torch import Tensor

from attnchain_adapters.checks import arguments_of, check_shown
from attnchain_adapters.diffusers_models.batch_parts import PromptPart
from attnchain_adapters.diffusers_models.prompts import labels_of
from attnchain_adapters.diffusers_models.running_mean import RunningMean
from attnchain_adapters.diffusers_models.sequences import (
    ADVICE,
    TokenSequence,
    attention_modules,
    condition_of,
    family_of,
    layouts_of,
    sequence_meant,
    sequences_of,
    text_mask,
)
from attnchain_adapters.recording.attention_recorder import AttentionRecorder
from attnchain_interp import AttentionError, AttentionStore, LayerAttention, TokenLayout
from attnchain_interp.capture import of_this_thread, plain_run, uncompiled
from attnchain_interp.diffusion import HeadWeighting, SamplingAttention, SequenceKind
from attnchain_interp.reprs import counted
from attnchain_interp.store import Grid, LayerSelection, select_layers


@contextmanager
def sampling_attention(
    pipe: Any,
    *,
    kind: SequenceKind | None,
    grid: Grid | None,
    layers: LayerSelection,
    steps: slice | Sequence[int],
    heads: HeadWeighting,
    each_layer: bool,
    prompt: str | Sequence[str] | None,
) -> Iterator[SamplingAttention]:
    """Captures the attention of a sampling. See `attnchain_interp.diffusion.capture_pipeline`."""
    found, mean = SamplingAttention(), RunningMean(heads, each_layer)
    chosen = _steps_of(steps)
    seen: list[_Seen] = []
    forward = -1

    def before(_: Any, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal forward
        forward += 1
        mean.next_forward()
        mean.layers = frozenset()
        if not (_within(forward, chosen) if isinstance(chosen, slice) else forward in chosen):
            return
        given = arguments_of(denoiser, inputs, kwargs)
        parts = part.of(given, denoiser)
        mean.examples = parts.of_prompt(len(given[family.sample]))
        told = condition_of(given)
        told = None if told is None else told[mean.examples].detach().clone()
        if not seen:
            sequence = sequence_meant(sequences_of(denoiser, given), type(denoiser).__name__, kind, grid)
            labels = None
            if prompt is not None and sequence.kind != "self" and told is not None and told.ndim == 3:
                mask = text_mask(given)
                labels = labels_of(pipe, family, prompt, told, None if mask is None else mask[mean.examples]) * parts.count
            tokens, queries = layouts_of(denoiser, sequence, given, labels)
            tokens, queries = _some(tokens, mean.examples), queries and _some(queries, mean.examples)
            mean.tokens = len(queries or tokens), len(tokens)
            seen.append(_Seen(forward, sequence, tokens, queries, told, given[family.sample].shape[1:]))
        seen[0].check_told(told, forward)
        seen[0].check_size(given[family.sample].shape[1:])
        mean.layers = frozenset(select_layers(seen[0].sequence.layers, layers))
        found.forwards += 1

    def after(*_: Any) -> None:
        check_shown(mean.taken, sorted(mean.layers), ADVICE)

    with plain_denoiser(pipe) as denoiser, PromptPart(pipe) as part:
        family = family_of(denoiser)
        modules = {name: [name] for name in attention_modules(denoiser)}
        with (
            denoiser.register_forward_pre_hook(of_this_thread(before), with_kwargs=True),
            denoiser.register_forward_hook(of_this_thread(after)),
            AttentionRecorder(denoiser, modules, set(modules), mean),
        ):
            yield found
    absent = [] if isinstance(chosen, slice) else sorted(number for number in chosen if number > forward)
    if seen:
        part.check_stepped()
        sequence, tokens, queries = seen[0].sequence, seen[0].tokens, seen[0].queries
        wanted = select_layers(sequence.layers, layers)
        several = [LayerAttention(name, (mean.sums[name] / mean.counts[name])[:, None]) for name in mean.sums]
        metadata = {"adapter": "diffusers", "model": type(denoiser).__name__, "kind": sequence.kind}
        metadata |= {"mean": f"{counted(found.forwards, 'forward')}, {counted(len(wanted), 'layer')}, heads by {heads}"}
        found.gathered = AttentionStore(several, tokens, metadata, queries)
    if absent or not seen:  # the forwards that ran are in the store
        raise AttentionError(
            f"the denoiser ran {forward + 1} times in the block, {'not' if seen else 'never'} as steps={steps!r} chooses.",
            "Call the pipeline in the block, or choose other steps.",
        )


def denoiser_of(pipe: Any) -> Any:
    """Returns the `transformer` or `unet` of a pipeline; None where it has neither."""
    transformer = getattr(pipe, "transformer", None)
    return getattr(pipe, "unet", None) if transformer is None else transformer


@contextmanager
def plain_denoiser(pipe: Any) -> Iterator[Any]:
    """While open, the pipeline runs its denoiser, and all parts of it, uncompiled. Yields the denoiser."""
    own = denoiser_of(pipe)
    name = "transformer" if getattr(pipe, "transformer", None) is own else "unet"
    plain = uncompiled(own)
    object.__setattr__(pipe, name, plain)  # what the pipeline says of itself stays as it is
    try:
        with plain_run(plain):
            yield plain
    finally:
        object.__setattr__(pipe, name, own)


@final
@dataclass(frozen=True, eq=False)
class _Seen:
    """The first forward that was captured: its number, sequence, layouts, that by which it was conditioned, and its size."""

    forward: int
    sequence: TokenSequence
    tokens: TokenLayout
    queries: TokenLayout | None
    told: Tensor | None
    size: torch.Size

    def check_size(self, size: torch.Size) -> None:
        if size != self.size:
            raise AttentionError(
                f"the size of an image changes from {tuple(self.size)} to {tuple(size)} while sampling.",
                "Capture each size by itself: choose forwards of one size, steps=…, or open a block for each size.",
            )

    def check_told(self, told: Tensor | None, forward: int) -> None:
        same = told is self.told or (told is not None and self.told is not None and torch.equal(told, self.told))
        if not same:
            raise AttentionError(
                f"forward {forward} of the denoiser reads another text than forward {self.forward}: a prompt and a negative"
                " prompt in turn, or two prompts.",
                "Choose the forwards of one prompt, such as steps=slice(0, None, 2), or open a block for each prompt.",
            )


def _steps_of(steps: Any) -> slice | frozenset[int]:
    """Returns which forwards are taken, by whole numbers from 0.

    Raises:
        AttentionError: other numbers, or neither a slice nor several numbers.
    """
    sliced = isinstance(steps, slice)
    try:
        parts: Any = (steps.start or 0, steps.stop, 1 if steps.step is None else steps.step) if sliced else steps
        numbers: list[Any] = [None if sliced and part is None else index(part) for part in parts]
    except TypeError:
        numbers = [-1]
    if any(number is not None and number < 0 for number in numbers) or (sliced and numbers[2] == 0):
        raise AttentionError(
            f"steps is {steps!r}; it is a slice or a list of the numbers of forwards, from 0 on. Their count is not known"
            " before the sampling.",
            "Pass steps=[0, 1], or steps=slice(0, None, 2).",
        )
    return slice(*numbers) if sliced else frozenset(numbers)


def _within(number: int, steps: slice) -> bool:
    return number >= steps.start and (steps.stop is None or number < steps.stop) and (number - steps.start) % steps.step == 0


def _some(layout: TokenLayout, examples: slice) -> TokenLayout:
    labels = None if layout.labels is None else layout.labels[examples]
    return TokenLayout(layout.roles[examples], layout.grid, labels)
