"""The parts of a denoiser's batch. Guidance denoises each image several times at once, with the prompt and without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import wraps
from types import TracebackType
from typing import Any, Final, final

from torch import Tensor

from attnchain_adapters.diffusers_models.families import FAMILIES
from attnchain_interp import AttentionError
from attnchain_interp.reprs import counted


@final
@dataclass(frozen=True)
class BatchParts:
    """Says how a batch is made of parts that follow one another, each of the same images.

    Attributes:
        count: how many parts there are.
        prompt: the place of the part that reads the prompt (or the class), from 0.
        doubled: whether the scheduler steps the whole batch, and not one part of it.
        added: whether channels are added that differ among the parts, behind as many channels of the image itself.
    """

    count: int = 1
    prompt: int = 0
    doubled: bool = False
    added: bool = False

    def of_prompt(self, batch: int) -> slice:
        """Returns the examples of a batch that read the prompt."""
        images = batch // self.count
        return slice(self.prompt * images, (self.prompt + 1) * images)

    def fit(self, sample: Tensor) -> bool:
        """Returns whether a batch (batch, channel, …) holds the same images in each part."""
        if len(sample) % self.count:
            return False
        parts = sample[:, : sample.shape[1] // 2 if self.added else None].unflatten(0, (self.count, -1))
        return bool((parts == parts[:1]).all())


WHOLE: Final = BatchParts()
NONE_PROMPT: Final = BatchParts(2, 1)


def parts_of(pipe: Any, given: Mapping[str, Any], denoiser: Any) -> BatchParts:
    """Returns the parts of the batch that a pipeline gives its denoiser, as far as the pipeline and the batch say them.

    Args:
        pipe: the pipeline.
        given: the arguments of the denoiser, by name.
        denoiser: the denoiser, of a known class.
    """
    sample = given[FAMILIES[type(denoiser).__name__].sample]
    return next((parts for parts in _usual(pipe, given, denoiser) if parts.fit(sample)), WHOLE)


def _usual(pipe: Any, given: Mapping[str, Any], denoiser: Any) -> list[BatchParts]:
    """The parts of a pipeline of this class, the likeliest first. Some pipelines do not say whether they guide."""
    name, guided = type(pipe).__name__, getattr(pipe, "do_classifier_free_guidance", None)
    if type(denoiser).__name__ == "FluxTransformer2DModel":  # it guides by two forwards
        return []
    if given.get("encoder_hidden_states") is None and given.get("class_labels") is None:
        return []
    if getattr(pipe, "do_perturbed_attention_guidance", False):  # none, prompt, prompt perturbed
        return [BatchParts(3, 1)] * (guided is not False) + [BatchParts(2, 0)] * (not guided)
    if guided is False:
        return []
    if "InstructPix2Pix" in name:  # text and image, image, none
        return [BatchParts(3, 0, added=True)]
    return [BatchParts(2, 0, doubled=True)] if name == "DiTPipeline" else [NONE_PROMPT]


@final
class PromptPart:
    """While open, says which part of each batch reads the prompt, and compares it with the images that the scheduler steps."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._open: list[tuple[int, BatchParts]] = []  # forwards since the scheduler's last step
        self._watched: list[tuple[Any, Any]] = []

    def __enter__(self) -> PromptPart:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for scheduler, own in reversed(self._watched):
            if own is None:
                del scheduler.step
            else:
                scheduler.step = own
        self._watched.clear()

    def check_stepped(self) -> None:
        """Checks that a step of the scheduler has followed each batch of several parts.

        Raises:
            AttentionError: none has.
        """
        if any(parts.count > 1 for _, parts in self._open):
            raise AttentionError(
                f"{type(self._pipe).__name__} made no step of its scheduler after the forward, so nothing says how many images"
                " the batch holds beside the parts of the guidance.",
                "Call the whole pipeline in the block, or capture(denoiser, …) for one forward.",
            )

    def of(self, given: Mapping[str, Any], denoiser: Any) -> BatchParts:
        """Returns the parts of this forward's batch, which the next step of the scheduler confirms or refuses."""
        scheduler = getattr(self._pipe, "scheduler", None)
        if hasattr(scheduler, "step") and all(scheduler is not known for known, _ in self._watched):
            self._watch(scheduler)
        parts = parts_of(self._pipe, given, denoiser)
        self._open.append((len(given[FAMILIES[type(denoiser).__name__].sample]), parts))
        return parts

    def _watch(self, scheduler: Any) -> None:
        step = scheduler.step
        self._watched.append((scheduler, vars(scheduler).get("step")))

        @wraps(step)  # pipelines ask its signature whether it takes a generator
        def checked(*args: Any, **kwargs: Any) -> Any:
            self._check(len(kwargs["sample"] if "sample" in kwargs else args[2]))
            return step(*args, **kwargs)

        scheduler.step = checked

    def _check(self, stepped: int) -> None:
        """Compares the forwards since the last step with the number of examples that the scheduler steps."""
        for batch, parts in self._open:
            if batch != stepped * (1 if parts.doubled else parts.count):
                name = type(self._pipe).__name__
                raise AttentionError(
                    f"{name} gives its denoiser a batch of {batch} for {counted(stepped, 'image')}, and nothing says which"
                    " part of it reads the prompt.",
                    "Turn this guidance off, or give each image a start of its own (latents, generator), or capture one"
                    " forward: capture(denoiser, …).",
                )
        self._open.clear()
