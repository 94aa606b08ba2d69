"""The whole page: one file, which loads nothing.

The content security policy forbids every address but ``data:`` for pictures, and every script but
the one whose hash it names: a page that does not need the network cannot reach it either.
"""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from markupsafe import Markup

from fullconv.reporting._section import Section, joined

_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{}'; "
    "base-uri 'none'; form-action 'none'"
)
_PAGE = Markup("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="fullconv">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<p class="over">fullconv report</p>
<h1>{title}</h1>
<p class="summary">{summary}</p>
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{sections}
</main>
<footer>{footer}</footer>
<script>{script}</script>
</body>
</html>
""")


def page(*, title: str, summary: str, sections: Sequence[Section], footer: str) -> str:
    """Return the page as HTML."""
    script = _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _PAGE.format(
        policy=_POLICY.format(digest),
        title=title,
        summary=summary,
        style=Markup(_asset("report.css")),
        links=joined(Markup('<a href="#{}">{}</a>').format(s.anchor, s.title) for s in sections),
        sections=joined(_section(section) for section in sections),
        footer=footer,
        script=Markup(script),
    )


def _section(section: Section) -> Markup:
    return Markup(
        '<section id="{0}" aria-labelledby="{0}-title"><h2 id="{0}-title">{1}</h2>\n{2}\n</section>'
    ).format(section.anchor, section.title, section.body)


def _asset(name: str) -> str:
    return files("fullconv.reporting").joinpath(name).read_text(encoding="utf-8")
