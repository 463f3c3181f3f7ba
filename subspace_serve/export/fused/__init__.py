"""Several networks as one ONNX graph that averages their answers."""
