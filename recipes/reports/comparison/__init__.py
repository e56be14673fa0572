"""Report of a comparison of the levels of axes: findings, tables, figures and words."""
