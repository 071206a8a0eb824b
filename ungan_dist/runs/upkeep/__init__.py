"""Verify, purge and diagnose what lies on disk."""
