"""Brings the measured results, which lie outside docs/, into the site.

In the repository a page links to `../benchmarks/results/peers.md`. The site has the same files
below `benchmarks/results/`, and the other pages that docs/ links to.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

RESULTS = "benchmarks/results/"
OTHERS = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/README.md")
SHOWN = {".md", ".png", ".csv", ".json"}
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
ROOT = Path(__file__).parent.parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every result, and the pages outside docs/, as files of the site."""
    others = [ROOT / name for name in OTHERS]
    for path in (*others, *sorted((ROOT / RESULTS).rglob("*"))):
        if path.suffix in SHOWN:
            name = path.relative_to(ROOT).as_posix()
            added = File.generated(config, name, abs_src_path=str(path))
            added.inclusion = added.inclusion.NOT_IN_NAV
            files.append(added)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links that leave docs/ lead to where the site has their targets."""
    folder = posixpath.dirname(page.file.src_uri)
    # where the page lies in the repository: added ones at their own place, all others below docs/
    added = page.file.src_uri in OTHERS or page.file.src_uri.startswith(RESULTS)
    in_repository = folder if added else f"docs/{folder}"

    def moved(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        if re.match(r"[a-z]+:", target) or target.startswith("/"):
            return match.group()
        place = posixpath.normpath(posixpath.join(in_repository, target))
        in_site = place.removeprefix("docs/")
        if files.get_file_from_path(in_site):
            return f"{before}{posixpath.relpath(in_site, folder or '.')}{after}"
        return match.group()

    return LINK.sub(moved, markdown)
