"""The window: PySide6 and pyqtgraph; it never imports torch and asks an engine process."""
