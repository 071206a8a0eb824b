"""The LiRA attack, and what may be concluded from it."""
