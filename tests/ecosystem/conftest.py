"""Writes or checks the page of the networks that were tested; leaves all out where they are missing."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("timm") else ["*.py"]
if find_spec("timm"):
    from .members import MEMBERS
    from .page import PAGE, Row, text_of

    def pytest_addoption(parser: pytest.Parser) -> None:
        parser.addoption(
            "--check-coverage",
            action="store_true",
            help="fail if docs/coverage.md is not what the tests find, instead of writing it",
        )

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(session: pytest.Session) -> None:
        """Write the page, if every network was tested and none failed."""
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None or hasattr(session.config, "workerinput"):
            return
        rows = [
            Row.of_text(value)
            for report in reporter.stats.get("passed", [])
            for name, value in report.user_properties
            if name == "row"
        ]
        if len(rows) < len(MEMBERS):
            return
        text = text_of(rows)
        if not session.config.getoption("--check-coverage"):
            PAGE.write_text(text)
        elif PAGE.read_text() != text:
            reporter.write_line("docs/coverage.md is out of date: run `make test-ecosystem`")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
