"""``python -m ungan_dist`` is the command ``ungan-dist``."""

from ungan_dist.cli import main

if __name__ == "__main__":
    main()
