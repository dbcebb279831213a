"""The best use of a budget: one option for each item, so that the predicted loss is least.

- `problem`: items and their options as arrays, the limits, and a solution.
- `frontier`: the best for every budget of one resource at once, from convex hulls.
- `multipliers`: a choice within several limits at a time, in milliseconds.
- `exact`: the optimum, by a solver for any linear programme.

What `multipliers` does, in its order: `reduction` leaves out what cannot fit and brings all numbers
to one size; `relaxation` finds prices of the resources and a bound; `polishing` makes a choice at
prices fit; `branching` decides what is still open, of which `nearby` lists all that is few.
"""
