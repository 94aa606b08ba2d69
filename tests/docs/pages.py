"""Markdown pages as programs: what is fenced, what is said above it, what it should print.

- ```` ```python ```` and ```` ```sh ```` blocks are run, those of a page one after another; the
  Python blocks share one namespace.
- A ```` ```text ```` block is what the block before it prints.
- A block below ``<!-- file: NAME -->`` is written to that file instead.
- A block below ``<!-- not run: REASON -->`` is left alone.
- Of the shell only the program itself is run, in this process.
- Time budgets are cut to a two-thousandth.
"""

import re
import shlex
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from fullconv.cli import main

BLOCK = re.compile(
    r"^(?:<!-- (?P<key>[a-z ]+):(?P<value>.*?)-->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUN = ("python", "sh")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block; `key` and `value` are those of the comment above it, empty for none."""

    language: str
    text: str
    key: str = ""
    value: str = ""


def blocks(page: str) -> list[Block]:
    return [
        Block(
            language=found["language"],
            text=found["text"],
            key=found["key"] or "",
            value=(found["value"] or "").strip(),
        )
        for found in BLOCK.finditer(page)
    ]


def run_page(page: str) -> None:
    """Run a page in the folder that we are in.

    Raises:
        AssertionError: If a command fails, output differs, or a block says not what it is.
    """
    printed: str | None = None
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        assert block.key in ("", "file", "not run"), f"unknown comment: {block.key}"
        if block.key == "not run":
            assert block.value, f"a block is not run, and no reason is given:\n{block.text}"
        elif block.key == "file":
            Path(block.value).write_text(_hurried(block.text))
        elif block.language == "text":
            assert printed is not None, f"output of nothing:\n{block.text}"
            said, wanted = _lines(printed), _lines(block.text)
            assert said == wanted, f"prints {said}, not {wanted}"
            printed = None
        else:
            assert block.language in RUN, f"nobody runs {block.language!r}:\n{block.text}"
            printed = _printed(block, namespace)


def _printed(block: Block, namespace: dict[str, Any]) -> str:
    text = _hurried(block.text)
    with redirect_stdout(StringIO()) as out:
        if block.language == "python":
            exec(compile(text, "page", "exec"), namespace)
        else:
            for line in text.splitlines():
                _call(line)
    return out.getvalue()


def _hurried(text: str) -> str:
    return re.sub(r"(minutes[ =:]+)(\d+)", lambda m: f"{m[1]}{int(m[2]) / 2000}", text)


def _call(line: str) -> None:
    program, *arguments = shlex.split(line, comments=True)
    assert program == "fullconv", f"only fullconv is run, not {program}; say `not run` and why"
    assert main(arguments) == 0, line


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]
