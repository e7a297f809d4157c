"""The adapter of Hugging Face transformers: models of the known families, and what they generate."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import Any, Final, TypeVar, final

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer, PreTrainedModel

from attnchain_adapters.checks import arguments_of, check_ready, is_run_by, tokens_advice
from attnchain_adapters.recorders import recorder
from attnchain_adapters.recording.attention_recorder import AttentionRecorder
from attnchain_adapters.recording.axes import check_replaced
from attnchain_adapters.recording.positions import PaddedPositions
from attnchain_adapters.torch_models import TorchAdapter
from attnchain_adapters.transformers_models.checkpoint import SENTENCE, pretrained, tokenizer_of
from attnchain_adapters.transformers_models.families import FAMILIES
from attnchain_adapters.transformers_models.generation import Generation
from attnchain_adapters.transformers_models.layouts import layouts_of
from attnchain_adapters.transformers_models.stacks import (
    Stack,
    attends,
    attention_modules,
    family_of,
    stack_meant,
    stacks_of,
)
from attnchain_interp import AttentionError, TokenLayout
from attnchain_interp.capture import CaptureRequest, Expected, LoadedModel, OutputCollector, Reading, StackKind, rgb_image

Result = TypeVar("Result")

_ENTRIES: Final = ("forward", "generate")
_BESIDE_TEXT: Final = ("pixel_values", "input_features")
_START: Final = torch.tensor([[0, 1]])


@final
class TransformersAdapter:
    """Reads one stack of attention layers of a transformers model, chosen by tower and kind."""

    supported = (
        f"{len(FAMILIES)} families of encoders, decoders and encoder–decoders of text, images and sound (docs/models.md)"
    )

    def __repr__(self) -> str:
        return "TransformersAdapter()"

    def recognises(self, source: Any) -> bool:
        return isinstance(source, PreTrainedModel) or _generates(source)

    def entries(self, module: nn.Module) -> tuple[str, ...]:
        """See `FamilyAdapter.entries`. For a family that is refused or untried, `capture` gives the reason."""
        if not isinstance(module, PreTrainedModel) or not attends(module):
            return ()
        if type(module).__module__.split(".")[0] != "transformers" and module.config.model_type not in FAMILIES:
            return ()
        return tuple(entry for entry in _ENTRIES if is_run_by(module, entry, "transformers", module.main_input_name))

    def capture(
        self, source: Any, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], request: CaptureRequest[Result]
    ) -> Result:
        """See `Adapter.capture`. The source is a model, or its bound method `generate`, whose steps are put together.

        `Reading.kind` is "encoder", "decoder", "cross" or "pool". `Reading.tower` is a name in the configuration without
        `_config`: "text", "vision", … `Reading.tokenizer` gives labels and special tokens.
        """
        reading, is_generated = request.reading, _generates(source)
        if reading.tokens is not None and not is_generated:  # the user says the layout: the model is read by what it computes
            return TorchAdapter().capture(source, inputs, kwargs, request)
        reading.check_known("a model of transformers", "kind", "tower", "tokenizer", "tokens")
        if is_generated and (request.edit is not None or isinstance(request.collector, OutputCollector)):
            raise AttentionError("the maps of generated text cannot be edited.", "Use one forward of the finished text.")
        model: Any = source.__self__ if is_generated else source
        if not is_generated:
            _check_signature(model)
        given = kwargs if is_generated else arguments_of(model, inputs, kwargs, request.runs)
        images = any(name.startswith(_BESIDE_TEXT) and value is not None for name, value in given.items())
        stacks = stacks_of(model)
        stack = stack_meant(stacks, type(model).__name__, reading.kind, reading.tower, images)
        check_ready(model)
        wanted = request.select(stack.names)

        def expect(arguments: Mapping[str, Any]) -> TokenLayout:
            tokens, queries = layouts_of(model, stack, arguments, reading.tokenizer)
            request.collector.expect(Expected(tokens, len(wanted), stack.heads, stack.fused, queries))
            return tokens

        with ExitStack() as opened:
            generation = opened.enter_context(Generation(source, stack, inputs, kwargs)) if is_generated else None
            if generation is None:
                tokens = expect(given)
                runs = partial(request.runs or source, *inputs, **kwargs)
                check_replaced("transformers", model, runs, stack.layers, set(wanted), tokens.batch)
                opened.enter_context(_positions(model, tokens, given.get("input_ids")))
            taker = request.collector if generation is None else generation.steps
            beside = [name for each in stacks for name in each.layers]
            recording = opened.enter_context(recorder(model, stack.layers, set(wanted), taker, request.edit, beside))
            options = kwargs if generation is None else generation.options(kwargs, reading.tokenizer)
            output = request.run(source, inputs, options)
        seen = recording.metadata(request.layers, stack.advice, tokens_advice())
        if generation is not None:
            expect(generation.arguments(output))
            for name in (name for name in stack.names if name in wanted):
                request.collector.take(name, generation.steps.whole(name))
        metadata = {"adapter": "transformers", "model": type(model).__name__} | seen
        return request.result(wanted, metadata | stack.metadata, stack.names)

    def is_encoder_decoder(self, source: Any) -> bool:
        return isinstance(source, PreTrainedModel) and {"encoder", "decoder", "cross"} <= {s.kind for s in stacks_of(source)}

    def capture_encoder_decoder(
        self,
        source: Any,
        inputs: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        requests: Mapping[StackKind, CaptureRequest[Result]],
    ) -> Mapping[StackKind, Result]:
        """See `EncoderDecoderAdapter.capture_encoder_decoder`. `Reading.tokenizer` labels both sequences."""
        name, stacks = type(source).__name__, stacks_of(source)
        meant: dict[StackKind, Stack] = {kind: stack_meant(stacks, name, kind, None) for kind in requests}
        check_ready(source)
        first = next(iter(requests.values()))
        arguments = arguments_of(source, inputs, kwargs, first.runs)
        with ExitStack() as opened:
            recorders: dict[str, AttentionRecorder] = {}
            for kind, stack in meant.items():
                request = requests[kind]
                tokens, queries = layouts_of(source, stack, arguments, request.reading.tokenizer)
                request.collector.expect(Expected(tokens, len(stack.names), stack.heads, stack.fused, queries))
                if kind == "encoder":
                    opened.enter_context(_positions(source, tokens, arguments.get("input_ids")))
                beside = attention_modules(source)
                watching = recorder(source, stack.layers, set(stack.names), request.collector, request.edit, beside)
                recorders[kind] = opened.enter_context(watching)
            first.run(source, inputs, kwargs)
        found: dict[StackKind, Result] = {}
        for kind, stack in meant.items():
            seen = recorders[kind].metadata("all", stack.advice, tokens_advice())
            metadata = {"adapter": "transformers", "model": name} | seen | stack.metadata
            found[kind] = requests[kind].result(stack.names, metadata)
        return found

    def load(self, name: str) -> LoadedModel:
        saved_as = (AutoConfig.from_pretrained(name).architectures or ["AutoModel"])[0]
        whole = pretrained(name, getattr(transformers, saved_as))
        model = getattr(whole, "vision_model", whole)  # of a two-tower model, the tower of images
        taken, noise = model.main_input_name, np.random.default_rng(0)
        if taken == "pixel_values":
            processor = AutoImageProcessor.from_pretrained(name)

            def preprocess(image: Any) -> Tensor:
                return processor(images=rgb_image(image), return_tensors="pt")["pixel_values"]

            image = processor(images=noise.integers(0, 256, (256, 256, 3), dtype=np.uint8), return_tensors="pt")
            sample = {"pixel_values": image["pixel_values"], **_decoded(model, _START)}
            return LoadedModel(model, preprocess, sample, whole=whole)
        if taken == "input_ids" and family_of(model).sequence == "text":
            tokenizer = tokenizer_of(name, AutoTokenizer)
            text = dict(tokenizer(SENTENCE, return_tensors="pt"))
            return LoadedModel(model, None, text | _decoded(model, text["input_ids"]), Reading(tokenizer=tokenizer))
        if taken in ("input_values", "input_features"):
            extractor: Any = AutoFeatureExtractor.from_pretrained(name)
            rate = extractor.sampling_rate
            sound = dict(extractor(noise.standard_normal(rate), sampling_rate=rate, return_tensors="pt"))
            return LoadedModel(model, None, {**sound, **_decoded(model, _START)})
        raise AttentionError(
            f"{name} is a {saved_as}, for which no sample input is known here.",
            "Load it in Python and give it inputs of its own: attnchain_interp.prove(model, **inputs).",
        )


def _check_signature(model: Any) -> None:
    """Refuses a user's subclass whose forward does not take the model's input by its name, which says what the tokens are."""
    name, main = type(model).__name__, model.main_input_name
    if not is_run_by(model, "forward", "transformers", main):
        takes = ", ".join(list(inspect.signature(type(model).forward).parameters)[1:])
        raise AttentionError(
            f"forward of {name} takes ({takes}), and the layout of its tokens is read from {main}.",
            f"Name the argument {main}, or write a module that holds the model and calls it: self.model({main}=…).",
        )


def _positions(model: Any, tokens: TokenLayout, ids: Any) -> AbstractContextManager[object]:
    """Returns a context that warns of positions which count the padding before a text."""
    takes = "position_ids" in inspect.signature(type(model).forward).parameters
    positions = PaddedPositions(type(model).__name__, tokens, ids, takes)
    return positions if positions.waits else nullcontext()


def _decoded(model: Any, ids: Tensor) -> dict[str, Tensor]:
    """Token numbers for the decoder of a model that has one beside its encoder."""
    return {"decoder_input_ids": ids} if "decoder_input_ids" in inspect.signature(type(model).forward).parameters else {}


def _generates(source: Any) -> bool:
    return inspect.ismethod(source) and source.__name__ == "generate" and isinstance(source.__self__, PreTrainedModel)
