"""Updates of a training as CUDA graphs: batches padded to a few sizes, and a step in which the host waits for nothing."""
