"""Networks. Importing this package registers them with timm, so that `timm.create_model` finds every name and stem."""

from common.models import networks as networks
