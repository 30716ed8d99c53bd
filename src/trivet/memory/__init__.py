"""What is alive in memory when, and what fits. Needs torch and the standard library only."""

from trivet.memory.plan import MemoryPlan, plan_memory

__all__ = ["MemoryPlan", "plan_memory"]
