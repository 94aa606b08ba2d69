"""Certificates: a network's geometry against witnesses that do not know how it was found."""

from fullconv.verifying._certificate import Certificate, Finding
from fullconv.verifying._effective import effective_field, half_width
from fullconv.verifying._seams import Seams, seams
from fullconv.verifying._verify import verify

__all__ = [
    "Certificate",
    "Finding",
    "Seams",
    "effective_field",
    "half_width",
    "seams",
    "verify",
]
