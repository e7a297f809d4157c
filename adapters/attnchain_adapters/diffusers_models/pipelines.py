"""The attention of a whole sampling: a context around a pipeline's call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

from attnchain_adapters.checks import arguments_of, check_shown
from attnchain_adapters.diffusers_models.families import Grid
from attnchain_adapters.diffusers_models.prompts import prompt_tokens
from attnchain_adapters.diffusers_models.running_mean import HeadWeights, RunningMean
from attnchain_adapters.diffusers_models.sequences import (
    ADVICE,
    DiffusionKind,
    TokenSequence,
    attention_modules,
    family_of,
    layouts_of,
    sequence_meant,
    sequences_of,
)
from attnchain_adapters.recording import AttentionRecorder
from attnchain_interp import AttentionError, AttentionStore, LayerAttention, LayerSelection, TokenLayout, select_layers


@final
@dataclass
class SamplingAttention:
    """What `capture_pipeline` has gathered.

    Attributes:
        forwards: how many forwards of the denoiser were averaged.
    """

    forwards: int = 0
    _store: AttentionStore | None = None

    @property
    def store(self) -> AttentionStore:
        """The mean maps, as a store of one head; there once the context is left.

        Raises:
            AttentionError: the context has not been left, or the pipeline was not called in it.
        """
        if self._store is None:
            raise AttentionError("the mean is there when the with block is left; read `.store` after it.")
        return self._store


@contextmanager
def capture_pipeline(
    pipe: Any,
    kind: DiffusionKind | None = None,
    grid: Grid | None = None,
    layers: LayerSelection = "all",
    steps: slice | Sequence[int] = slice(None),
    heads: HeadWeights = "mean",
    each_layer: bool = False,
    prompt: str | None = None,
) -> Iterator[SamplingAttention]:
    """While open, adds up the attention of the denoiser of a pipeline; `.store` holds the mean afterwards.

    One map is held, however many steps, layers and heads there are (one for each layer with `each_layer`); one head's map is
    built at a time. The pipeline computes what it would, its processors are left alone, and every hook is removed, also when
    the call raises. Where classifier-free guidance puts both halves into one batch, the prompt's half is taken.

    Args:
        pipe: a diffusers pipeline with a `transformer` or a `unet` that is known.
        kind, grid: which sequence, as in `capture` of the denoiser; needed where there are several.
        layers: of this sequence, as in `AttentionStore.select`.
        steps: which forwards of the denoiser, numbered from 0: a slice, or numbers from 0. (FLUX with a negative prompt makes
            two a step, the prompt's first: `slice(0, None, 2)`.)
        heads: "mean", or weighted within each layer by |λ₂| ("lambda2", "inverse-lambda2").
        each_layer: a mean for each layer, over heads and steps; else one over layers too.
        prompt: what the pipeline is called with, for labels of the text's tokens (`tokens_of_word`).

    Raises:
        AttentionError: no denoiser that is known, a sequence or layer that does not exist, a processor that shows no
            attention or attends twice, no forward in the block. Errors of the pipeline pass through unchanged.
    """
    denoiser = getattr(pipe, "transformer", None) or getattr(pipe, "unet", None)
    if denoiser is None:
        raise AttentionError(f"{type(pipe).__name__} has neither a transformer nor a unet; capture its denoiser by itself.")
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
        raise AttentionError(f"the denoiser ran {forward + 1} times in the block, in none of steps={steps!r}.")
    sequence, tokens, queries = seen[0]
    wanted = select_layers(sequence.layers, layers)
    check_shown(mean.sums, wanted if each_layer else ["mean"], ADVICE)
    several = [LayerAttention(name, (mean.sums[name] / mean.counts[name])[:, None]) for name in mean.sums]
    metadata = {"adapter": "diffusers", "model": type(denoiser).__name__, "kind": sequence.kind}
    metadata |= {"mean": f"{found.forwards} forwards, {len(wanted)} layers, heads by {heads}"}
    found._store = AttentionStore(several, tokens, metadata, queries)


def _within(number: int, steps: Any) -> bool:
    if (steps.start or 0) < 0 or (steps.stop or 0) < 0 or (steps.step or 1) < 1:
        raise AttentionError(f"steps={steps} counts from the end, which is not known while sampling; count from 0.")
    return (
        number >= (steps.start or 0)
        and (steps.stop is None or number < steps.stop)
        and ((number - (steps.start or 0)) % (steps.step or 1) == 0)
    )


def _some(layout: TokenLayout, examples: slice) -> TokenLayout:
    labels = None if layout.labels is None else layout.labels[examples]
    return TokenLayout(layout.roles[examples], layout.grid, labels)
