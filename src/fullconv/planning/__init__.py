"""What fits, and what it costs, before anything runs.

A step is rehearsed on tensors without numbers (`_rehearsal`) while a ledger notes which memory is
alive (`_ledger`), and what operators take besides (`_scratch`).
"""

from fullconv.planning._bill import Bill, Layer, bill, layers
from fullconv.planning._budget import MARGIN
from fullconv.planning._gauge import ERROR
from fullconv.planning._ledger import Block, Course, Tick
from fullconv.planning._manner import Manner
from fullconv.planning._plan import Plan, plan, planned
from fullconv.planning._regimes import RegimePlan, WindowShape
from fullconv.planning._rehearsal import (
    Rehearsal,
    rehearse_forward,
    rehearse_step,
    rehearse_windows,
)
from fullconv.planning._stage import Stage

__all__ = [
    "ERROR",
    "MARGIN",
    "Bill",
    "Block",
    "Course",
    "Layer",
    "Manner",
    "Plan",
    "RegimePlan",
    "Rehearsal",
    "Stage",
    "Tick",
    "WindowShape",
    "bill",
    "layers",
    "plan",
    "planned",
    "rehearse_forward",
    "rehearse_step",
    "rehearse_windows",
]
