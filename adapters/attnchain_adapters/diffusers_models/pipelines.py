"""The attention of a whole sampling: a context around a pipeline's call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from attnchain_adapters.attention_recorder import AttentionRecorder
from attnchain_adapters.checks import arguments_of, check_shown
from attnchain_adapters.diffusers_models.prompts import prompt_tokens
from attnchain_adapters.diffusers_models.running_mean import RunningMean
from attnchain_adapters.diffusers_models.sequences import (
    ADVICE,
    TokenSequence,
    attention_modules,
    family_of,
    layouts_of,
    sequence_meant,
    sequences_of,
)
from attnchain_interp import AttentionError, AttentionStore, LayerAttention, TokenLayout
from attnchain_interp.diffusion import HeadWeighting, SamplingAttention, SequenceKind
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
    prompt: str | None,
) -> Iterator[SamplingAttention]:
    """Captures the attention of a sampling. See `attnchain_interp.diffusion.capture_pipeline`."""
    denoiser = denoiser_of(pipe)
    family = family_of(denoiser)
    found, mean = SamplingAttention(), RunningMean(heads, each_layer)
    numbers = None if isinstance(steps, slice) else frozenset(steps)
    seen: list[tuple[TokenSequence, TokenLayout, TokenLayout | None]] = []
    forward = -1

    def before(_: Any, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal forward
        forward += 1
        mean.next_forward()
        wanted = forward in numbers if numbers is not None else _within(forward, steps)
        mean.layers = frozenset()
        if not wanted:
            return
        if not seen:
            given = arguments_of(denoiser, inputs, kwargs)
            sequence = sequence_meant(sequences_of(denoiser, given), type(denoiser).__name__, kind, grid)
            batch = given[family.sample].shape[0]
            if getattr(pipe, "do_classifier_free_guidance", False) and batch % 2 == 0:
                mean.examples = slice(batch // 2, None)
            text = given.get("encoder_hidden_states")
            labels = None if prompt is None or text is None else prompt_tokens(pipe, prompt, text.shape[1])
            tokens, queries = layouts_of(denoiser, sequence, given, labels)
            seen.append((sequence, _some(tokens, mean.examples), queries and _some(queries, mean.examples)))
        mean.layers = frozenset(select_layers(seen[0][0].layers, layers))
        found.forwards += 1

    modules = {name: [name] for name in attention_modules(denoiser)}
    handle = denoiser.register_forward_pre_hook(before, with_kwargs=True)
    try:
        with AttentionRecorder(denoiser, modules, set(modules), mean):
            yield found
    finally:
        handle.remove()
    if not seen:
        raise AttentionError(
            f"the denoiser ran {forward + 1} times in the block, in none of steps={steps!r}.",
            "Call the pipeline in the block, or choose other steps.",
        )
    sequence, tokens, queries = seen[0]
    wanted = select_layers(sequence.layers, layers)
    check_shown(mean.sums, wanted if each_layer else ["mean"], ADVICE)
    several = [LayerAttention(name, (mean.sums[name] / mean.counts[name])[:, None]) for name in mean.sums]
    metadata = {"adapter": "diffusers", "model": type(denoiser).__name__, "kind": sequence.kind}
    metadata |= {"mean": f"{found.forwards} forwards, {len(wanted)} layers, heads by {heads}"}
    found.gathered = AttentionStore(several, tokens, metadata, queries)


def denoiser_of(pipe: Any) -> Any:
    """Returns the `transformer` or `unet` of a pipeline; None where it has neither."""
    return getattr(pipe, "transformer", None) or getattr(pipe, "unet", None)


def _within(number: int, steps: Any) -> bool:
    if (steps.start or 0) < 0 or (steps.stop or 0) < 0 or (steps.step or 1) < 1:
        raise AttentionError(f"steps={steps} counts from the end, which is not known while sampling.", "Count from 0.")
    return (
        number >= (steps.start or 0)
        and (steps.stop is None or number < steps.stop)
        and ((number - (steps.start or 0)) % (steps.step or 1) == 0)
    )


def _some(layout: TokenLayout, examples: slice) -> TokenLayout:
    labels = None if layout.labels is None else layout.labels[examples]
    return TokenLayout(layout.roles[examples], layout.grid, labels)
