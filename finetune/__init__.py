"""The second stage (or the only one): supervised training by AdamW, SGD or SAM."""
