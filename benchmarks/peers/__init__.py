"""What others would write or use in place of this project, stated once."""
