"""The largest number that fits, against trying them one after another."""

from hypothesis import given, settings
from hypothesis import strategies as st

from fullconv.planning._largest import largest

lines = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 500)), min_size=1, max_size=4)


@settings(max_examples=300)
@given(lines, st.integers(1, 500), st.integers(0, 40_000), st.none() | st.integers(1, 100))
def test_it_is_the_largest_that_fits(
    sums: list[tuple[int, int]], slope: int, limit: int, most: int | None
) -> None:
    def taken(count: int) -> int:
        return max(start + each * count for start, each in [*sums, (0, slope)])

    found = largest(taken, limit, most)
    assert found == 0 or taken(found) <= limit
    assert found == most or taken(found + 1) > limit
    assert most is None or found <= most


def test_few_points_are_looked_at() -> None:
    looked: list[int] = []

    def taken(count: int) -> int:
        looked.append(count)
        return max(5_000 + 10 * count, 1_000 + 17 * count)

    assert largest(taken, 10**9) == (10**9 - 1_000) // 17
    assert len(set(looked)) <= 8
