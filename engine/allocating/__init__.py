"""The best use of a budget: the atlas as a knapsack, and a recipe of what the knapsack takes."""
