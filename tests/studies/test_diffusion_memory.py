"""The table of memory in the docs is the one that is computed, and its configurations are those of the published weights."""

from __future__ import annotations

from pathlib import Path

from studies.diffusion_memory import PIPELINES, built, memory_table, parameters

PAGE = Path(__file__).parents[2] / "docs/diffusion.md"
MILLIONS = {
    "FLUX.1-schnell": 11891,
    "stable-diffusion-v1-5": 860,
    "stable-diffusion-2-1": 866,
    "stable-diffusion-xl-base-1.0": 2567,
}


def test_the_docs_hold_the_computed_table() -> None:
    assert memory_table() in PAGE.read_text(encoding="utf-8")


def test_the_denoisers_have_as_many_parameters_as_the_published_ones() -> None:
    for of in PIPELINES:
        if (expected := MILLIONS.get(of.name.split("/")[1])) is not None:
            assert round(parameters(built(of.denoiser)) / 1e6) == expected
