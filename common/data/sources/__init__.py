"""Data sources: image folders, tables, saved datasets, the Hugging Face Hub, the bundled digits."""
