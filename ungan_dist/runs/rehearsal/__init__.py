"""Rehearse a run with a user's model or weights before anything is trained."""
