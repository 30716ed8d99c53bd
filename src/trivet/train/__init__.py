"""Task and batches -> weights and history."""
