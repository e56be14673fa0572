"""Report of a study beside a published table: findings, tables, figures and words."""
