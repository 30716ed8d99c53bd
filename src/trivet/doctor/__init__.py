"""The doctor: why training fails, with proof. Needs torch and the standard library only."""
