"""The tokens of a transformers model, from its configuration and the arguments of its forward."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnchain_adapters.checks import check_floats, check_image, check_text, described
from attnchain_adapters.transformers_models.stacks import Stack, stacks_of
from attnchain_interp import AttentionError, Role, TokenLayout

_SPECIAL: Final = ("bos", "eos", "pad", "sep", "cls", "decoder_start")
_SEEN: Final = ("image_token_id", "video_token_id")
_POSITIONS: Final = {"position_embeddings", "position_embedding", "embed_positions", "positions_embed", "wpe"}


def layouts_of(
    model: Any, stack: Stack, arguments: Mapping[str, Any], tokenizer: Any
) -> tuple[TokenLayout, TokenLayout | None]:
    """Returns the layout of a stack's tokens, and of its queries where they are others (cross-attention, a pooling head).

    Args:
        model: the whole model.
        stack: the layers that are meant.
        arguments: of the model's forward, by name.
        tokenizer: for labels; or None.

    Raises:
        AttentionError: inputs that the model cannot take.
    """
    if stack.kind == "cross":
        return _keys_of_cross(model, stack, arguments, tokenizer), _text(model, stack, arguments, tokenizer)
    if stack.kind == "pool":
        tokens = _layout(model, stack, arguments, tokenizer)
        return tokens, TokenLayout(torch.full((tokens.batch, 1), int(Role.SPECIAL), device="cpu"))
    return _layout(model, stack, arguments, tokenizer), None


def _layout(model: Any, stack: Stack, arguments: Mapping[str, Any], tokenizer: Any) -> TokenLayout:
    sequence = stack.family.sequence
    if sequence == "text" or stack.kind == "decoder":
        return _text(model, stack, arguments, tokenizer)
    if sequence == "image":
        return _image(model, stack, arguments)
    if sequence == "several":
        raise AttentionError(
            f"these layers of {type(model).__name__} belong to none of its towers but read all of them together. The layout of"
            " their tokens is not known.",
            "Pass their maps yourself: AttentionStore.from_maps(your_maps, tokens=…).",
        )
    return {"video": _video, "audio": _audio, "spectrogram": _spectrogram}[sequence](stack, arguments)


def _keys_of_cross(model: Any, stack: Stack, arguments: Mapping[str, Any], tokenizer: Any) -> TokenLayout:
    """The layout of the encoder to which a decoder attends."""
    encoders = [other for other in stacks_of(model) if other.kind == "encoder"]
    if len(encoders) != 1:
        raise AttentionError(
            f"{type(model).__name__} has no encoder of its own, so the keys of its cross-attention are not known.",
            "Capture the whole encoder–decoder.",
        )
    return _layout(model, encoders[0], arguments, tokenizer)


def _text(model: Any, stack: Stack, arguments: Mapping[str, Any], tokenizer: Any) -> TokenLayout:
    config, name = stack.owner.config, type(model).__name__
    takes = inspect.signature(type(model).forward).parameters
    beside_encoder = "decoder_input_ids" in takes and any(
        stack.kind in ("decoder", "cross") and other.kind == "cross" and other.tower == stack.tower
        for other in stacks_of(model)
    )
    prefix = "decoder_" if beside_encoder else ""
    ids, mask, embeddings = (arguments.get(prefix + what) for what in ("input_ids", "attention_mask", "inputs_embeds"))
    if beside_encoder and ids is None and embeddings is None:  # the model makes them, of what it has, shifted to the right
        labels, encoded = (arguments.get(what) for what in ("labels", "input_ids"))
        if isinstance(labels, Tensor):
            ids = torch.full_like(labels, -1)
        elif isinstance(encoded, Tensor):  # what is made of padding is padding
            ids, mask = torch.full_like(encoded, -1), arguments.get("attention_mask") if mask is None else mask
    ids, mask = (_folded(argument, 2) for argument in (ids, mask))
    embeddings = _folded(embeddings, 3)
    special = {token for name in _SPECIAL for token in _numbers(config, f"{name}_token_id")}
    class_first = stack.family.prefix == (Role.CLASS,) and stack.kind == "encoder"
    layout = check_text(name, ids, mask, embeddings, special, class_first, tokenizer)
    _check_positions(stack, layout)
    seen = [token for name in _SEEN for token in _numbers(model.config, name)]
    if ids is not None:
        _check_known(stack, f"{prefix}input_ids", ids, seen)
    if not seen or ids is None:
        return layout
    patches = torch.isin(ids.cpu(), torch.tensor(seen)) & layout.mask
    return TokenLayout(layout.roles.masked_fill(patches, Role.PATCH), labels=layout.labels)


def _numbers(config: Any, name: str) -> list[int]:
    """The token numbers of a field of a configuration: none, one, or a list of them (several ends of a text)."""
    value = getattr(config, name, None)
    return [token for token in (value if isinstance(value, list | tuple) else [value]) if isinstance(token, int)]


def _folded(argument: Any, ndim: int) -> Any:
    """Returns a tensor (batch, choice, …) as (batch · choice, …): so models of several texts an example read it."""
    more = isinstance(argument, Tensor) and argument.ndim == ndim + 1
    return argument.flatten(0, 1) if more else argument


def _check_known(stack: Stack, argument: str, ids: Tensor, seen: list[int]) -> None:
    """Refuses token numbers without an embedding, which a GPU would report as a device-side assert.

    -1 stands for a token without a number, and images may have a number of their own.
    """
    try:
        table = stack.owner.get_input_embeddings()
    except NotImplementedError:
        table = None
    if not isinstance(table, nn.Embedding):
        return
    ids, count = ids.cpu(), table.num_embeddings
    if bool((((ids < -1) | (ids >= count)) & ~torch.isin(ids, torch.tensor(seen, device="cpu"))).any()):
        raise AttentionError(
            f"{argument} holds token numbers from {int(ids.min())} to {int(ids.max())}, but {type(stack.owner).__name__} has"
            f" tokens 0 to {count - 1}.",
            "Pass the numbers that the model's own tokenizer gives.",
        )


def _check_positions(stack: Stack, layout: TokenLayout) -> None:
    longest = int(layout.mask.sum(1).max())
    for name, module in stack.owner.named_modules():
        if isinstance(module, nn.Embedding) and name.rsplit(".", 1)[-1] in _POSITIONS:
            shift = module.padding_idx + 1 if module.padding_idx is not None else getattr(module, "offset", 0)
            if longest > module.num_embeddings - shift:
                raise AttentionError(
                    f"the input has {longest} tokens but {type(stack.owner).__name__} has positions for"
                    f" {module.num_embeddings - shift} ({name}).",
                    "Shorten it: truncation=True in the tokenizer.",
                )


def _image(model: Any, stack: Stack, arguments: Mapping[str, Any]) -> TokenLayout:
    config, family = stack.owner.config, stack.family
    any_size = family.any_size or arguments.get("interpolate_pos_encoding")
    images, pixels = _shown(arguments)
    size = None if any_size else _pair(config.image_size)
    interpolates = "interpolate_pos_encoding" in inspect.signature(type(model).forward).parameters
    otherwise = (
        "or interpolate the positions: capture(model, images, interpolate_pos_encoding=True), attribute(images,"
        ' model_kwargs={"interpolate_pos_encoding": True})'
    )
    height, width = check_image(type(stack.owner).__name__, images, size, *[otherwise] * interpolates)
    patch = _pair(config.patch_size)
    if height < patch[0] or width < patch[1]:
        raise AttentionError(
            f"images of {height} × {width} pixels are smaller than a patch of {patch[0]} × {patch[1]}.", "Resize them first."
        )
    prefix = [*family.prefix, *[Role.REGISTER] * getattr(config, "num_register_tokens", 0)]
    suffix = [Role.SPECIAL] * getattr(config, family.suffix or "", 0)
    layout = TokenLayout.image(len(images), (height // patch[0], width // patch[1]), prefix=prefix, suffix=suffix)  # type: ignore[arg-type]
    patches = arguments.get("patch_attention_mask") if pixels is None else F.max_pool2d(pixels.float(), patch)
    if not isinstance(patches, Tensor) or bool(patches.all()):
        return layout
    return TokenLayout(layout.roles.masked_fill(~patches.flatten(1).bool().cpu(), int(Role.PAD)))


def _shown(arguments: Mapping[str, Any]) -> tuple[Any, Tensor | None]:
    """Returns the images, and the mask of their pixels. Of several images an example (Idefics3), those of zeros pad others."""
    images, pixels = arguments.get("pixel_values"), arguments.get("pixel_attention_mask")
    if not isinstance(images, Tensor) or images.ndim != 5:
        return images, None
    images = images.flatten(0, 1)
    real = images.flatten(1).ne(0).any(1)
    return images[real], None if pixels is None else pixels.flatten(0, 1)[real]


def _video(stack: Stack, arguments: Mapping[str, Any]) -> TokenLayout:
    """Patches of several frames each; the grid has the frames one below the other."""
    config: Any = stack.owner.config
    videos: Any = arguments.get("pixel_values")
    check_floats(type(stack.owner).__name__, videos, "videos", "(batch, frame, channel, height, width)", 5)
    size = config.tubelet_size
    depth, *patch = (size, *_pair(config.patch_size)) if isinstance(size, int) else size
    frames, (height, width) = videos.shape[1] // depth, videos.shape[-2:]
    return TokenLayout.image(len(videos), (frames * (height // patch[0]), width // patch[1]), prefix=stack.family.prefix)


def _spectrogram(stack: Stack, arguments: Mapping[str, Any]) -> TokenLayout:
    """Patches of a spectrogram (batch, time, frequency); the grid is (frequency, time)."""
    config: Any = stack.owner.config
    values: Any = arguments.get("input_values")
    check_floats(type(stack.owner).__name__, values, "spectrograms", "(batch, time, frequency)", 3)
    frequency = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
    time = (config.max_length - config.patch_size) // config.time_stride + 1
    return TokenLayout.image(len(values), (frequency, time), prefix=stack.family.prefix)


def _audio(stack: Stack, arguments: Mapping[str, Any]) -> TokenLayout:
    """Frames of a waveform (batch, sample) or of features; padding where the attention mask says so."""
    owner, config = stack.owner, stack.owner.config
    values = arguments.get("input_values", arguments.get("input_features"))
    if not isinstance(values, Tensor) or not values.is_floating_point() or values.ndim not in (2, 3):
        raise AttentionError(
            f"{type(owner).__name__} takes a waveform (batch, sample) or features (batch, …) as floating-point tensor; got"
            f" {described(values)}.",
            "Pass the output of the model's feature extractor.",
        )
    mask = arguments.get("attention_mask")
    if config.model_type == "whisper":  # always a whole window, whatever the mask
        return _frames(torch.full((len(values),), config.max_source_positions, device="cpu"))
    samples = values.shape[1]
    lengths = torch.full((len(values),), samples, device="cpu") if mask is None else mask.sum(1).cpu()
    model = next(module for module in owner.modules() if hasattr(module, "_get_feat_extract_output_lengths"))

    def frames(lengths: Tensor) -> Tensor:
        return model._get_feat_extract_output_lengths(lengths) // getattr(config, "squeeze_factor", 1)

    return _frames(frames(lengths), int(frames(torch.tensor([samples], device="cpu"))))


def _frames(lengths: Tensor, most: int | None = None) -> TokenLayout:
    inside = torch.arange(int(lengths.max()) if most is None else most, device="cpu") < lengths[:, None]
    return TokenLayout(torch.where(inside, int(Role.FRAME), int(Role.PAD)))


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
