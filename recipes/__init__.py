"""Named experiments: the recipes, the study runner, and the report."""
