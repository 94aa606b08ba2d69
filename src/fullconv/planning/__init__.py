"""What fits, and what it costs, before anything runs.

A step is rehearsed on tensors without numbers (`_rehearsal`) while a ledger notes which memory is
alive (`_ledger`), and what operators take besides (`_scratch`).
"""

from fullconv.planning._bill import Bill, Layer, bill, layers
from fullconv.planning._budget import MARGIN
from fullconv.planning._gauge import ERROR, Gauge
from fullconv.planning._largest import largest
from fullconv.planning._ledger import Block, Course, Tick
from fullconv.planning._manner import Manner
from fullconv.planning._measure import measured_here, steps_here
from fullconv.planning._plan import Plan, plan, planned
from fullconv.planning._ranks import least_of_ranks
from fullconv.planning._regimes import RegimePlan, WindowShape
from fullconv.planning._rehearsal import (
    Rehearsal,
    rehearse_forward,
    rehearse_step,
    rehearse_windows,
)
from fullconv.planning._small_steps import Took
from fullconv.planning._stage import Stage
from fullconv.planning._words import amount, duration, times

__all__ = [
    "ERROR",
    "MARGIN",
    "Bill",
    "Block",
    "Course",
    "Gauge",
    "Layer",
    "Manner",
    "Plan",
    "RegimePlan",
    "Rehearsal",
    "Stage",
    "Tick",
    "Took",
    "WindowShape",
    "amount",
    "bill",
    "duration",
    "largest",
    "layers",
    "least_of_ranks",
    "measured_here",
    "plan",
    "planned",
    "rehearse_forward",
    "rehearse_step",
    "rehearse_windows",
    "steps_here",
    "times",
]
