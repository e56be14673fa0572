"""Engine of a Ray cluster: a detached actor for each run, which holds its resources and outlives the study's process."""
