"""Rehearse a user's model before anything is trained: what a run will do to it is done once, on a few real examples."""
