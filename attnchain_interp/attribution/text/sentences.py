"""The sentences of a text. Attributions of texts and the evidence of data sets are cut by the same rule."""

from __future__ import annotations

import re
from typing import Final

_ENDS: Final = re.compile(
    r"\n\s*"
    r"|(?<=\s[.!?])\s+(?![\s»])"  # a mark that stands alone, as in texts that are cut into words
    r"|[。！？][」』”’）]*\s*"
    r"""|(?<=[.!?…؟۔।])(?:["'”’“‘«)\]]|\s?»)*\s+"""  # a mark and what closes, before what opens and a letter or a figure
    r"""(?=(?:["'“‘„»(\[¿¡]|«\s?)*([^\W_]))"""
)


def sentences_of(text: str, cased: bool = True) -> tuple[tuple[int, int], ...]:
    """Returns the spans (start, end) of the sentences of a text in characters, each up to the start of the next.

    A sentence ends at a mark (".", "!", "?", "…", "؟", "۔", "।") before white space and a figure, a capital or a letter of a
    script without capitals; at ".", "!" or "?" that stands alone; at "。", "！" or "？"; and at the end of a line. An
    abbreviation before a name ("Dr. Smith") ends one, too.

    Args:
        text: of any script.
        cased: False for a text without capitals, where a small letter begins a sentence, too.

    >>> sentences_of("It rained. We left at 5 p.m. sharp.")
    ((0, 11), (11, 35))
    """
    starts, at = [0], 0
    while (found := _ENDS.search(text, at)) is not None:
        at = found.end()
        if cased and (found[1] or "").islower():
            at = found.start() + 1
        elif 0 < at < len(text):
            starts.append(at)
    return tuple(zip(starts, [*starts[1:], len(text)], strict=True))
