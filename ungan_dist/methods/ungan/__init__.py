"""UnGAN: the algorithm, its draws and its critic."""
