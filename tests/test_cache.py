"""Tests leave the user's cache alone."""

from pathlib import Path

from fullconv.images._cache import _file


def test_what_tests_cache_lies_in_a_temporary_folder(
    cache_of_the_tests: Path, tmp_path: Path
) -> None:
    assert _file(tmp_path).is_relative_to(cache_of_the_tests)
