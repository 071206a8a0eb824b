"""What a run would cost and what it could show."""
