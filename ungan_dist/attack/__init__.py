"""LiRA and the other attacks, and the conclusions from them."""
