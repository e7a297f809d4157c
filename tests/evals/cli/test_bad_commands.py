"""Bad commands, out of a grammar: each is refused in words. No traceback, and nothing that was not foreseen."""

from __future__ import annotations

import shutil
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck
from hypothesis import strategies as st
from PIL import Image

from attnchain_evals.cli import app as cli
from attnchain_interp import AttentionStore

from ...fuzzing import fuzzed

MODELS = ["nope", "", "hf:", "hf:/none", "hf:FOLDER", "timm:", "timm:nope", "torchvision:nope", "python:", "python:nope:build"]
MODELS += ["python:os:nope", "python:os:getcwd", "python:math", "FILE", "DAMAGED", ":", "bundled:x", "\ud800", "a\rb", "тест"]
IMAGES = ["none.png", "FOLDER", "FILE", "TEXT", "BOMB", "WIDE", "", "a\rb", "-", "/dev/null"]
METHODS = [
    "nope",
    "",
    "MetastableStates",
    "TokenRank(damping='x')",
    "TokenRank(damping=2)",
    "TokenRank(steps=1)",
    "TokenRank(",
]
METHODS += [
    "TokenRank(maps='x')",
    "TokenRank(layers=99)",
    "TokenRank(layers={})",
    "MultiBounce(steps=-1)",
    "MultiBounce(steps=1.5)",
]
METHODS += [
    "MultiBounce(heads=5)",
    "Rollout(**{})",
    "Rollout({[]: 1})",
    "f" + "(" * 300,
    "RandomRanking(seed=None)",
    "AttnLRP(x=1)",
]
METHODS += [
    "TokenRank(damping=float('nan'))",
    "RandomRanking(maps='alti')",
    "TokenRank(layer_weights='x')",
    "\ud800",
    "Rollout(\0)",
]
METRICS = ["srg(fractions='x')", "srg(score=1)", "aopc(batch_size='a')", "srg(features=5)", "naopc(beam='x')"]
METRICS += ["nope", "", "acc(x=1)", "srg(occlusion=5)", "saco(groups='a')", "chefer/positive", "srg(", "saco(groups=-1)"]
DATA = [
    "nope",
    "",
    "folder:",
    "folder:/none",
    "folder:EMPTY",
    "classes:EMPTY",
    "facts:TEXT",
    "bsds500:EMPTY",
    "reviews:FOLDER",
]
DATA += ["imagenet-segmentation:TEXT", "passages:TEXT:test", "indirect-objects:FOLDER:nope", "digits:nope", "key-values:test"]
NUMBERS = ["-1", "x", "1.5", "nan", "9" * 400, ""]
CONFIGS = [
    "[]",
    "5",
    "{",
    '{"seed": "a"}',
    '{"model": 5}',
    '{"grid": []}',
    '{"grid": {"TokenRank": 5}}',
    '{"limit": -1}',
    '{"x": 1}',
]
CONFIGS += [
    '{"methods": [5]}',
    '{"methods": "TokenRank", "baseline": "Rollout"}',
    '{"batch_size": 0}',
    '{"device": "nope"}',
    "[" * 9999,
]
CONFIGS += [
    '{"grid": {"TokenRank": {"damping": [null, {}]}}}',
    '{"metrics": {}}',
    '{"sanity": true}',
    '{"data": null}',
    '{"grid": {"": {}}}',
]
OUTPUTS = ["FILE/out", "/dev/null/x", "/proc/x/y"]
DEVICES = ["nope", "cuda:99", "meta", "", "cpu:x"]
PLACES = ["", "x", "1", "1,2,3", "1,y", "nan,nan", "1e9,1e9", "-5,5", "9,9,1,1", "1,2,inf,4"]
LITERALS = ["nope", "", "5"]


def one_of(option: str, *values: list[str]) -> st.SearchStrategy[list[str]]:
    return st.sampled_from(list(chain.from_iterable(values))).map(lambda value: [option, value] if option else [value])


def command(words: list[str], *parts: st.SearchStrategy[list[str]]) -> st.SearchStrategy[list[str]]:
    """The words, and one part or two."""
    return st.lists(st.one_of(*parts), min_size=1, max_size=2).map(lambda found: [*words, *chain.from_iterable(found)])


