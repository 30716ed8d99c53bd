"""What to run, as data, and the choices made automatically."""
