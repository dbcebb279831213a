"""Everything about networks, in PyTorch and without Qt: library, command line, engine process.

The map, in the order in which data flows (each line may import only from the lines above it):

- `errors`, `figures`, `options`, `layer`, `recipe`, `ledger`, `results`, `events`: plain data.
- `network`, `lifting`, `weight_forms`: a network as a graph of real layers, and how a weight is
  held.
- `task`: data, metric and loss.
- `reading`, `inspecting`, `methods`, `writing`: one file per format, per thing, per method.
- `recovering`, `compression`: training that gives accuracy back; a recipe run from start to end.
- `session`: the one façade. `worker` and `command_line` are two ways to drive it.
"""
