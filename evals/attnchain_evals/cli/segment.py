"""`attnchain segment`: photographs in parts, by the attention of one model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from attnchain_evals.bench.model_loading import MODEL, check_model, load
from attnchain_evals.cli.options import check_effect
from attnchain_evals.cli.outputs import check_folder
from attnchain_evals.terminal import announce, as_usage, progress

PIPELINE = "diffusers:"


def segment(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"{MODEL}; with --word also {PIPELINE}NAME, a pipeline")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="files of images, and folders of them")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the files of every image")] = Path("segments"),
    wanted: Annotated[
        Literal["regions", "pieces", "object"],
        typer.Option(help="regions of attention, their connected pieces, or the object"),
    ] = "regions",
    k: Annotated[
        int | None, typer.Option("--k", "-k", min=1, help="the number of regions; found in the spectrum if not given")
    ] = None,
    scales: Annotated[int | None, typer.Option(help="also find 2, 3, … up to this many regions")] = None,
    point: Annotated[str | None, typer.Option(help="X,Y in pixels: what belongs to this point")] = None,
    box: Annotated[str | None, typer.Option(help="LEFT,TOP,RIGHT,BOTTOM in pixels: what belongs to this box")] = None,
    word: Annotated[
        str | None, typer.Option(help="what belongs to this word, by CLIP, SigLIP or a pipeline of diffusers")
    ] = None,
    side: Annotated[
        int | None, typer.Option(min=1, help="pixels of the shorter side for the model; 24 patches if not given")
    ] = None,
    refine: Annotated[bool, typer.Option("--refine/--no-refine", help="draw boundaries along the photograph's edges")] = True,
    track: Annotated[bool, typer.Option("--track", help="frames of one scene: a region keeps its number")] = False,
) -> None:
    """Writes labels, an overlay, memberships and facts of each image. One that has them, and is as it was, is not read again.

    Where the weights, the preprocessing or the options are others, the folder is refused. Of a pipeline the name alone is
    known. Where the folder holds results of another image of that name, a number is added.
    """
    from attnchain_evals.segments import segment as segmented
    from attnchain_evals.segments.segmentation import asked_place
    from attnchain_evals.segments.tracking import Tracker
    from attnchain_evals.tasks.image_folder import open_image
    from attnchain_interp import AttentionError
    from attnchain_interp.reprs import counted

    with as_usage():
        check_folder(output)
        if word is None and model.startswith(PIPELINE):
            raise AttentionError(
                f"{model} is a pipeline, which needs a word.", "Add --word WORD, or use a vision transformer."
            )
        if not model.startswith(PIPELINE):
            check_model(model)
        place = {"point": _numbers("--point", point, 2), "box": _numbers("--box", box, 4)}
        asked_place(wanted, k, place["point"], place["box"], word, scales)
        if point or box or word:
            check_effect(context, ("wanted",), "with --point, --box or --word")
        if track and (wanted != "regions" or point or box or word):
            raise AttentionError("--track follows regions alone.", "Leave out --wanted, --point, --box and --word.")
    files = list(_files(images))
    if not files:
        raise AttentionError(f"{', '.join(map(str, images))} holds no image.", "Name files of images, or folders of them.")
    at = point or box
    sought = f"{word!r} in" if word is not None else f"The {wanted} of" if at is None else f"What belongs to {at} in"
    announce(f"{sought} {counted(len(files), 'image')} by {model}: labels, overlays and facts, in {output}/")
    reader, loaded, identity = _reader(model, side) if word is None else _with_text(model, side)
    options: dict[str, Any] = {"wanted": wanted, "k": k, "scales": scales, "refine": refine, "word": word, **place}
    asked = json.loads(json.dumps({"model": model, **identity, "side": side, "track": track, **options}))
    named = list(zip(files, _names(files, output), strict=True))
    _check_asked(output, [name for _, name in named], asked)
    tracker = Tracker() if track else None
    failed: dict[Path, AttentionError] = {}
    for file, name in progress(named, "images"):
        told = {"sha256": _digest(file), "asked": asked}
        try:
            if _done(output, name, told["sha256"]) and tracker is None:
                continue
            found = segmented(reader, open_image(file), **loaded, **options)
        except AttentionError as error:
            failed[file] = error
            continue
        (found if tracker is None else tracker.followed(found)).write(output, name, {"image": str(file.resolve()), **told})
    if len(failed) == len(files) and len({str(error) for error in failed.values()}) == 1:
        raise next(iter(failed.values()))
    typer.echo(f"{len(files) - len(failed)} of {counted(len(files), 'image')} in {output}")
    if failed:
        told_of = " ".join(f"{file}: {error}".replace("\n", " ") for file, error in failed.items())
        raise AttentionError(
            f"{counted(len(failed), 'image')} without segments. {told_of}", "Replace them, or leave them out."
        )


def _reader(name: str, side: int | None) -> tuple[Any, dict[str, Any], dict[str, str]]:
    """Returns the model that looks at images, no further arguments of `segment`, and its `_identity`."""
    from attnchain_evals.segments.whole_patches import WholePatches
    from attnchain_interp import AttentionError

    loaded = load(name)
    if loaded.preprocess is None:
        raise AttentionError(f"{name} takes no images.", "Use a vision transformer.")
    return WholePatches(loaded.model, loaded.preprocess, side), {}, _identity(loaded.model, loaded.preprocess)


def _with_text(name: str, side: int | None) -> tuple[Any, dict[str, Any], dict[str, str]]:
    """Returns a model that has text, the further arguments of `segment`, and its `_identity`; none of a pipeline."""
    if name.startswith(PIPELINE):
        from attnchain_evals.bench.experiment import device_named
        from attnchain_evals.reproduce.flux_segmentation import Options, load_pipeline

        return load_pipeline(name.removeprefix(PIPELINE), device_named(None), Options()), {"side": side}, {}
    loaded = load(name)
    more: dict[str, Any] = {"preprocess": loaded.preprocess, "side": side}
    if hasattr(loaded.whole, "get_text_features"):
        from transformers import AutoTokenizer

        more["tokenizer"] = AutoTokenizer.from_pretrained(name.partition(":")[2])
    whole = loaded.whole or loaded.model
    return whole, more, _identity(whole, loaded.preprocess)


def _identity(model: Any, preprocess: Any) -> dict[str, str]:
    """Returns the sha256 of a model, and that of a black and a white image after preprocessing: its size and normalisation."""
    from PIL import Image

    from attnchain_evals.tasks.digest import digest, model_identity
    from attnchain_evals.tasks.mask_placement import SIDE

    found = {"model_sha256": model_identity(model)["sha256"]}
    if preprocess is not None:
        images = {colour: Image.new("RGB", (SIDE, SIDE), colour) for colour in ("black", "white")}
        found |= {f"{colour}_sha256": digest(preprocess(image)) for colour, image in images.items()}
    return found


def _files(paths: list[Path]) -> Iterator[Path]:
    """Yields the images: files as they are, and those of folders but for results. Other files in folders are named."""
    from attnchain_evals.tasks.image_folder import images_in

    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = images_in(path)
        others = sorted(each.name for each in path.rglob("*") if each.is_file() and each not in found)
        if others:
            some = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
            typer.echo(f"no images, left out: {some}", err=True)
        yield from (file for file in found if not _is_result(file))


def _is_result(file: Path) -> bool:
    """Says whether an image is the labels or the overlay of another one, whose facts lie beside."""
    stems = (file.name.removesuffix(ending) for ending in ("-labels.png", "-overlay.jpg") if file.name.endswith(ending))
    return any((file.parent / f"{stem}.json").is_file() for stem in stems)


def _names(files: list[Path], output: Path) -> Iterator[str]:
    """Yields the name of each image's files: its stem, with a number where several share it, here or in the folder."""
    stems, seen = {file.stem for file in files}, set[str]()
    for file in files:
        further = (f"{file.stem}-{number}" for number in count(2))
        free = (each for each in chain([file.stem], further) if each not in seen and (each == file.stem or each not in stems))
        name = next(each for each in free if not _is_of_another(output / f"{each}.json", file))
        seen.add(name)
        yield name


