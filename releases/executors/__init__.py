"""Ways to reach machines. `load` gives the one that the settings name."""

from releases.executors.base import load

__all__ = ["load"]
