"""The second stage (or the only one): supervised training with AdamW, SGD or SAM."""
