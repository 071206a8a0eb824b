"""Estimate what a run costs and what it can show."""
