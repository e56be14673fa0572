"""The report of a study, made from its run folders alone: what was found, in tables, figures and words."""
