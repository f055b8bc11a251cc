"""How a bridge learns: the recipe of a run, and the run.

Only the recipe is imported here, so that it can be read and checked without torch.
"""

from langbridge.train.recipe import Recipe

__all__ = ["Recipe"]
