"""Evaluation of re-identification: retrieval metrics of queries against a gallery."""

import math

import torch
from torch import nn

from common.data.reid.identities import IdentitySplits, PersonImages
from common.evaluation.image_predictions import retrieval_predictions
from common.evaluation.inference import predict
from common.evaluation.reid import ReidFeatures, rank_gallery
from common.evaluation.supervised_monitor import Evaluation, Part
from common.training.run import Run
from finetune.config import FinetuneConfig


class ReidEvaluator:
    """Rank the gallery for every query, by the features before the neck; the identities are not those of training."""

    best_metric = "map"
    summary_names = {"validation_map": "validation mAP", "validation_rank1": "rank 1"}

    def __init__(self, config: FinetuneConfig, run: Run, splits: IdentitySplits) -> None:
        self.config, self.run, self.query_gallery = config, run, splits.query_gallery

    def evaluate(self, network: nn.Module, part: Part) -> Evaluation | None:
        """Return mAP and CMC ranks, with the CMC curve and the number of queries as details, and for the test queries predictions.

        Return None without queries, and a mAP of NaN if a feature is not finite. Every process ranks the complete gallery.
        """
        if part not in self.query_gallery:
            return None
        query, gallery = self.query_gallery[part]
        both = self._features(network, query), self._features(network, gallery)
        if not all(bool(each.features.isfinite().all()) for each in both):
            return Evaluation({"map": math.nan}, {"queries": len(query.split)})
        retrieval = rank_gallery(*both)
        predictions = retrieval_predictions(retrieval, query) if part == "test" else None
        return Evaluation(retrieval.metrics(), {"cmc": retrieval.cmc, "queries": retrieval.num_queries}, predictions)

    def _features(self, network: nn.Module, images: PersonImages) -> ReidFeatures:
        """Return the features of images with their identities and cameras, on the run's device."""
        augment = self.config.augment
        features, classes = predict(
            images.split,
            network,
            self.run,
            self.config.data,
            crop_pct=augment.crop_pct,
            squash=augment.crop_mode == "squash",
            batch_size=self.config.train.batch_size,
        )
        identities, cameras = torch.as_tensor(images.pairs, device=self.run.device)[classes].unbind(1)
        return ReidFeatures(features, identities, cameras)
