"""Checks of everything that a run needs, each by doing it; Ray's are in ``cluster/doctor.py``."""
