"""Sizing of a study to the images at hand and to a budget of time: what they are, what the machine does, and what follows."""
