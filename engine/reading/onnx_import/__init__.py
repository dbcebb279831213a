"""ONNX graphs as modules of real nn layers: the file, its constants, its operators, its layers."""
