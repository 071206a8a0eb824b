"""The parts of ``make soak``."""
