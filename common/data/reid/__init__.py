"""Re-identification data: person images, published layouts, PK sampling, hold-outs."""
