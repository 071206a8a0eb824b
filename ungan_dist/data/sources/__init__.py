"""Readers of data sets: digits, CIFAR, Parquet and image folders."""
