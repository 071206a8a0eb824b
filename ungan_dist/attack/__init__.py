"""The LiRA attack and the conclusions from it."""
