"""FFCV's file format and a loader for it."""
