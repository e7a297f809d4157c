"""ImageNet-Segmentation without training: bounces from the class's word through the attention of a diffusion model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from attnchain_evals.bench.data_names import open_data
from attnchain_evals.bench.experiment import device_named
from attnchain_evals.bench.model_loading import cached_names, loading_failure
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.bench.runner import Plan, run
from attnchain_evals.metrics import localisation_metrics
from attnchain_evals.reproduce.experiment import Settings, write_page
from attnchain_evals.reproduce.imagenet_segmentation import percentages
from attnchain_evals.reproduce.reported import IMAGENET_SEGMENTATION
from attnchain_evals.tasks.image_folder import files_digest, hidden
from attnchain_evals.tasks.imagenet_segmentation import ImageNetSegmentation
from attnchain_interp import AttentionError
from attnchain_interp.capture import adapter_named, rgb_image
from attnchain_interp.checks import check_one_of
from attnchain_interp.diffusion import PipelineAdapter, capture_image, word_map
from attnchain_interp.store import Direction, Grid, LayerSelection

PRECISIONS: Final = ("float32", "float16", "bfloat16")
TITLE: Final = "ImageNet-Segmentation by a diffusion model"
SIDE: Final = 224  # maps and masks are resized to this side by nearest neighbour


@final
@dataclass(frozen=True)
class WordBounces:
    """Bounces from the word of the class: their number, and the direction of the walk."""

    steps: int
    direction: Direction


METHODS: Final = {
    "column of the word": WordBounces(1, "outgoing"),
    "row of the word": WordBounces(1, "incoming"),
    "2 bounces, incoming": WordBounces(2, "incoming"),
    "2 bounces, outgoing": WordBounces(2, "outgoing"),
    "3 bounces, incoming": WordBounces(3, "incoming"),
    "3 bounces, outgoing": WordBounces(3, "outgoing"),
}


@final
@dataclass(frozen=True)
class Options:
    """How the pipeline is loaded, and how its denoiser sees an image.

    Attributes:
        size: the side in pixels of the square that the image is squeezed to (bicubic).
        timestep, heads, layers, grid: see `capture_image`.
        text: number of tokens of the text encoder (`max_sequence_length`); the pipeline's own when None.
        dtype: of the weights: "float32", "float16" or "bfloat16".
        offload: keeps the weights on the CPU and brings one model at a time to the device.
    """

    size: int = 512
    timestep: float = 250
    heads: str = "lambda2"
    layers: LayerSelection = "all"
    grid: Grid | None = None
    text: int | None = None
    dtype: str = "float32"
    offload: bool = False


@final
class WordMaps:
    """The maps of one image from the name of its class. All methods share one forward of the denoiser.

    Args:
        model: the pipeline.
        data: the images with their classes.
        number: the number of the image; it also seeds the noise.
        options: how the denoiser sees the image.
    """

    known_target = None  # localisation does not read the class

    def __init__(self, model: LazyPipeline, data: ImageNetSegmentation, number: int, options: Options) -> None:
        self._model, self._data, self._number, self._options = model, data, number, options

    def scores(self, method: WordBounces) -> Tensor:
        """Returns the map of a method (1, 224, 224)."""
        own, cross = self._stores
        grid = word_map(own, self._word, steps=method.steps, direction=method.direction, cross=cross)
        return F.interpolate(grid[:, None].float().cpu(), (SIDE, SIDE), mode="nearest")[:, 0]

    @cached_property
    def _word(self) -> str:
        names = self._data.class_name(self._number)
        if names is None:
            raise AttentionError(
                f"image {self._number} has no known class, and the walk starts at the class's name.",
                "Use the published gtsegs_ijcv.mat, or remove the image.",
            )
        return names.split(",")[0].strip()

    @cached_property
    def _stores(self) -> Any:
        own = self._options
        call: dict[str, Any] = {} if own.text is None else {"max_sequence_length": own.text}
        call |= {"heads": own.heads, "layers": own.layers, "grid": own.grid, "timestep": own.timestep}
        image = _squeezed(Image.fromarray(self._data.arrays(self._number)[0]), own.size)
        generator = torch.Generator().manual_seed(self._number)
        return capture_image(self._model.pipe, image, f"a {self._word}", generator=generator, **call)


def flux_segmentation(settings: Settings, options: Options) -> str:
    """Measures and returns the page.

    The protocol is ConceptAttention's: the prompt is "a {class}"; maps and masks are resized to 224 × 224 by nearest
    neighbour; Acc, mIoU and mAP follow Chefer et al. The class is the first of its names in WordNet. Each image takes one
    forward, and its noise depends on the image's number alone. The run is kept, and the same call continues it.
    """
    if not settings.data.startswith("imagenet-segmentation:"):
        raise AttentionError(
            f"data {settings.data!r} have no words for the classes of their masks.", "Use imagenet-segmentation:PATH."
        )
    data = open_data(settings.data, lambda image: _squeezed(image, SIDE), settings.limit, 0)
    metrics = localisation_metrics()
    model = LazyPipeline(settings.model, settings.device, options)
    plan = Plan(
        model,
        data,
        METHODS,
        metrics,
        batch_size=1,
        limit=settings.limit,
        name=settings.model,
        capture=lambda model, _, number: WordMaps(model, data, number, options),  # type: ignore[arg-type]
        settings={"weights": model.weights, "options": {**asdict(options), "layers": str(options.layers)}},
    )
    run(plan, settings.output, progress=True)
    result = BenchmarkResult.read(settings.output, metrics)
    return write_page(settings, TITLE, result, percentages(result), IMAGENET_SEGMENTATION)


def layers_of(text: str) -> LayerSelection:
    """Returns the layers of "all", or of numbers and slices with commas between them: "9:19,47:57"."""
    if text == "all":
        return "all"
    numbers: list[int] = []
    for part in text.split(","):
        first, colon, last = part.partition(":")
        if not first.isdigit() or (colon and not last.isdigit()):
            raise AttentionError(
                f'layers {text!r} is neither "all" nor numbers and slices.',
                "Write numbers and slices with commas between them: 9:19,47:57.",
            )
        numbers += range(int(first), int(last)) if colon else [int(first)]
    return numbers


def grid_of(text: str | None) -> Grid | None:
    """Returns the rows and columns of "16x16"."""
    if text is None:
        return None
    rows, _, columns = text.partition("x")
    if not rows.isdigit() or not columns.isdigit():
        raise AttentionError(f"grid {text!r} has no rows and columns.", "Write it as 16x16.")
    return int(rows), int(columns)


def _squeezed(image: Image.Image, side: int) -> Tensor:
    """Returns a PIL image as (1, 3, side, side) in [0, 1]."""
    return torch.from_numpy(np.array(rgb_image(image).resize((side, side)))).permute(2, 0, 1)[None] / 255


@final
class LazyPipeline(nn.Module):
    """A pipeline of diffusers as the model of a benchmark, loaded on the first use of `pipe`: a finished run loads none."""

    def __init__(self, name: str, device: str | None, options: Options) -> None:
        super().__init__()
        self._name, self._device, self._options = name, device_named(device), options
        self.place = nn.Parameter(torch.empty(0, device=self._device))  # tells the benchmark the device

    @cached_property
    def pipe(self) -> Any:
        return load_pipeline(self._name, self._device, self._options, commit_of(self._name))

    @property
    def weights(self) -> str:
        """The sha256 of a folder's files, or the commit of a name on the hub. It is loaded if it is not in the cache."""
        folder = Path(self._name)
        if folder.is_dir():
            files = sorted(each for each in folder.rglob("*") if each.is_file() and not hidden(each.relative_to(folder)))
            return files_digest(files, folder)
        if commit_of(self._name) is None:
            _ = self.pipe
        return commit_of(self._name) or "unknown"


