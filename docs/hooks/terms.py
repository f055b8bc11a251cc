"""Our docstrings describe arguments as lines of `name: what it is`; on a page each becomes an item of a list."""

import re
from typing import Any

from griffe import Docstring, Extension, Object

_TERM = re.compile(r"(?P<names>[a-z_]\w*(?:, [a-z_]\w*)*): (?=\S)")


def listed(text: str) -> str:
    """Paragraphs that begin with a term, as lists; everything else as it is.

    path: where it is.            - `path`: where it is.
        All of it.          ->        All of it.
    count, size: how much.        - `count`, `size`: how much.
    """
    done, before = [], ""
    for line in text.split("\n"):
        term = _TERM.match(line)
        # A term stands at the beginning of its paragraph, or follows the last one's text.
        inside = before.startswith(("- ", "    ")) and bool(before.strip())
        if term and (not before.strip() or inside):
            names = ", ".join(f"`{name}`" for name in term["names"].split(", "))
            line = f"- {names}: {line[term.end() :]}"
        done.append(line)
        before = line
    return "\n".join(done)


class Terms(Extension):
    def on_object(self, *, obj: Object, **_: Any) -> None:
        if isinstance(obj.docstring, Docstring):
            obj.docstring.value = listed(obj.docstring.value)
