"""A page is inert: every string survives and none becomes markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import torch

import attnchain_interp as ac
from attnchain_interp.explorer.page import script

NASTY = ["</script><img src=x onerror=alert(1)>", "\u202ertl", "\ud800", "a&b", "\u2028", "\0", '"', "<!--<script>"]


class Scripts(HTMLParser):
    """The texts of the scripts of a page, by what they are, and every other tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts, self.tags, self._inside = dict[str, str](), list[str](), ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self._inside = (given.get("id") or given.get("data-section") or "code") if tag == "script" else ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[self._inside] = self.texts.get(self._inside, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def test_strings_are_inert_and_survive() -> None:
    n = len(NASTY)
    maps = torch.rand(1, 1, n, n)
    layout = ac.TokenLayout.text(torch.ones(1, n), [NASTY])
    store = ac.AttentionStore.from_maps([maps / maps.sum(-1, keepdim=True)], layout)
    html = ac.explore(store, title=NASTY[0] + "\ud800", methods={NASTY[0]: torch.ones(n)}).html
    page = Scripts(html)
    assert page.tags.count("script") == len(page.texts)
    assert not {"img", "iframe", "link"} & set(page.tags)
    header = json.loads(page.texts["header"])
    assert header["labels"] == NASTY
    assert not re.search(r"[<>&\u2028]", page.texts["header"])
    html.encode()  # no lone surrogate is left in it
    assert "default-src 'none'" in html
    assert "connect-src" not in html


def test_the_script_defines_one_name() -> None:
    assert script().startswith("var attnchain=(()=>{")
    assert "export default { render: attnchain.render };" not in script()
