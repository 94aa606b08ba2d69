"""A network's geometry, read from the operators that it runs.

`trace` is the way in; `rule` teaches it an operator that it does not know. How it works: `_program`
(what runs), `_periods` (after how many px it repeats), `_rules*` (what each operator reads), `_sweep`
(what all of them read, along one axis), `_axis` and `_trace` (the geometry).
"""

from fullconv.tracing import _rules_mix as _rules_mix  # registers its rules
from fullconv.tracing import _rules_shape as _rules_shape
from fullconv.tracing import _rules_windows as _rules_windows
from fullconv.tracing._layers import Layer, layers
from fullconv.tracing._nested import replaced
from fullconv.tracing._program import Call, Modules, Program, Value, the_map
from fullconv.tracing._reach import Reach
from fullconv.tracing._rules import Step, is_pointwise, pointwise, rule
from fullconv.tracing._stages import Stage, Stages, stages
from fullconv.tracing._subject import buffers_kept, check_weights, hollow, quietly, record
from fullconv.tracing._trace import trace, trace_for

__all__ = [
    "Call",
    "Layer",
    "Modules",
    "Program",
    "Reach",
    "Stage",
    "Stages",
    "Step",
    "Value",
    "buffers_kept",
    "check_weights",
    "hollow",
    "is_pointwise",
    "layers",
    "pointwise",
    "quietly",
    "record",
    "replaced",
    "rule",
    "stages",
    "the_map",
    "trace",
    "trace_for",
]
