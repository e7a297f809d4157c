"""A text result as HTML: pointing at an output token shades the prompt by its row. Style sheets do it; there is no script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from html import escape
from typing import Final, NamedTuple

from torch import Tensor

from attnchain_interp.reprs import visible

_STRONGEST: Final = 3  # links for each output token
_LEAST: Final = 0.01  # a lighter shade is not seen

_STYLE: Final = """
#ID{font:15px/1.9 system-ui,sans-serif;max-width:1100px}
#ID .x{white-space:pre-wrap;overflow-wrap:anywhere;max-height:34em;overflow:auto;resize:vertical}
#ID .x{padding:4px;border:1px solid #8885}
#ID .w{--v:var(--s,0);--for:rgb(230 159 0/max(0,var(--v)*.75));--against:rgb(0 114 178/max(0,var(--v)*-.75))}
#ID .w{border-radius:3px;padding:1px 0;background:linear-gradient(var(--for) 0 0),linear-gradient(var(--against) 0 0)}
#ID .w:target{outline:2px solid}#ID .g{opacity:.45;font-size:smaller;background:none}#ID .k{outline:1px dashed #D55E00}
#ID .o{cursor:pointer;padding:2px 3px;border-bottom:2px solid #8888}#ID .o input{position:absolute;opacity:0}
#ID .o:has(:focus-visible){outline:2px solid}#ID .a{display:none}#ID .n{font-size:smaller;opacity:.8}
"""


class Sentence(NamedTuple):
    """A sentence, the number of its first word, and its share of all scores."""

    text: str
    word: int
    share: float


class Shaded(NamedTuple):
    """What a page shows.

    Attributes:
        pieces: the text of each word of the prompt, with its spaces.
        template: whether each word belongs to a chat template.
        sinks: a text about each word that is an attention sink.
        outputs: the text of each output token.
        rows: (output token, word).
        earlier: (output token, output token), or None.
        note: a line under the picture.
        sentences: of which the strongest stand in a table, if there are more than two.
    """

    pieces: list[str]
    template: list[bool]
    sinks: dict[int, str]
    outputs: list[str]
    rows: Tensor
    earlier: Tensor | None
    note: str
    sentences: Sequence[Sentence] = ()


def page(shown: Shaded) -> str:
    """Returns HTML of a prompt, shaded by the sum over its outputs, or by the output that is pointed at or chosen.

    The greatest score of a row has the full shade. Words of a chat template and attention sinks are left out of this scale.
    """
    name = "t" + sha256(repr((shown.pieces, shown.outputs, shown.rows.tolist())).encode()).hexdigest()[:8]
    kept = [k for k, template in enumerate(shown.template) if not template and k not in shown.sinks]
    several = len(shown.rows) > 1
    rules = [_rules(name, j) for j in range(len(shown.rows))] if several else []
    style = f"<style>{_STYLE.replace('ID', name)}{''.join(rules)}</style>"
    prompt = f'<div class="x" dir="auto">{"".join(_words(name, shown, kept, several))}</div>'
    answer = f"<div>→ {''.join(_outputs(name, shown, kept))}</div>"
    lines = [_strongest(name, shown, row, kept, f"a a{j}" if several else "n") for j, row in enumerate(shown.rows)]
    notes = "<br>".join(_notes(shown, several))
    table = _table(name, shown.sentences)
    return f'<div id="{name}">{style}{prompt}{answer}{"".join(lines)}{table}<div class="n">{notes}</div></div>'


def _words(name: str, shown: Shaded, kept: list[int], several: bool) -> Iterator[str]:
    summed = shown.rows.sum(0)
    total, rows = _shares(summed, kept, summed), [_shares(row, kept, row) for row in shown.rows]
    for k, piece in enumerate(shown.pieces):
        values = {"s": total[k]} | ({f"a{j}": row[k] for j, row in enumerate(rows)} if several else {})
        classes = "w g" if shown.template[k] else "w k" if k in shown.sinks else "w"
        told = f"{float(summed[k]):.3g}" + (f", attention sink: it {shown.sinks[k]}" if k in shown.sinks else "")
        word = piece.lstrip()
        shade = f'id="{name}w{k}" class="{classes}" title="{escape(told)}"{_variables(values)}'
        yield f"{piece[: len(piece) - len(word)]}<span {shade}>{_text(word)}</span>"


def _outputs(name: str, shown: Shaded, kept: list[int]) -> Iterator[str]:
    earlier = shown.rows.new_zeros(0, len(shown.outputs)) if shown.earlier is None else shown.earlier
    shares = [_shares(own, kept, row) for own, row in zip(earlier, shown.rows, strict=False)]
    for j, text in enumerate(shown.outputs):
        values = {f"a{i}": row[j] for i, row in enumerate(shares)}
        yield f'<label class="o w"{_variables(values)}><input type="radio" name="{name}">{_text(text)}</label>'


def _notes(shown: Shaded, several: bool) -> Iterator[str]:
    hint = "Point at an output token, or choose it, to see its row. " if several else ""
    signs = " (orange for, blue against)" if float(shown.rows.min()) < 0 else ""
    yield f"{hint}The greatest score of a row has the full shade{signs}."
    sizes = shown.rows.sum(0).abs()
    if any(shown.template):
        held = float(sizes[[k for k, template in enumerate(shown.template) if template]].sum() / sizes.sum().clamp_min(1e-30))
        yield f"Grey: the chat template, left out of the scale ({held:.0%} of all scores)."
    for k, told in shown.sinks.items():
        yield f"{_alone(shown.pieces[k])} is an attention sink: it {escape(told)}"
    yield _text(shown.note)


def _rules(name: str, j: int) -> str:
    """Returns the style that shows row j while its output token is pointed at, or else while it is chosen."""
    pointed, chosen = (f"#{name}:has(.o:nth-of-type({j + 1}){state})" for state in (":hover", " :checked"))
    only = f"{chosen}:not(:has(.o:hover))"
    return f"{pointed} .w,{only} .w{{--v:var(--a{j},0)}}{pointed} .a{j},{only} .a{j}{{display:block}}"


def _strongest(name: str, shown: Shaded, row: Tensor, kept: list[int], classes: str) -> str:
    best = sorted(kept, key=lambda k: -float(row[k]))[:_STRONGEST]
    links = (f'<a href="#{name}w{k}">{_alone(shown.pieces[k])}</a> {float(row[k]):.3g}' for k in best if row[k] > 0)
    return f'<div class="{classes}">strongest: {" · ".join(links)}</div>'


def _table(name: str, sentences: Sequence[Sentence]) -> str:
    best = sorted((each for each in sentences if each.share > 0), key=lambda each: -each.share)[:_STRONGEST]
    if len(sentences) <= 2 or not best:
        return ""
    rows = (
        f'<div>{each.share:.0%} <a href="#{name}w{each.word}">{_alone(" ".join(each.text.split()))}</a></div>' for each in best
    )
    return f'<div class="n">Sentences, and their shares of all scores:{"".join(rows)}</div>'


def _shares(scores: Tensor, kept: list[int], row: Tensor) -> list[float]:
    """Returns scores divided by the greatest size of those of the row that are kept, and cut there."""
    greatest = float(row[kept].abs().max()) if kept else 0.0
    return (scores / greatest).clamp(-1, 1).tolist() if greatest > 0 else [0.0] * len(scores)


def _variables(values: dict[str, float]) -> str:
    seen = ";".join(f"--{name}:{value:.2f}" for name, value in values.items() if abs(value) >= _LEAST)
    return f' style="{seen}"' if seen else ""


def _alone(text: str) -> str:
    """Returns a word that does not turn the direction of the numbers beside it."""
    return f"<bdi>{_text(text.strip())}</bdi>"


def _text(text: str) -> str:
    return escape(visible(text, but="\t\n"))