def _is_of_another(facts: Path, file: Path) -> bool:
    """Says whether facts are those of an image at another place, and of other bytes."""
    found = _read(facts) or {}
    at, sha256 = found.get("image"), found.get("sha256")
    return isinstance(at, str) and Path(at) != file.resolve() and sha256 != _digest(file)


def _digest(file: Path) -> str:
    """Returns the sha256 of an image's file. Returns an empty text for a file that cannot be read."""
    from attnchain_evals.tasks.digest import sha256

    try:
        return sha256(file)
    except OSError:
        return ""


def _check_asked(output: Path, names: list[str], asked: dict[str, Any]) -> None:
    """Refuses a folder that holds segments of these images which were asked for otherwise, and would be replaced."""
    from attnchain_evals.bench.fingerprint import differences
    from attnchain_interp import AttentionError

    for facts in (output / f"{name}.json" for name in names):
        found = _read(facts)
        if found is not None and (changed := differences(asked, found.get("asked") or {})):
            raise AttentionError(
                f"{facts} tells of segments that were asked for otherwise ({'; '.join(changed[:5])}).",
                "Name another folder: --output, or move these segments away.",
            )


def _done(output: Path, name: str, sha256: str) -> bool:
    """Says whether all files of an image with the same bytes are there. Refuses a JSON that `Segments.write` did not write."""
    from attnchain_evals.segments.segments import ENDINGS
    from attnchain_interp import AttentionError

    files = [output / f"{name}{ending}" for ending in ENDINGS]
    if not files[-1].exists():
        return False
    found = _read(files[-1])
    if found is None:
        raise AttentionError(
            f"{files[-1]} was not written by this command, which would replace it.",
            "Move it, or name another folder: --output.",
        )
    return all(file.is_file() for file in files) and found.get("sha256") == sha256


def _read(facts: Path) -> dict[str, Any] | None:
    """Returns the JSON that `Segments.write` wrote; None for another file, and where there is none."""
    try:
        found = json.loads(facts.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and {"areas", "weights"} <= found.keys() else None


def _numbers(option: str, text: str | None, wanted: int) -> tuple[float, ...] | None:
    from attnchain_interp import AttentionError

    if text is None:
        return None
    try:
        found = tuple(float(each) for each in text.split(","))
    except ValueError:
        found = ()
    if len(found) != wanted:
        raise AttentionError(f"{option} is {text!r}; it is {wanted} numbers with commas between.", "Write them in pixels.")
    return found
