"""The page as one HTML file, which fetches nothing and trusts no string."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from attnchain_interp.explorer.payload import Payload


@cache
def script() -> str:
    """Returns the front end, which is built from `explorer/` in the repository. It defines `attnchain`."""
    return (files("attnchain_interp.explorer") / "assets" / "page.js").read_text(encoding="utf-8")


def page(payload: Payload) -> str:
    """Returns the HTML of a payload.

    Its policy forbids every request, and every script except the one whose hash it names.
    """
    code = f"{script()}attnchain.open(document);"
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )
    sections = "\n".join(
        f'<script type="text/plain" data-section="{name}">{base64.b64encode(data).decode()}</script>'
        for name, data in payload.sections.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(_encodable(payload.header['title']))}</title>\n</head>\n<body>\n"
        f'<script type="application/json" id="header">{inert_json(payload.header)}</script>\n{sections}\n'
        f'<main id="explorer"></main>\n<noscript>This page needs JavaScript; it loads nothing.</noscript>\n'
        f"<script>{code}</script>\n</body>\n</html>\n"
    )


def inert_json(value: Any) -> str:
    """Returns JSON in ASCII that no HTML parser takes for markup. Every string survives, lone surrogates too.

    >>> inert_json("</script>")
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
