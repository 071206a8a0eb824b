"""What a user asks for: frozen configs, recipes and identity."""
