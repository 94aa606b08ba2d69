"""What a verification found: one finding per witness, and the certificate that holds them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from fullconv.geometry import Geometry


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one witness found.

    Attributes:
        witness: What was looked at.
        cases: How many cases were compared; 0 where the witness does not apply.
        error: The largest difference found, relative to the largest value compared.
        passed: Whether every case held.
        detail: Where it first goes wrong, or why the witness does not apply.
    """

    witness: str
    cases: int
    error: float
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Whether a network's traced geometry holds, by witnesses that do not know the tracer.

    Attributes:
        shape: The image that was used, `(channels, *spatial)`.
        geometry: The geometry that was put to the test; None if the network was refused.
        findings: One for each witness.
    """

    shape: tuple[int, ...]
    geometry: Geometry | None
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether every witness that applies agrees, and at least one does."""
        return all(f.passed for f in self.findings) and any(f.cases for f in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return the certificate as plain values, for JSON."""
        g = self.geometry
        return {
            "passed": self.passed,
            "shape": list(self.shape),
            "geometry": g
            and {
                "field": list(g.field),
                "stride": [str(s) for s in g.stride],
                "period": list(g.period),
                "halo": [list(h) for h in g.halo],
            },
            # JSON knows no infinity: null stands for an error without measure.
            "findings": [
                asdict(f) | {"error": f.error if isfinite(f.error) else None} for f in self.findings
            ],
        }

    def __str__(self) -> str:
        lines = [f"{'passed' if self.passed else 'FAILED'} on an image of shape {self.shape}"]
        for f in self.findings:
            state = "-" if not f.cases and f.passed else "ok" if f.passed else "FAILED"
            counted = f"{f.cases} cases, error {f.error:.1e}" if f.cases else "no cases"
            lines.append(
                f"  {state:6}  {f.witness}: {counted}{f'; {f.detail}' if f.detail else ''}"
            )
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return the certificate as JSON text."""
        return json.dumps(self.as_dict(), indent=2)
