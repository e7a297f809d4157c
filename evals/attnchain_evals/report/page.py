"""A result as one HTML page: no script, nothing fetched, every text escaped; dark or light as the reader's screen is."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from attnchain_evals.report.markdown import Report, best_of, by_rank, change, effects, figure, titled
from attnchain_evals.report.plots import curve_plot, interval_plot, token_plot

if TYPE_CHECKING:
    from attnchain_evals.bench.results import BenchmarkResult
    from attnchain_evals.report.example_maps import Shown

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d1d9e0; --paper: #fff; --warn: #fff3cd; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --paper: #0d1117; --warn: #4d3c00; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto; max-width: 75rem;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
p, caption { color: var(--soft); } .note { color: var(--ink); background: var(--warn); padding: .5rem .75rem;
  border-radius: 6px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { white-space: normal; min-width: 6rem; vertical-align: bottom; overflow-wrap: break-word; }
.wide + .wide { margin-top: 1.5rem; }
.soft { color: var(--soft); }
svg { max-width: 100%; height: auto; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .axis { stroke: var(--line); } .plots { display: flex; flex-wrap: wrap; gap: 1.5rem; margin-top: 1rem; }
figure { margin: 0; }
.shown td, .shown th { border: 0; text-align: center; padding: .15rem; font-weight: 400; font-size: .7rem; white-space: normal;
  max-width: 6rem; vertical-align: bottom; overflow-wrap: anywhere; }
.shown img { width: 6rem; height: 6rem; object-fit: fill; border-radius: 4px; display: block; }
pre { overflow-x: auto; font-size: .8rem; border: 1px solid var(--line); padding: .75rem; border-radius: 6px; }
"""


MANY = 40
"""From so many methods on, what has a row for each is folded away, and what has a column for each left out."""


def page(result: BenchmarkResult, report: Report, method: str, shown: Shown | None) -> str:
    """The page of a result and of the report that was made of it; `method` says how its figures were made."""
    configuration, sanity = report["run"]["configuration"], report["sanity"]
    model, metrics, many = configuration["model"]["name"], list(result.metrics), len(result.methods) >= MANY
    title = f"{model}: {report['examples']} examples, {len(result.methods)} methods"
    body = [f"<h1>{escape(title)}</h1>", *(f'<p class="note">{escape(note)}</p>' for note in report["notes"])]
    body.append(f"<p>{escape(method)}</p>")
    choices = _choices(report)
    body += choices if many else []
    titles = [titled(report, name) for name in metrics]
    body.append("<h2>Scores</h2>")
    body += _folded(many, [score_table(report)])
    plots = (_figure(titled(report, n), interval_plot({m: result.scores[m][n] for m in result.methods})) for n in metrics)
    body += _folded(many, ['<div class="plots">', *plots, "</div>"], "with intervals drawn")
    if curves := [name for name in metrics if _fractions(result, name)]:
        drawn = ['<div class="plots">', *(_curve(result, name) for name in curves), "</div>"]
        body += ["<h2>Curves</h2>", *_folded(many, drawn)]
    if len(result.methods) > 1:
        body.append(f"<h2>Against {escape(result.baseline)}</h2>")
        body += _folded(many, [_table(["method", *titles], _difference_rows(report))])
        body += ["<h2>Mean ranks</h2>", *_folded(many, [_table(["method", "all", *metrics], _rank_rows(report, metrics))])]
        body.append("<h2>Wins, row against column</h2>")
        body += [f"<p>Of {len(result.methods)} methods: in report.json.</p>"] if many else [_wins(report, n) for n in metrics]
    body += [] if many else choices
    if sanity:
        body += ["<h2>Sanity checks</h2>", *_folded(many, [_sanity(sanity)])]
    if shown is not None and not many:
        body += ["<h2>Examples</h2>", _shown(result.methods, shown)]
    manifest = json.dumps(result.manifest, indent=1, ensure_ascii=False)
    body += ["<h2>Run</h2>", *_folded(many, [f"<pre>{escape(manifest)}</pre>"])]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n<body>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _choices(report: Report) -> list[str]:
    if not any(report["effects"].values()):
        return []
    head = ["<h2>Effect of each choice</h2>", "<p>Means over all variants that share the value.</p>"]
    return head + [_table(titles, _plain(rows)) for titles, rows in effects(report, figure, change)]


def score_table(report: Report) -> str:
    """The scores with their intervals, methods × metrics, the best of each metric in bold."""
    titles = [titled(report, name) for name in report["run"]["configuration"]["metrics"]]
    return _table(["method", *titles], _score_rows(report))