PHOTO = ["bundled", "PHOTO"]
TARGETS = one_of("--target", ["-1", "x", "1.5", "²"])
BENCH = ["bench", "run", "--data", "digits:test", "--limit", "2", "--output", "OUT"]
COMMANDS = st.one_of(
    st.sampled_from([model for model in MODELS if model != "FILE"]).map(lambda model: ["inspect", model]),
    command(["inspect", "bundled"], one_of("--tower", ["nope", ""]), one_of("--kind", LITERALS), one_of("--maps", LITERALS)),
    st.sampled_from(MODELS).map(lambda model: ["attribute", model, "PHOTO"]),
    st.sampled_from(IMAGES).map(lambda image: ["attribute", "bundled", image]),
    command(
        ["attribute", *PHOTO],
        one_of("--method", METHODS),
        TARGETS,
        one_of("--maps", LITERALS),
        one_of("--output", OUTPUTS),
    ),
    st.sampled_from(MODELS).map(lambda model: ["explore", model, "PHOTO"]),
    st.sampled_from(IMAGES).map(lambda image: ["explore", "bundled", image]),
    command(
        ["explore", *PHOTO], one_of("--methods", METHODS[:1], METHODS[2:]), TARGETS, one_of("--max-mb", ["0", "-1", "x", ""])
    ),
    st.sampled_from(IMAGES).map(lambda image: ["figure", "layers", "bundled", image]),
    command(
        ["figure", "layers", *PHOTO],
        one_of("--damping", NUMBERS),
        one_of("--heads", LITERALS),
        one_of("--output", OUTPUTS),
    ),
    command(["figure", "layers", *PHOTO], one_of("--output", ["x.nope", ".png", "FOLDER"])),
    command(
        ["figure", "bounces", *PHOTO],
        one_of("--start", ["nope", "9999", "", "-", "²"]),
        one_of("--steps", ["x", "", "-1", ","]),
    ),
    command(["figure", "heads", *PHOTO], one_of("--order", LITERALS), one_of("--damping", NUMBERS)),
    command(["figure", "toy"], one_of("--start", ["9", "x", "²"]), one_of("--steps", ["x", "²", "9" * 30])),
    st.sampled_from(MODELS).map(lambda model: ["segment", model, "PHOTO", "--output", "OUT"]),
    st.sampled_from(IMAGES).map(lambda image: ["segment", "bundled", image, "--output", "OUT"]),
    command(
        ["segment", *PHOTO, "--output", "OUT"],
        one_of("--point", PLACES),
        one_of("--box", PLACES),
        one_of("--scales", ["-1", "0", "x", "9" * 30]),
        one_of("--side", ["0", "x"]),
        one_of("--wanted", LITERALS),
        one_of("--word", ["dog", "", " ", "\ud800"]),
    ),
    st.sampled_from(["diffusers:", "diffusers:/none", "diffusers:FOLDER", "bundled-decoder", *MODELS]).map(
        lambda model: ["segment", model, "PHOTO", "--word", "dog", "--output", "OUT"]
    ),
    command(
        BENCH, one_of("--model", MODELS), one_of("--methods", METHODS), one_of("--metrics", [each for each in METRICS if each])
    ),
    command(
        BENCH,
        one_of("--batch-size", ["0", *NUMBERS]),
        one_of("--seed", [each for each in NUMBERS if each[:1] != "9"]),  # every whole number from 0 on is a seed
        one_of("--device", DEVICES),
        one_of("--sanity", NUMBERS),
    ),
    command(
        ["bench", "run", "--output", "OUT", "--limit", "2"],
        one_of("--data", DATA),
        one_of("--config", ["CONFIG={", "none", "FOLDER"]),
    ),
    st.sampled_from(CONFIGS).map(lambda text: ["bench", "run", "--output", "OUT", "--config", f"CONFIG={text}"]),
    command(
        ["bench", "run", "--limit", "2", "--methods", "RandomRanking"],
        one_of("--output", OUTPUTS),
        one_of("--baseline", LITERALS),
    ),
    st.sampled_from(["none", "EMPTY", "FILE", ""]).map(lambda folder: ["bench", "report", folder]),
    command(["bench", "ls"], one_of("", LITERALS), one_of("--model", MODELS)),
    st.sampled_from(["imagenet-segmentation", "token-masking", "nope"]).map(
        lambda name: ["reproduce", name, "--output", "OUT"]
    ),
    command(["demo"], one_of("--images", ["0", "1"]), one_of("--seed", NUMBERS)).map(lambda words: [*words, "--images", "x"]),
    st.sampled_from(
        [["fetch"], ["fetch", "nope"], ["nope"], ["fetch", "smollm2", "none"], ["fetch", "smollm2", "-o", "FILE"], ["--nope"]]
    ),
)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files and folders that commands name in capitals."""
    root = tmp_path_factory.mktemp("places")
    for name in ("FOLDER", "EMPTY"):
        (root / name).mkdir()
    (root / "FOLDER" / "config.json").write_text('{"architectures": [5]}')
    AttentionStore.from_maps([torch.rand(1, 1, 4, 4).softmax(-1)]).write(root / "FILE")
    (root / "DAMAGED").write_bytes((root / "FILE").read_bytes()[:-9])
    (root / "TEXT").write_text('[{"x": 1}, 5]')
    Image.new("RGB", (60, 60)).save(root / "PHOTO", "PNG")
    Image.new("1", (20_000, 20_000)).save(root / "BOMB", "PNG", compress_level=1)
    Image.new("1", (1, 30_000)).save(root / "WIDE", "PNG")
    return {path.name: str(path) for path in root.iterdir()} | {"OUT": str(root / "out"), "CONFIG": str(root / "config.json")}


def placed(word: str, places: dict[str, str]) -> str:
    if word.startswith("CONFIG="):
        Path(places["CONFIG"]).write_text(word.removeprefix("CONFIG="))
        return places["CONFIG"]
    first, colon, rest = word.rpartition(":") if ":" in word else word.partition("/")
    if rest in places and colon == ":":
        return f"{first}:{places[rest]}"
    return places[first] + colon + rest if first in places else places.get(word, word)


@fuzzed(60, COMMANDS, suppress=[HealthCheck.function_scoped_fixture], shrink=False)
def test_a_bad_command_is_refused_in_words(
    places: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["attnchain", *(placed(word, places) for word in words)])
    monkeypatch.chdir(places["EMPTY"])
    shutil.rmtree(places["OUT"], ignore_errors=True)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr().err
    assert stop.value.code in (1, 2), said
    assert cli.UNFORESEEN not in said
    assert "Traceback" not in said
    assert len(said) > 10
    assert not Path(places["OUT"]).exists(), "an empty run is left behind"
    assert not list(Path(places["EMPTY"]).iterdir())
