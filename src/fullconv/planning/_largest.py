"""The largest number that fits, of something that grows ever faster."""

from __future__ import annotations

from collections.abc import Callable


def largest(taken: Callable[[int], int], limit: int, most: int | None = None) -> int:
    """Return the largest number of images whose memory fits; 0 if not even one does.

    Memory is the largest of several sums that grow in a straight line with the images: a convex
    function. So a straight line through two points that fit overshoots, one through a point that fits
    and one that does not falls short, and few points are looked at, none of them by trial.

    Args:
        taken: The bytes that so many images take.
        limit: The bytes that there are.
        most: Images that there are at most; None for any number.
    """
    if taken(1) > limit:
        return 0
    if most == 1 or taken(2) > limit:
        return 1
    low, high = 2, None
    slope = (taken(2) - taken(1)) or 1
    while high is None:
        guess = low + max(1, (limit - taken(low)) // slope)
        if most is not None and guess >= most:
            guess = most
        if taken(guess) > limit:
            high = guess
        elif guess == most:
            return guess
        else:
            slope = max(slope, (taken(guess) - taken(low)) // (guess - low))
            low = guess
    while high - low > 1:
        rise = taken(high) - taken(low)
        guess = low + (limit - taken(low)) * (high - low) // rise
        guess = min(max(guess, low + 1), high - 1)
        if taken(guess) > limit:
            high = guess
        else:
            low = guess
    return low
