"""Released checkpoints and golden tensors."""
