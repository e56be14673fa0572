"""Compute cost of a stage, from its recipe alone: steps, images, MACs."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Compute cost of a run."""

    steps: int
    """Optimizer steps; 0 if nothing is trained."""
    images: int
    """Images that the network processes; all views of an image count as one image."""
    macs_per_image: float
    """MACs of the forward pass and, in training, the backward pass, over all views of an image."""

    @property
    def macs(self) -> float:
        """Return the MACs of the complete run."""
        return self.images * self.macs_per_image


def count_steps(*, num_images: int, batch_size: int, epochs: int) -> int:
    """Return the number of steps of a training run: complete batches only, at least one per epoch."""
    return epochs * max(1, num_images // batch_size)
