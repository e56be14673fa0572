"""Specification, axes, scales, plan and cost of a study."""
