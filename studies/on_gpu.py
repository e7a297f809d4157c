"""Time and memory on a CUDA device, in one command of at most eight minutes: `python -m studies.on_gpu`.

Writes a table in Markdown and its figures in JSON after each row, so that what was measured stays if the command is stopped.
The models have random weights: a Llama of the shape of SmolLM2-135M, ViTs of the shapes of DINOv2-small and of ViT-L. A row
that raises or finds no memory is said to have broken, and the others still run. `--dry-run` takes small sizes, on the CPU
where there is no CUDA device: it shows that the command works, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.files import write_text
from studies.speed import attribution, cuda, long_prompts
from studies.speed.__main__ import machine, measure
from studies.speed.contributions import llama, prompt
from studies.speed.measurement import seconds_and_peak
from studies.speed.rows import Figure, Result, Row, Skipped, table

LIMIT: Final = 8 * 60  # seconds; a row begins only before the last minute of them


class Sizes(NamedTuple):
    """Tokens of the prompts; pixels and batches of the images; layers of all models, None for as many as they have."""

    prompts: tuple[int, ...] = (8192, 32768)
    pixels: int = 1036
    images: tuple[int, ...] = (1, 4, 8)
    large: int = 336
    layers: int | None = None


SMALL: Final = Sizes((48, 64), 56, (1, 2), 56, 2)


@cache
def vit(name: str, sizes: Sizes, device: str) -> nn.Module:
    """A ViT of timm nobody trained."""
    from timm.models import create_model

    pixels = sizes.pixels if "dinov2" in name else sizes.large
    torch.manual_seed(0)
    depth: dict[str, Any] = {} if sizes.layers is None else {"depth": sizes.layers}
    made = create_model(name, img_size=pixels, **depth)
    return made.to(device).eval().requires_grad_(False)


def against_the_passes(attribute: Callable[[], Tensor], passes: Callable[[], Any]) -> list[Figure]:
    """The time of an attribution, that of the passes that it needs, and the memory beyond theirs."""
    for call in (passes, attribute):
        call()  # loads kernels
    (seconds, peak), (own, least) = seconds_and_peak(attribute), seconds_and_peak(passes)
    memory = f"{peak / 1e6:.0f} MB against {least / 1e6:.0f} MB"
    found = [
        Figure("time", seconds, "s", note=f"the passes through the model {own:.3g} s"),
        Figure("ratio", seconds / own, "×"),
        Figure("peak memory beyond the passes", max(0, peak - least) / 1e6, "MB", note=memory),
    ]
    return found if torch.cuda.is_available() else found[:2]


def of_a_prompt(build: Callable[[Any], Any], tokens: int, sizes: Sizes, device: str) -> list[Figure]:
    """One answer token of a prompt."""
    given = llama(sizes.layers or 30).to(device), prompt(tokens).to(device)
    passes = long_prompts.forward_and_backward if build(given[0]).explains_target else long_prompts.forward
    return against_the_passes(partial(long_prompts.attribute, build, *given), partial(passes, *given))


def of_images(name: str, build: Callable[[Any], Any], batch: int, sizes: Sizes, device: str) -> list[Figure]:
    """A batch of images."""
    model: Any = vit(name, sizes, device)
    pixels = sizes.pixels if "dinov2" in name else sizes.large
    images = torch.randn(batch, 3, pixels, pixels, generator=torch.Generator().manual_seed(0)).to(device)
    method, classes = build(model), torch.zeros(batch, dtype=torch.long, device=device)
    passes = attribution.forward_and_backward if method.explains_target else attribution.forward
    return against_the_passes(
        lambda: method.attribute(images, classes, output="tokens"), partial(passes, model, images, classes)
    )


PROMPTS: Final = {**long_prompts.METHODS, "GradientTokenRank": ac.GradientTokenRank}
IMAGES: Final[dict[str, Callable[[Any], Any]]] = {"TokenRank": ac.TokenRank, "GradientTokenRank": ac.GradientTokenRank}
DINO, LARGE = "vit_small_patch14_dinov2", "vit_large_patch14_clip_336"


def rows(sizes: Sizes, device: str) -> Iterator[Row]:
    """The rows, the shortest first, so that a limit of time costs the longest."""
    kind: Any = "cuda" if device == "cuda" else "cpu"
    if device == "cuda":
        yield from cuda.ROWS
    for method, build in IMAGES.items():
        run = partial(of_images, LARGE, build, sizes.images[-1], sizes, device)
        yield Row(f"vit-large {method}", f"{sizes.images[-1]} images of {sizes.large} pixels, ViT-L/14", run, kind)
    for batch in sizes.images:
        for method, build in IMAGES.items():
            run = partial(of_images, DINO, build, batch, sizes, device)
            yield Row(f"dinov2 {method} {batch}", f"{batch} images of {sizes.pixels} pixels, DINOv2-small", run, kind)
    for tokens in sizes.prompts:
        for method, build in PROMPTS.items():
            run = partial(of_a_prompt, build, tokens, sizes, device)
            yield Row(f"prompt {method} {tokens}", f"one answer to {tokens} tokens, as SmolLM2-135M", run, kind)


def results(chosen: Sequence[Row], limit: float) -> Iterator[Result]:
    """The result of each row; a row for which no time is left is skipped."""
    start = time.perf_counter()
    for row in chosen:
        left = limit - (time.perf_counter() - start)
        yield measure(row if left > 60 else Row(row.name, row.title, _out_of_time, row.device))
        if row.device == "cuda":
            torch.cuda.empty_cache()


def _out_of_time() -> list[Figure]:
    raise Skipped("no time is left")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m studies.on_gpu", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("on_gpu"), help="folder of the table; default: %(default)s")
    parser.add_argument("--dry-run", action="store_true", help="small sizes, on the CPU where there is no CUDA device")
    parser.add_argument("--seconds", type=float, default=LIMIT, help="default: %(default)s")
    chosen = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not chosen.dry_run:
        print("There is no CUDA device here. --dry-run shows on the CPU that the command works.", file=sys.stderr)
        return 2
    chosen.output.mkdir(parents=True, exist_ok=True)
    found: list[Result] = []
    print(machine(device), flush=True)
    for result in results(list(rows(SMALL if chosen.dry_run else Sizes(), device)), chosen.seconds):
        found.append(result)
        print(f"{result.name}: {result.lines} ({result.seconds} s)", flush=True)
        write_text(chosen.output / "on_gpu.md", table(found))
        write_text(
            chosen.output / "on_gpu.json", json.dumps([asdict(one) for one in found], indent=1, ensure_ascii=False) + "\n"
        )
    return int(any(result.falls_short for result in found))


if __name__ == "__main__":
    sys.exit(main())
