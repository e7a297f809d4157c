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
from studies.speed import cuda
from studies.speed.__main__ import machine, measure
from studies.speed.measurement import seconds_of
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
def decoder(sizes: Sizes, device: str) -> nn.Module:
    """A Llama of the shape of SmolLM2-135M, with positions for the longest prompt."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape: dict[str, Any] = {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9}
    shape |= {"num_key_value_heads": 3, "num_hidden_layers": sizes.layers or 30}
    torch.manual_seed(0)
    made: Any = LlamaForCausalLM(LlamaConfig(max_position_embeddings=max(sizes.prompts), **shape))
    return made.to(device).eval().requires_grad_(False)


@cache
def vit(name: str, sizes: Sizes, device: str) -> nn.Module:
    """A ViT of timm nobody trained."""
    from timm.models import create_model

    pixels = sizes.pixels if "dinov2" in name else sizes.large
    torch.manual_seed(0)
    depth: dict[str, Any] = {} if sizes.layers is None else {"depth": sizes.layers}
    made = create_model(name, img_size=pixels, **depth)
    return made.to(device).eval().requires_grad_(False)


def against_a_forward(attribute: Callable[[], Tensor], passes: Callable[[], Any], device: str) -> list[Figure]:
    """The time of an attribution, that of the passes that it needs, and the memory beyond theirs."""
    for call in (passes, attribute):
        call()  # loads kernels
    seconds, peak = _taken(attribute, device)
    own, least = _taken(passes, device)
    found = [
        Figure("time", seconds, "s", note=f"the passes through the model {own:.3g} s"),
        Figure("ratio", seconds / own, "×"),
    ]
    if peak is not None and least is not None:
        note = f"{peak / 1e6:.0f} MB against {least / 1e6:.0f} MB"
        found.append(Figure("peak memory beyond the passes", max(0, peak - least) / 1e6, "MB", note=note))
    return found


def _taken(call: Callable[[], Any], device: str) -> tuple[float, int | None]:
    """Seconds of a call, and its peak memory on a CUDA device."""
    if device != "cuda":
        return seconds_of(call), None
    torch.cuda.empty_cache()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    return seconds_of(call), torch.cuda.max_memory_allocated() - before


def of_a_prompt(build: Callable[[Any], Any], tokens: int, sizes: Sizes, device: str) -> list[Figure]:
    """One answer token of a prompt."""
    model: Any = decoder(sizes, device)
    ids = torch.randint(0, 49152, (1, tokens), generator=torch.Generator().manual_seed(0)).to(device)
    method, answer = build(model), (-1, 7)

    def forward() -> Any:
        with torch.no_grad():
            return model(ids, logits_to_keep=1).logits

    def both() -> Any:
        embedded = model.get_input_embeddings()(ids).requires_grad_()
        return torch.autograd.grad(model(inputs_embeds=embedded, logits_to_keep=1).logits[0][answer], embedded)

    target: dict[str, Any] = {"target": answer} if method.explains_target else {}
    return against_a_forward(lambda: method.attribute(ids, output="tokens", **target), both if target else forward, device)


def of_images(name: str, build: Callable[[Any], Any], batch: int, sizes: Sizes, device: str) -> list[Figure]:
    """A batch of images."""
    model: Any = vit(name, sizes, device)
    pixels = sizes.pixels if "dinov2" in name else sizes.large
    images = torch.randn(batch, 3, pixels, pixels, generator=torch.Generator().manual_seed(0)).to(device)
    method = build(model)

    def forward() -> Any:
        with torch.no_grad():
            return model(images)

    def both() -> Any:
        given = images.clone().requires_grad_()
        return torch.autograd.grad(model(given)[:, 0].sum(), given)

    target: dict[str, Any] = {"target": 0} if method.explains_target else {}
    return against_a_forward(lambda: method.attribute(images, output="tokens", **target), both if target else forward, device)


PROMPTS: Final[dict[str, Callable[[Any], Any]]] = {
    "TokenRank of attention": partial(ac.TokenRank, maps="attention"),
    "TokenRank of projections": partial(ac.TokenRank, maps="projection"),
    "MultiBounce of attention": partial(ac.MultiBounce, maps="attention"),
    "GradientTokenRank": ac.GradientTokenRank,
}
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
