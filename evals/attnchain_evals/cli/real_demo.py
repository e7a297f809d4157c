"""`attnchain demo --real`: objects and pieces of photographs by DINOv2, and the words from which SmolLM2 took an answer."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals.report.real_page import (
    ReadPhotograph,
    ShadedText,
    photograph_figure,
    segments_figure,
    text_figure,
    write_jpeg,
    write_real_page,
)
from attnchain_evals.segments import segment
from attnchain_evals.segments.whole_patches import WholePatches
from attnchain_evals.tasks.image_folder import ImageFolder, open_image
from attnchain_evals.terminal import announce, progress, working
from attnchain_evals.weights import FetchedModel, fetch, fetched

VISION, DECODER = "dinov2-small", "smollm2"
SIDE = 336  # pixels of the shorter side: 24 patches
SHOWN = 6
STEP = 0.5  # the probability of a further step
PASSAGE = (
    "Honey bees tell each other where flowers are by dancing. A bee that has found food returns to the hive and runs in a"
    " figure of eight on the comb. The angle of the run shows the direction of the food relative to the sun, and its length"
    " shows how far away the food is. Karl von Frisch, an Austrian zoologist, worked this out in the 1940s by painting dots on"
    " bees and watching them through a glass wall. He shared the Nobel Prize in 1973. Some of his colleagues did not believe"
    " him until a robot bee, built in Denmark, sent real bees to a place that they had never visited."
)
QUESTION = "Where was the robot bee built?"
WORD = "Denmark"
PROMPT = "The Eiffel Tower, which was built in 1889, is in the city of"


class Answered(NamedTuple):
    """The answer of the model, and the sources of each of its words.

    Attributes:
        answer: the text.
        words: of passage and question, with the space before each.
        sources: word of the answer, shares of `words`.
    """

    answer: str
    words: list[str]
    sources: list[tuple[str, list[float]]]


def demo_real(out: Path, photos: Path | None, home: Path | None, fetching: bool) -> None:
    """Runs the demo and prints the files it wrote."""
    announce(f"DINOv2 looks at photographs, SmolLM2 answers a question: pictures and a page, in {out}/")
    for file in run(out, photos, real_models(home, fetching)):
        typer.echo(file)


def real_models(home: Path | None, fetching: bool) -> tuple[FetchedModel, FetchedModel]:
    """Returns the models of the demo, fetched now or earlier."""
    if fetching:
        return fetch(VISION, home), fetch(DECODER, home)
    try:
        return fetched(VISION, home), fetched(DECODER, home)
    except ac.AttentionError as error:
        cause, fix = str(error).split("\n")
        raise ac.AttentionError(cause, f"{fix}. Or add --fetch.") from None


def photographs(folder: Path | None) -> Iterator[tuple[str, Any]]:
    """Yields (name, image) of the first photographs of a folder, or of three that scikit-image ships."""
    if folder is None:
        from PIL import Image
        from skimage import data

        for name in ("chelsea", "coffee", "astronaut"):
            yield name, Image.fromarray(getattr(data, name)())
    else:
        for file in ImageFolder(folder, torch.as_tensor).files[:SHOWN]:
            yield file.name, open_image(file)


def read_photograph(model: Any, processor: Any, name: str, image: Any) -> ReadPhotograph:
    """Returns the photograph in whole patches, with the walk from the class token and what it is compared with."""
    patch, shorter = model.config.patch_size, min(image.size)
    width, height = (round(SIDE * side / shorter / patch) * patch for side in image.size)
    pixels = processor(images=image, size={"height": height, "width": width}, do_center_crop=False, return_tensors="pt")[
        "pixel_values"
    ]
    store = ac.capture(model, pixels)
    maps = {
        "one bounce from the class token": ac.MultiBounce(layers=-1, balanced=True).score(store),
        "the class token's row": ac.RawAttention(token="class", layers=-1).score(store),  # noqa: S106 - no password
        "column sum of all layers": ac.ColumnSum().score(store),
    }
    shown = np.asarray(image.resize((width, height)))
    return ReadPhotograph(
        name, shown, {title: store.tokens.to_grid(scores)[0].double().numpy() for title, scores in maps.items()}
    )


def segmented(model: Any, processor: Any, images: Sequence[Any]) -> dict[str, list[NDArray[np.uint8]]]:
    """Returns title → a picture (height, width, 3) of each image: itself, its pieces, and its object."""
    reader = WholePatches(model, lambda image: processor(images=image, return_tensors="pt")["pixel_values"])
    found = [{wanted: segment(reader, image, wanted=wanted) for wanted in ("pieces", "object")} for image in images]
    return {
        "photograph": [each["object"].image for each in found],
        "its pieces": [each["pieces"].overlay for each in found],
        "its object": [each["object"].overlay for each in found],
    }


def contributions(model: Any) -> Any:
    """Returns the walk from the token before each output: by contributions, late layers more, half of its steps the last."""
    return ac.TokenRank(model, damping=STEP, causal="last", layer_weights="late", maps="alti")


def answered(model: Any, tokenizer: Any, passage: str, question: str) -> Answered:
    """Lets the model answer a question about a passage. Returns the answer and the source of each of its words."""
    said = f"{passage}\n\n{question}"
    messages = [{"role": "user", "content": f"{said} Answer in a few words."}]
    found = _attributed(contributions(model), tokenizer, messages, 24)
    words, shares = _words(found, said)
    kept = [k for k, template in enumerate(found.output_spelling.template) if not template]
    answer, shares = found.output_spelling.joined([[k] for k in kept]), shares[kept]
    sources = []
    for match in re.finditer(r"[\w'-]+", answer.text):
        (tokens,) = answer.groups([match.span()])
        sources.append((match.group(), shares[tokens].mean(0).tolist()))
    return Answered(answer.text, words, sources)


def continued(model: Any, tokenizer: Any, prompt: str) -> tuple[str, list[ShadedText]]:
    """Returns the next token after a prompt, and the prompt shaded by contributions and by attention alone."""
    methods = {
        "By contributions, late layers more:": contributions(model),
        "By attention alone (Rollout):": ac.Rollout(model, maps="attention"),
    }
    token, texts = "", []
    for title, method in methods.items():
        with warnings.catch_warnings():  # Rollout warns of what is shown here
            warnings.filterwarnings("ignore", "Rollout ranks")
            found = _attributed(method, tokenizer, prompt, 1)
        words, shares = _words(found, prompt)
        token = found.output_spelling.text.strip()
        texts.append(ShadedText(title, words, shares[0].tolist()))
    return token, texts


def _attributed(method: Any, tokenizer: Any, prompt: Any, tokens: int) -> ac.TextAttributionResult:
    """Returns the scores of up to so many generated tokens without those of the token before each, which starts the walk."""
    return ac.TextAttribution(method, tokenizer).attribute(prompt, gen_args={"max_new_tokens": tokens}).elsewhere()


def _words(found: Any, said: str) -> tuple[list[str], Tensor]:
    """Returns the words of a part of the prompt, and the share (output token, word) of each in all scores of the row."""
    first, words = found.spelling.text.index(said), [*re.finditer(r"\s*\S+", said)]
    scores = found.grouped([(first + word.start(), first + word.end()) for word in words]).token_attr
    total = (found.token_attr.sum(1) + found.output_attr.sum(1))[:, None]
    return [word.group() for word in words], torch.where(total > 0, scores / total, 0)


def run(out: Path, photos: Path | None, models: tuple[FetchedModel, FetchedModel]) -> list[Path]:
    """Reads photographs and texts, writes the pictures and the page into `out`, and returns their files."""
    from transformers import AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoTokenizer

    vision, decoder = models
    out.mkdir(parents=True, exist_ok=True)
    model, processor = AutoModel.from_pretrained(vision.path).eval(), AutoImageProcessor.from_pretrained(vision.path)
    images = [*photographs(photos)]
    read = [read_photograph(model, processor, name, image) for name, image in progress(images, "photographs")]
    with working("cutting photographs into pieces"):
        pieces = segmented(model, processor, [image for _, image in images])
    model = AutoModelForCausalLM.from_pretrained(decoder.path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(decoder.path)
    with working("asking a question"):
        found = answered(model, tokenizer, PASSAGE, QUESTION)
    word, shares = next((each for each in found.sources if WORD in each[0]), found.sources[-1])
    passage = ShadedText("", found.words, shares)
    token, prompts = continued(model, tokenizer, PROMPT)
    pictures = [
        write_jpeg(photograph_figure(read), out / "photographs.jpg"),
        write_jpeg(segments_figure(pieces), out / "segments.jpg"),
        write_jpeg(text_figure(passage, f"→ {found.answer}"), out / "passage.jpg"),
    ]
    page = write_real_page(
        out / "real.html",
        *pictures[:2],
        vision="DINOv2-small",
        decoder="SmolLM2-135M-Instruct",
        passage=passage,
        answer=found.answer,
        word=word,
        sources=[(said, greatest(found.words, each)) for said, each in found.sources],
        continued=token,
        prompts=prompts,
        origin=f"Weights: DINOv2 {vision.source}; SmolLM2 {decoder.source}.",
    )
    return [*pictures, page]


def greatest(words: list[str], shares: list[float], count: int = 4) -> list[tuple[str, float]]:
    """Returns the words of the greatest shares, without punctuation, and the shares."""
    pairs = [(word.strip(" \n,.?!;:"), share) for word, share in zip(words, shares, strict=True)]
    return sorted(pairs, key=lambda pair: -pair[1])[:count]
