"""Brings prose that lives beside the code into the site, and mends links between the two.

Links in the sources lead to files, so that they work in a checkout. In the site a link to a page that it has becomes a
link to that page, and a link to any other file of the project becomes its text.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = "docs"

PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "recipes/README.md": "recipes.md",
    "benchmarks/README.md": "benchmarks.md",
    **{
        f"{folder}/README.md": f"tasks/{posixpath.basename(folder)}.md"
        for folder in sorted(
            path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("src/langbridge/evaluate/tasks/*/README.md")
        )
    },
}
"""By their paths in the project: where pages from outside `docs/` stand in the site."""

STANDS_FOR = {"README.md": "index.md"}
"""The front door of the project is not in the site, which has its own."""

_LINK = re.compile(r"(?P<code>```.*?```|`[^`\n]*`)|(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)", re.DOTALL)


def mended(text: str, source: str, page: str) -> str:
    """`text` of `source` (its path in the project) with its links as they hold on `page` (its path in the site)."""

    def mend(found: re.Match[str]) -> str:
        if found["code"] or re.match(r"[a-z]+:|#", found["target"]):
            return found[0]
        path, _, anchor = found["target"].partition("#")
        there = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if there.startswith(f"{DOCS}/"):
            place = there.removeprefix(f"{DOCS}/")
        elif there in PAGES or there in STANDS_FOR:
            place = PAGES.get(there) or STANDS_FOR[there]
        else:
            return found["text"]
        target = posixpath.relpath(place, posixpath.dirname(page) or ".") + (f"#{anchor}" if anchor else "")
        return f"{found['image']}[{found['text']}]({target})"

    return _LINK.sub(mend, text)


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    sources = {where: source for source, where in PAGES.items()}
    where = page.file.src_uri
    return mended(markdown, sources.get(where, f"{DOCS}/{where}"), where)
