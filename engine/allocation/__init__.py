"""The best use of a budget: one option for each item, so that the predicted loss is least.

- `problem`: items and their options as arrays, the limits, and a solution.
- `frontier`: the best for every budget of one resource at once, from convex hulls.
- `multipliers`: several limits at a time, by prices of the resources.
- `polishing`: what prices leave over is spent, and what is over a limit is saved.
- `core`: what is left to decide near the known choice, by dynamic programming.
- `exact`: the optimum, by branch and bound.
"""
