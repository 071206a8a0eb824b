"""How training steps are executed: one by one, as a replay of a captured step, several at once, or stacked."""
