"""The message that writes a trace again with two invokes; the code that it writes runs."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nnsight
import pytest
import torch

import attnchain_interp as ac
from attnchain_adapters.tracing import reduce_layers, token_rank
from attnchain_adapters.tracing.functionals import entropy
from attnchain_adapters.tracing.two_invokes import WITHOUT_SOURCE, split

from ..nnsight_zoo import LONG, SHORT, decoder

mine = decoder()  # a name of the user's


def code_of(trace: Callable[[], Any]) -> str:
    with pytest.raises(ValueError, match="had run already") as error:
        trace()
    return textwrap.dedent(str(error.value).partition("\n\n    ")[2].join(["    ", ""]))


def run(code: str, tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "written.py"  # nnsight reads the source of the code that runs
    path.write_text(code, encoding="utf-8")
    names = {**globals()}
    exec(compile(code, str(path), "exec"), names)  # noqa: S102
    return names


def silenced(prompt: str) -> torch.Tensor:
    """The ranks while the attention of every layer says nothing to the last token."""

    def silence(_: Any, __: Any, output: Any) -> None:
        output[0][:, -1] = 0

    handles = [layer.self_attn.register_forward_hook(silence) for layer in mine._module.model.layers]
    maps = ac.capture(mine._module, **mine.tokenizer(prompt, return_tensors="pt")).maps()
    for handle in handles:
        handle.remove()
    return ac.stationary(maps, 0.5, torch.eye(maps.shape[-1])[-1])


def test_the_code_has_the_names_of_the_user_and_runs(tmp_path: Path) -> None:
    def trace() -> None:
        with torch.no_grad(), mine.trace("the tower in a city of light"):
            for layer in mine.model.layers:
                layer.self_attn.output[0][:, -1] = 0
            my_ranks = nnsight.save(token_rank(mine))
            doubled = nnsight.save(my_ranks * 2)
            logits = nnsight.save(mine.output.logits)
        print(my_ranks, doubled, logits)  # noqa: T201

    code = code_of(trace)
    assert code.splitlines() == [
        "with torch.no_grad(), mine.trace() as tracer:",
        "    with tracer.invoke('the tower in a city of light'):",
        "        for layer in mine.model.layers:",
        "            layer.self_attn.output[0][:, -1] = 0",
        "        logits = nnsight.save(mine.output.logits)",
        "    with tracer.invoke():",
        "        my_ranks = nnsight.save(token_rank(mine))",
        "        doubled = nnsight.save(my_ranks * 2)",
    ]
    names = run(code, tmp_path)
    assert torch.allclose(names["my_ranks"], silenced(LONG), atol=1e-5)
    assert torch.equal(names["doubled"], 2 * names["my_ranks"])


def test_of_an_invoke(tmp_path: Path) -> None:
    def trace() -> None:
        with mine.trace() as several:
            marks = nnsight.save([])
            with several.invoke(SHORT):
                for layer in mine.model.layers:
                    layer.self_attn.output[0][:, -1] = 0
                ranks = nnsight.save(token_rank(mine, layers=[0, -1], damping=0.5))
        print(ranks, marks)  # noqa: T201

    code = code_of(trace)
    assert code.splitlines()[0] == "with several.invoke(SHORT):"
    assert code.splitlines()[-2:] == [
        "with several.invoke():",
        "    ranks = nnsight.save(token_rank(mine, layers=[0, -1], damping=0.5))",
    ]
    found = run("with mine.trace() as several:\n" + textwrap.indent(code, "    "), tmp_path)["ranks"]
    assert torch.allclose(found, silenced(SHORT)[:, [0, -1]], atol=1e-5)


def test_of_the_steps_of_a_generation(tmp_path: Path) -> None:
    def trace() -> None:
        with mine.generate(LONG, max_new_tokens=3, min_new_tokens=3) as tracer:
            rows: dict[str, Any] = {}
            ranks = nnsight.save([])
            for _ in tracer.iter[:3]:
                mine.model.layers[-1].output[:] = 0
                ranks.append(token_rank(mine, rows=rows))

    code = code_of(trace)
    loops = "for _ in tracer.iter[:3]:"
    assert code.count(loops) == 2
    assert code.splitlines()[:2] == [
        "with mine.generate() as tracer:",
        "    with tracer.invoke(LONG, max_new_tokens=3, min_new_tokens=3):",
    ]
    ranks = run(code.replace("rows: dict[str, Any]", "rows"), tmp_path)["ranks"]
    assert [rank.shape[-1] for rank in ranks] == [7, 8, 9]


def test_of_two_walks(tmp_path: Path) -> None:
    def trace() -> None:
        with mine.trace(LONG):
            first = nnsight.save(token_rank(mine))
            second = nnsight.save(reduce_layers(mine, entropy))
        print(first, second)  # noqa: T201

    names = run(code_of(trace), tmp_path)
    assert names["second"][0].shape == (1, 3, 4)
    assert names["first"].shape == (1, 3, 4, 7)


def test_general_names_stand_where_there_is_no_source() -> None:
    parts = ast.parse(WITHOUT_SOURCE).body[0]
    assert isinstance(parts, ast.With)
    assert len(parts.body) == 2


def test_statements_are_split_by_what_they_need() -> None:
    body = ast.parse("a = 1\nfor i in x:\n    b = i\n    c = f(i)\n    d = c\ne = d\ng = a\n").body
    rest, moved = ([ast.unparse(statement) for statement in part] for part in split(body, 4))
    assert rest == ["a = 1", "for i in x:\n    b = i", "g = a"]
    assert moved == ["for i in x:\n    c = f(i)\n    d = c", "e = d"]
