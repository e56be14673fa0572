"""Owns the look at a run for re-identification: searches in a gallery in the place of accuracies."""

from typing import Any

import torch
from torch import nn

from common.data.reid.identities import IdentitySplits, Part, Sightings
from common.evaluation.classifier_monitor import ClassifierMonitor
from common.evaluation.reid import Retrieval, Sighted, rank_gallery
from common.training.run import Run
from finetune.config import FinetuneConfig


class RetrievalMonitor(ClassifierMonitor):
    """Average the loss over steps and search for identities the network was not trained on."""

    words = (("train_loss", "loss"), ("validation_map", "validation mAP"), ("validation_rank1", "rank 1"))

    def __init__(self, config: FinetuneConfig, run: Run, splits: IdentitySplits) -> None:
        augment = config.augment
        super().__init__(run, splits, config.data, crop=augment.evaluation_crop, stretch=augment.stretch)
        self.searches = splits.searches

    def validate(self, network: nn.Module, *, step: int, epoch: int) -> None:
        """Search for the held-out identities, where there are any, and write a line."""
        if "validation" in self.searches:
            self._keep(self._search(network, "validation").metrics(), best="map", step=step, epoch=epoch)

    def test(self, network: nn.Module) -> dict[str, Any]:
        """Search for the test queries, once; return the CMC curve and the number of queries for result.json."""
        found = self._search(network, "test")
        self._metrics |= {f"test_{name}": value for name, value in found.metrics().items()}
        return {"cmc": found.cmc, "queries": found.num_queries}

    def _search(self, network: nn.Module, part: Part) -> Retrieval:
        """Return the measures of a search by the features in front of the neck; every process takes all of it."""
        search = self.searches[part]
        return rank_gallery(self._sighted(network, search.query), self._sighted(network, search.gallery))

    def _sighted(self, network: nn.Module, images: Sightings) -> Sighted:
        """Return the features of images, with who and what camera they show, on the run's device."""
        features, classes = self._outputs(network, images.split)
        identities, cameras = torch.as_tensor(images.pairs, device=self.run.device)[classes].unbind(1)
        return Sighted(features, identities, cameras)
