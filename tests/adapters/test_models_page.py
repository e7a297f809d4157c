"""docs/models.md is what the tests of this folder have just proved: `pytest tests/adapters --write-models` writes it anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnchain_adapters.timm_models.families import REFUSED as REFUSED_CLASSES
from attnchain_adapters.timm_models.families import REFUSED_PARTS
from attnchain_adapters.transformers_models.families import FAMILIES, REFUSED

from .conftest import Proofs, Proved
from .timm_rows import ROWS
from .transformers_zoo import MEMBERS

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- models: pytest tests/adapters --write-models -->\n", "<!-- end of models -->\n"
REASONS = {"transformers": REFUSED, "timm": REFUSED_CLASSES | REFUSED_PARTS}  # each refused by a test of its own
FRAMEWORKS = ("transformers", "timm", "torch")


def test_models_page(proofs: Proofs, request: pytest.FixtureRequest) -> None:
    needed = {("transformers", name) for name in MEMBERS} | {("timm", name) for name in ROWS}
    if needed - set(proofs) or {framework for framework, _ in proofs} != set(FRAMEWORKS):
        pytest.skip("the page is compared only after the whole of tests/adapters has passed")
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    wanted = before + BEGIN + tables(proofs) + END + after
    if request.config.getoption("--write-models"):
        PAGE.write_text(wanted, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == wanted, "stale: write it anew with pytest tests/adapters --write-models"


def tables(proofs: Proofs) -> str:
    return "".join(table(framework, proofs) for framework in FRAMEWORKS)


def table(framework: str, proofs: Proofs) -> str:
    own = {name: proved for (of, name), proved in sorted(proofs.items()) if of == framework}
    own |= {name: Proved(remark=reason) for name, reason in REASONS.get(framework, {}).items()}
    if framework == "transformers":
        own |= {name: Proved(["as a tower"], set(), FAMILIES[name].remark) for name in FAMILIES if name not in MEMBERS}
    supported = {name: proved for name, proved in own.items() if proved.kinds}
    refused: dict[str, list[str]] = {}
    for name, proved in sorted(own.items()):
        if not proved.kinds:
            refused.setdefault(proved.remark, []).append(name)
    rows = [
        f"| {name} | {'; '.join(proved.kinds)} | {', '.join(sorted(proved.routes))} | {proved.remark} |"
        for name, proved in sorted(supported.items())
    ]
    reasons = [f"| {', '.join(names)} | {reason} |" for reason, names in refused.items()]
    title = f"\n### {framework}: {sum(bool(proved.routes) for proved in supported.values())} proved\n\n"
    whole = title + "| family | what can be asked of it | route | remarks |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    if reasons:
        whole += "\n| refused | because it |\n|---|---|\n" + "\n".join(reasons) + "\n"
    return whole
