"""Ways to reach machines. `load` gives the one that the settings name."""

from releases.executors.base import Ending, Executor, ExecutorError, Order, Outcome, load

__all__ = ["Ending", "Executor", "ExecutorError", "Order", "Outcome", "load"]
