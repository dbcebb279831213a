"""Everything about networks, in PyTorch and without Qt: library, command line, engine process.

The map, in the order in which data flows (each line may import only from the lines above it, which
a contract in pyproject.toml checks):

- `errors`, `figures`, `options`, `ranks`, `layer`, `trainings`, `recipe`, `ledger`, `results`,
  `readings`, `smoothing`, `events`, `requests`: plain data that loads in milliseconds, all that the
  window sees.
- `jobs`: what a long computation tells while it runs, and how it learns that it should stop.
- `free_sizes`, `recurrent_shapes`: sizes of inputs that may vary, and shapes without arithmetic.
- `network`, `length_trials`, `lifting`, `layer_building`: a network as a graph of real layers.
- `structured_layers`: layers of ours whose weight is a matrix made of few numbers;
  `structured_convolutions`: the base of those whose kernel is, `transformed_layers`: those of moved
  prototypes; `copying_layers`: channels copied; `matrix_convolutions`: matrices on
  every tap; `coefficient_layers`: a weight in a basis of its inputs; `compact_layers`: parts of
  fire modules and groups; `column_layers`: rows that share columns; `fastfood_layers`: Hadamard
  matrices; `binary_layers`: inputs as signs; `rounded_layers`: what flows in 8 bits;
  `structured_kinds`: all.
- `settled_norms`: batch norms of which one factor and one summand stay.
- `weight_forms`, `functional_layers`, `bit_packing`, `weight_unpacking`: how a weight is held,
  trained, stored, and read with plain torch.
- `opaque_network`: one that ONNX Runtime runs on what its layers hold (`held_weights` where torch
  has none), under the bounds of `bounded_runtime`, after an `opaque_trial` in a process of its own;
  `onnx_graphs`: what is inside an ONNX graph.
- `graph_form`, `graph_values`, `operators`, `archive_layout`: a graph and its weights as bytes.
- `task`, `datasets`: data, metric and loss. `evidence`: what data says of a layer's weights.
- `reading`, `inspecting`, `methods`, `writing`: one file per format, per thing, per method.
- `applicability`, `channel_removal`: which method can take which layer, and channels cut out.
- `calibrating`, `preparing`, `reconstructing`, `recovering`, `compression`, `archive_export`:
  evidence measured; training before compression, layer by layer after it, and of the whole in the
  end; the methods of a recipe carried out; the outcome to take away.
- `prediction`: what a recipe would give, without running it. `atlas`: what a change of one layer
  does to the loss and to the outputs, estimated and measured, and from which strength on it gains
  nothing.
- `allocation`: a multiple-choice knapsack. `allocating`: the atlas made into one, a recipe of its
  solution, and what whole networks say of it.
- `opened_network`: the open network and all that is known of it. `compressing`: a recipe run on it
  from start to end.
- `session`: the one façade. `worker` and `command_line` (with `terminal`, `sweep_command` and
  `allocation_command`) are two ways to drive it.
"""
