"""The reports: well formed, self-contained, everything escaped, and plain about what a reader must know."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from attnchain_evals.bench import names
from attnchain_evals.bench.example_maps import write_example_maps
from attnchain_evals.bench.results import BenchmarkResult
from attnchain_evals.bench.runner import Share, run
from attnchain_evals.cli import app as cli
from attnchain_evals.report.report import write_report
from attnchain_interp import AttentionError

from ..bench_tasks import plan

HOSTILE = "</script><img src=x onerror=alert(1)>|"
VOID = {"meta", "img", "br"}


class Reading(HTMLParser):
    """Checks that tags are closed in order, and keeps every attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    methods = plan().methods
    hostile = plan(methods={"magnitude": methods["magnitude"], HOSTILE: methods["noise"]}, limit=5, name=HOSTILE)
    run(hostile, tmp_path, Share())
    alike = plan(methods={"magnitude": methods["magnitude"], HOSTILE: methods["magnitude"]})
    write_example_maps(alike, tmp_path)
    sanity = {name: {"agreement": {"value": 0.25, "passed": name == "magnitude"}} for name in hostile.methods}
    (tmp_path / "sanity.json").write_text(json.dumps({"examples": 2, "checks": sanity}))
    write_report(BenchmarkResult.read(tmp_path, hostile.metrics), tmp_path)
    return tmp_path


def test_the_page_is_well_formed_and_asks_for_nothing(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    reading = Reading()
    reading.feed(text)
    assert not reading.open
    tags = [tag for tag, _ in reading.tags]
    assert not {"script", "link", "iframe", "object", "form", "base"} & set(tags)
    assert tags.count("img") == 4 * 4, "input, mask and two maps of four examples"
    for tag, attributes in reading.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("href", "srcset")]
        assert str(attributes.get("xlink:href", "#")).startswith("#"), "a mark that is drawn again, on this page"
        assert tag != "img" or str(attributes["src"]).startswith("data:image/png;base64,")
    assert not re.search(r"https?:|url\(|@import", text)
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in [
        pair for tag, attributes in reading.tags if tag == "meta" for pair in attributes.items()
    ]
    assert HOSTILE not in text
    assert "prefers-color-scheme: dark" in text


def test_every_report_says_what_must_be_known(folder: Path) -> None:
    notes = json.loads((folder / "report.json").read_text())["notes"]
    assert notes[0] == "For testing only: limited to 5 examples (--limit)."
    assert notes[1].startswith("2 figures are undefined (NaN)")
    assert notes[2] == f"Passes none of the sanity checks: {HOSTILE}."
    assert "**For testing only: limited to 5 examples (--limit).**" in (folder / "report.md").read_text()
    assert "For testing only: limited to 5 examples (--limit)." in (folder / "report.html").read_text()


def test_the_json_report_has_its_schema_and_no_nan(folder: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    found = json.loads((folder / "report.json").read_text(), parse_constant=refuse)
    assert found["schema"] == "attnchain-bench-report/2"
    assert found["run"]["configuration"]["schema"] == "attnchain-bench/1"
    keys = {"scores", "undefined", "differences", "ranks", "wins", "effects", "sanity", "examples", "baseline", "notes"}
    assert keys <= set(found)
    assert set(found["differences"][HOSTILE]["peak"]) == {"value", "low", "high", "p", "p_holm", "wins"}


def test_an_unfinished_run_is_reported_as_one(tmp_path: Path) -> None:
    run(plan(), tmp_path, Share())
    part = tmp_path / "rows-00000.csv"
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    write_report(BenchmarkResult.read(tmp_path, plan().metrics), tmp_path)
    assert re.search(r"Unfinished: \d of 11 examples", (tmp_path / "report.md").read_text())


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(cli.app, ["bench", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_commands(tmp_path: Path) -> None:
    config = tmp_path / "choices.toml"
    config.write_text(
        'metrics = "acc,miou"\nmethods = ["RandomRanking"]\nlimit = 9\n'
        '[grid.MultiBounce]\nsteps = [1, 2]\nlayers = ["all", [-2, -1]]\n'
    )
    out = tmp_path / "out"
    printed = invoke("run", "--config", config, "--limit", 3, "--sanity", 2, "-o", out)
    assert printed.split() == [str(out / f"report.{kind}") for kind in ("md", "json", "html")]
    report = invoke("report", out, "--baseline", "RandomRanking")
    assert "limited to 3 examples" in report
    assert "| minus RandomRanking |" in report
    assert "| MultiBounce | acc ↑ | difference from the first | miou ↑ | difference from the first |" in report
    assert "| steps=2 |" in report
    assert "| layers=[-2, -1] |" in report
    assert "| MultiBounce(steps=2, layers=[-2, -1]) |" in report
    assert "| RandomRanking | 1.00 failed |" in report
    assert "Passes none of the sanity checks: RandomRanking." in report
    before = (out / "rows-00000.csv").read_bytes()
    invoke("run", "--config", config, "--limit", 3, "-o", out)
    assert (out / "rows-00000.csv").read_bytes() == before
    with pytest.raises(AttentionError, match="holds another run .*limit: 4, not 3"):
        invoke("run", "--config", config, "--limit", 4, "-o", out)


def test_names(tmp_path: Path) -> None:
    assert "TokenRank" in invoke("ls", "methods").split("\n")
    assert "deletion/mean" in invoke("ls", "metrics").split("\n")
    assert "folder:PATH" in invoke("ls", "data")
    with pytest.raises(AttentionError, match="no list of 'models'"):
        invoke("ls", "models")
    specs = ["class column", "TransitionAttentionMaps(steps=2)", "LeGrad", "GMAR"]
    built = names.build_methods(specs, torch.nn.Linear(1, 1), (2, 2))
    holds = [method.forward_func is not None for method in built.values()]
    assert holds == [False, True, True, False], "those that read more than maps and one backward hold the model"
    assert built["class column"].select == "column"
    assert built["TransitionAttentionMaps(steps=2)"].forward_func is not None
    for spec, message in (
        ("TokenRank(speed=1)", "It takes"),
        ("Nothing", "is unknown. Use one of"),
        ("TokenRank(1)", "must have names"),
        ("TokenRank(damping=x)", "is not understood"),
    ):
        with pytest.raises(AttentionError, match=message):
            names.build_methods([spec], torch.nn.Linear(1, 1), (2, 2))
    with pytest.raises(AttentionError, match="metric 'speed' is unknown"):
        names.build_metrics(["speed"])
    with pytest.raises(AttentionError, match="data 'imagenet' is unknown"):
        names.open_data("imagenet", None, None, 0)
    bad = tmp_path / "bad.toml"
    bad.write_text("models = 3")
    with pytest.raises(AttentionError, match="has models; the options are model"):
        invoke("run", "--config", bad, "-o", tmp_path / "x")
