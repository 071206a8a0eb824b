"""Runs whose output folder is object storage."""
