"""The window: PySide6 and pyqtgraph; it never imports torch and asks an engine process.

The map, from a click to what is shown (intents go down to the document, signals come back up):

- `app`, `crash_report`: the start, and what becomes of an unexpected error.
- `main_window`, `workbench`, `window_actions`, `actions`: the frame, and what can be done in it.
- `views`, `dialogs`, `item_models`: what shows the document; `widgets`: controls without networks.
- `document`: the one place where views meet. Its parts: `document_signals`, `recipe_intents`,
  `recipe_editor` and `commands` (choices that can be undone), `opening` and `trust_memory`,
  `job_intents`, `runs` and `job`, `questions`, `strength_traces`, `atlas_readings`,
  `allocation_intents`, `allocations` and `holds` (budgets), `flips`, `layer_latency`,
  `layer_sensitivity`, `kept_results`, `keeper` and `project_file` (on disk).
- `graph_blocks`, `graph_layout`, `graph_columns`, `graph_steps`, `graph_drafter`: the picture of a
  network, laid out as plain numbers.
- `engine_client`: the engine process; requests go in, events come out as signals.
- `theme`, `style_sheet`, `icons`, `wording`, `inputs_text`, `budget_text`, `equivariance_facts`,
  `strength_facts`, `monotone`, `settings`: the look, words and curves, what is remembered.
"""
