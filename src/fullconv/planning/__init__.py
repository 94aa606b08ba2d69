"""What fits, and what it costs, before anything runs.

A step is rehearsed on tensors without numbers (`_rehearsal`) while a ledger notes which memory is
alive (`_ledger`), and what operators take besides (`_scratch`).
"""

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

__all__ = [
    "Block",
    "Course",
    "Manner",
    "Plan",
    "RegimePlan",
    "Rehearsal",
    "Tick",
    "WindowShape",
    "plan",
    "planned",
    "rehearse_forward",
    "rehearse_step",
    "rehearse_windows",
]