def commit_of(name: str, cache: Path | None = None) -> str | None:
    """Returns the commit of a pipeline on the hub that lies in the cache: a folder, or the usual one when None."""
    from huggingface_hub import try_to_load_from_cache

    try:
        file = try_to_load_from_cache(name, "model_index.json", cache_dir=cache)
    except ValueError:  # no name that the hub could have
        return None
    return Path(file).parent.name if isinstance(file, str) else None


def load_pipeline(name: str, device: str, options: Options, revision: str | None = None) -> Any:
    """Returns the pipeline of diffusers of this name on the device, without progress bars. None is the newest revision."""
    check_one_of("dtype", options.dtype, PRECISIONS)
    adapter = adapter_named("diffusers")
    if not isinstance(adapter, PipelineAdapter):
        raise AttentionError(
            f"{type(adapter).__name__} loads no pipelines.", "Install the adapter of diffusers that ships here."
        )
    try:
        pipe = adapter.load_pipeline(name, torch_dtype=getattr(torch, options.dtype), revision=revision)
    except (OSError, RuntimeError, ValueError) as error:
        raise loading_failure("diffusers", name, error, cached_names()) from error
    pipe.set_progress_bar_config(disable=True)
    if options.offload:
        pipe.enable_model_cpu_offload(device=device)
        return pipe
    return pipe.to(device)
