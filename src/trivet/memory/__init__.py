"""What is alive in memory when, and what fits. Needs torch and the standard library only."""