def _folded(many: bool, parts: Sequence[str], what: str = "every method") -> list[str]:
    return [f"<details><summary>{what}</summary>", *parts, "</details>"] if many else list(parts)


def _score_rows(report: Report) -> Iterable[str]:
    best = {name: best_of(report, name) for name in report["run"]["configuration"]["metrics"]}
    for method, row in report["scores"].items():
        cells = [f"<th>{escape(method)}</th>"]
        for name, score in row.items():
            missing = report["undefined"][method][name]
            shown = figure(score) + (f" ({missing} undefined)" if missing else "")
            cells.append(f"<td><b>{shown}</b></td>" if score["value"] == best[name] else f"<td>{shown}</td>")
        yield "".join(cells)


def _difference_rows(report: Report) -> Iterable[str]:
    for method, row in report["differences"].items():
        cells = []
        for found in row.values():
            p, corrected, wins = (float("nan") if found[k] is None else found[k] for k in ("p", "p_holm", "wins"))
            cells.append(
                f'<td title="p = {p:.4f}, Holm {corrected:.4f}">{change(found)}'
                f'<br><span class="soft">wins {wins:.0%}, p {corrected:.3f}</span></td>'
            )
        yield f"<th>{escape(method)}</th>" + "".join(cells)


def _rank_rows(report: Report, metrics: Sequence[str]) -> Iterable[str]:
    names = ("mean", *metrics)
    return _plain([method, *(f"{row[n] or float('nan'):.2f}" for n in names)] for method, row in by_rank(report))


def _wins(report: Report, metric: str) -> str:
    shares = report["wins"][metric]
    rows = [[method, *("nan" if share is None else f"{share:.0%}" for share in row)] for method, row in shares.items()]
    inner = _table(["", *shares], _plain(rows))
    return f"<details><summary>{escape(titled(report, metric))}</summary>{inner}</details>"


def _sanity(sanity: dict[str, dict[str, Any]]) -> str:
    from attnchain_evals.report.report import verdict

    checks = list(next(iter(sanity.values())))
    return _table(["method", *checks], _plain([method, *(verdict(row[c]) for c in checks)] for method, row in sanity.items()))


def _fractions(result: BenchmarkResult, metric: str) -> list[float]:
    """The fractions of a metric whose columns are a figure and then a curve; none of any other."""
    try:
        return [float(column) for column in result.metrics[metric].columns[1:]]
    except ValueError:
        return []


def _curve(result: BenchmarkResult, metric: str) -> str:
    with np.errstate(all="ignore"):
        means = {method: np.nanmean(result.figures(method, metric)[:, 1:], 0).tolist() for method in result.methods}
    return _figure(metric, curve_plot(_fractions(result, metric), means))


def _shown(methods: Sequence[str], shown: Shown) -> str:
    if shown.images is None:
        each = enumerate(shown.texts)
        return "".join(f"<p>{token_plot(words, dict(zip(methods, shown.maps[:, k], strict=True)))}</p>" for k, words in each)
    names = ["input", *(["mask"] if shown.masks is not None else []), *methods]
    rows = []
    for k, image in enumerate(shown.images):
        pictures = [image] if shown.masks is None else [image, shown.masks[k]]
        pictures += [_heat(grid) for grid in shown.maps[:, k]]
        rows.append("".join(f'<td><img alt="{escape(n)}" src="{_png(p)}"></td>' for n, p in zip(names, pictures, strict=True)))
    return _table(names, rows, "shown")


def _heat(grid: Tensor) -> Any:
    """Bytes (rows, columns, 3) of a map on a scale of its own."""
    from matplotlib import colormaps

    low, high = grid.aminmax()
    share = ((grid - low) / (high - low).clamp_min(1e-12)).nan_to_num().numpy()
    return (colormaps["magma"](share)[..., :3] * 255).astype(np.uint8)


def _png(pixels: Any) -> str:
    from PIL import Image

    found = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(found, "PNG")
    return f"data:image/png;base64,{base64.b64encode(found.getvalue()).decode()}"


def _figure(caption: str, svg: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>"


def _plain(rows: Iterable[Sequence[str]]) -> Iterable[str]:
    return (f"<th>{escape(row[0])}</th>" + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) for row in rows)


def _table(head: Sequence[str], rows: Iterable[str], kind: str = "") -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="wide"><table class="{kind}"><thead><tr>{cells}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
