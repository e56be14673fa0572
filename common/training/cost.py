"""Owns what a stage costs before it starts: steps, images, multiply-adds, as far as its recipe tells."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Hold the cost of a run."""

    steps: int
    """Steps of the optimizer; 0 where nothing is trained."""
    images: int
    """Images that go through the network, each view of an image counted once with its image."""
    multiply_adds_per_image: float

    @property
    def multiply_adds(self) -> float:
        """Return the multiply-adds of the whole run, forward and backward."""
        return self.images * self.multiply_adds_per_image


def count_steps(*, num_images: int, batch_size: int, epochs: int) -> int:
    """Return the steps of a training run: whole batches, at least one an epoch."""
    return epochs * max(1, num_images // batch_size)
