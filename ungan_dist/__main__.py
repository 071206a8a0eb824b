"""``python -m ungan_dist`` is the command ``ungan-dist``."""

from ungan_dist.cli import script

if __name__ == "__main__":
    script()
