"""`attnchain segment` on the bundled model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor
from typer.testing import CliRunner

from attnchain_evals.cli.app import app
from attnchain_evals.cli.segment import _names
from attnchain_interp import AttentionError

from ...tiny_pipelines import stable_diffusion, tokenizer
from ..segments.scenes import clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (2, 56, 70, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number}.png")
    (tmp_path / "in" / "notes.txt").touch()
    return tmp_path


def run(*arguments: object, model: str = "bundled") -> str:
    done = CliRunner().invoke(app, ["segment", model, *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_a_folder_is_segmented_once(folder: Path) -> None:
    out = folder / "out"
    said = run(folder / "in", "-o", out, "-k", 2)
    assert "no images, left out: notes.txt" in said
    assert "2 of 2 images" in said
    facts = json.loads((out / "0.json").read_text())
    assert facts["asked"]["k"] == 2
    assert Image.open(out / "0-labels.png").size == (70, 56)
    times = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    assert len(times) == 8
    (out / "1.json").unlink()
    run(folder / "in", "-o", out, "-k", 2)
    again = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    assert [name for name in times if again[name] != times[name]] == [name for name in times if name.startswith("1")]
    Image.open(folder / "in" / "1.png").rotate(180).save(folder / "in" / "0.png")
    run(folder / "in", "-o", out, "-k", 2)
    replaced = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    assert [name for name in again if replaced[name] != again[name]] == [name for name in again if name.startswith("0")]


def test_segments_that_were_asked_for_otherwise_are_not_replaced(folder: Path) -> None:
    out = folder / "out"
    run(folder / "in" / "1.png", "-o", out, "-k", 2)
    before = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    with pytest.raises(AttentionError, match=r"(?s)1\.json tells of segments .*k: null, not 2.*move these segments away"):
        run(folder / "in", "-o", out, "--point", "10,10")
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == before, "nothing is written"
    run(folder / "in" / "0.png", "-o", out, "--point", "10,10")
    run(folder / "in" / "0.png", "-o", out, "--point", "10,10")
    assert json.loads((out / "0.json").read_text())["asked"]["point"] == [10, 10], "another image has its own options"
    (out / "0.json").write_text('{"areas": {}, "weights": []}')
    with pytest.raises(AttentionError, match=r"0\.json tells of segments that were asked for otherwise \(model: "):
        run(folder / "in" / "0.png", "-o", out)


def test_segments_by_other_weights_of_the_same_name_are_not_replaced(folder: Path, hf_folder: str) -> None:
    out, image = folder / "out", folder / "in" / "0.png"

    run(image, "-o", out, "-k", 2, model=hf_folder)
    first = (out / "0.json").stat().st_mtime_ns
    run(image, "-o", out, "-k", 2, model=hf_folder)
    assert (out / "0.json").stat().st_mtime_ns == first
    weights = Path(hf_folder.removeprefix("hf:")) / "model.safetensors"
    save_file({name: -tensor for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    with pytest.raises(AttentionError, match="model_sha256: "):
        run(image, "-o", out, "-k", 2, model=hf_folder)


def test_segments_after_another_preprocessing_are_not_replaced(folder: Path, hf_folder: str) -> None:
    out, image = folder / "out", folder / "in" / "0.png"

    run(image, "-o", out, "-k", 2, model=hf_folder)
    settings = Path(hf_folder.removeprefix("hf:")) / "preprocessor_config.json"
    changed = {**json.loads(settings.read_text()), "image_std": [0.1, 0.1, 0.1]}
    settings.write_text(json.dumps(changed))
    with pytest.raises(AttentionError, match="black_sha256: "):
        run(image, "-o", out, "-k", 2, model=hf_folder)


def test_an_image_of_the_same_name_from_another_folder_does_not_replace_results(folder: Path) -> None:
    out, other = folder / "out", folder / "other"
    other.mkdir()
    Image.open(folder / "in" / "1.png").save(other / "0.png")
    run(folder / "in" / "0.png", "-o", out, "-k", 2)
    before = (out / "0.json").stat().st_mtime_ns
    for _ in range(2):
        run(other / "0.png", "-o", out, "-k", 2)
    assert (out / "0.json").stat().st_mtime_ns == before
    assert json.loads((out / "0-2.json").read_text())["image"] == str((other / "0.png").resolve())
    assert len([*out.iterdir()]) == 8
    moved = folder / "moved.png"
    (other / "0.png").rename(moved)
    run(moved, "-o", out, "-k", 2)
    assert (out / "moved.json").exists(), "another name"


def test_a_relative_name_is_that_of_the_folder_in_which_the_command_ran(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("in", "other")):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "same.png").write_bytes((folder / "in" / f"{number}.png").read_bytes())
        monkeypatch.chdir(folder / name)
        run("same.png", "-o", folder / "out", "-k", 2)
    images = [json.loads((folder / "out" / f"{name}.json").read_text())["image"] for name in ("same", "same-2")]
    assert images == [str((folder / name / "same.png").resolve()) for name in ("in", "other")]


def test_an_image_that_moved_is_the_same(folder: Path) -> None:
    run(folder / "in", "-o", folder / "out", "-k", 2)
    before = {file.name: file.stat().st_mtime_ns for file in (folder / "out").iterdir()}
    (folder / "in").rename(folder / "elsewhere")
    run(folder / "elsewhere", "-o", folder / "out", "-k", 2)
    assert {file.name: file.stat().st_mtime_ns for file in (folder / "out").iterdir()} == before


def test_results_beside_the_images_are_no_images(folder: Path) -> None:
    beside = folder / "in"
    Image.open(beside / "0.png").save(beside / "2-labels.png")  # a photograph of that name, without facts beside
    for _ in range(2):
        assert "3 of 3 images" in run(beside, "-o", beside, "-k", 2)
    assert not list(beside.glob("0-labels-*"))


@pytest.mark.parametrize("foreign", ["[]", '{"mine": 1}', "no JSON"])
def test_a_json_of_the_user_is_not_replaced(foreign: str, folder: Path) -> None:
    facts = folder / "in" / "0.json"
    facts.write_text(foreign)
    with pytest.raises(AttentionError, match=r"1 image without segments\. .*0\.json was not written by this command"):
        run(folder / "in", "-o", folder / "in", "-k", 2)
    assert facts.read_text() == foreign
    assert (folder / "in" / "1.json").exists()


def test_a_file_that_was_removed_is_written_again(folder: Path) -> None:
    for _ in range(2):
        run(folder / "in" / "0.png", "-o", folder / "out", "-k", 2)
        assert (folder / "out" / "0-labels.png").is_file()
        (folder / "out" / "0-labels.png").unlink()


def test_a_bad_image_does_not_stop_the_others(folder: Path) -> None:
    (folder / "in" / "0.png").write_bytes(b"no image")
    with pytest.raises(AttentionError, match=r"1 image without segments\. .*0\.png is not a readable image"):
        run(folder / "in", "-o", folder / "out", "-k", 2)
    assert (folder / "out" / "1.json").exists()


def test_a_folder_without_images_is_refused(folder: Path) -> None:
    (folder / "none").mkdir()
    with pytest.raises(AttentionError, match="none holds no image"):
        run(folder / "none", "-o", folder / "out")


def test_frames_and_equal_names(folder: Path) -> None:
    out = folder / "out"
    run(folder / "in" / "0.png", folder / "in" / "0.png", "-o", out, "--track", "-k", 2)
    one, two = (json.loads((out / f"{name}.json").read_text()) for name in ("0", "0-2"))
    assert one["numbers"] == two["numbers"] == [1, 2]


def test_no_two_images_have_one_name(tmp_path: Path) -> None:
    """A stem that several share gets a number, which another image may have in its own name."""
    files = [Path(name) for name in ("a.jpg", "a.png", "a-2.jpg", "other/a.jpg", "other/a-2.jpg", "b.jpg")]
    assert [*_names(files, tmp_path)] == ["a", "a-3", "a-2", "a-4", "a-2-2", "b"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--point", "1"], "--point is '1'; it is 2 numbers"),
        (["--box", "a,b,c,d"], "--box is 'a,b,c,d'; it is 4 numbers"),
        (["--track", "--point", "1,1"], "--track follows regions alone"),
        (["--point", "1,1", "-k", "3"], "^several of k, point, box"),
        (["--word", "dog"], "^VisionTransformer has no text"),  # said once, though no image has segments
        (["--side", "112"], "takes images of 56 × 56 pixels alone"),
    ],
)
def test_bad_options(folder: Path, options: list[str], said: str) -> None:
    with pytest.raises(AttentionError, match=said):
        run(folder / "in", "-o", folder / "out", *options)


def test_a_word_by_a_pipeline_and_by_towers(folder: Path) -> None:
    stable_diffusion().save_pretrained(folder / "pipe")
    clip().save_pretrained(folder / "clip")
    tokenizer().save_pretrained(folder / "clip")
    sizes: dict[str, Any] = {"size": {"height": 64, "width": 64}, "crop_size": {"height": 64, "width": 64}}
    CLIPImageProcessor(**sizes).save_pretrained(folder / "clip")
    for name in ("diffusers:pipe", "hf:clip"):
        prefix, _, rest = name.partition(":")
        out = folder / rest / "out"
        run(
            folder / "in",
            "-o",
            out,
            "--word",
            "dog",
            *(["--side", 32] if rest == "pipe" else []),
            model=f"{prefix}:{folder / rest}",
        )
        facts = json.loads((out / "1.json").read_text())
        assert facts["segment"] == facts["asked"]["word"] == "dog"
        assert 0 < facts["areas"]["1"] < 1


def test_a_word_without_text_is_refused(folder: Path) -> None:
    with pytest.raises(AttentionError, match="has no text, so no word leads to a segment"):
        run(folder / "in" / "0.png", "-o", folder / "out", "--word", "dog")
    with pytest.raises(AttentionError, match="model 'diffuser:pipe' is unknown"):
        run(folder / "in" / "0.png", "-o", folder / "out", model="diffuser:pipe")
    with pytest.raises(AttentionError, match=r"(?s)diffusers:pipe is a pipeline, which needs a word.*--word WORD"):
        run(folder / "in" / "0.png", "-o", folder / "out", model="diffusers:pipe")
