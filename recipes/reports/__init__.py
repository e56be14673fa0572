"""Report of a study, computed from its run folders alone: findings, tables, figures and text."""
