"""Named experiments: recipes, studies, and reports."""
