"""The last block of a vision transformer for its class token alone, which is all that the pooled output depends on.

Queries, the projection of attention and the feed-forward block are then computed for one token instead of all; keys and values of
all tokens remain. Output and gradients are the same up to rounding, for 10/12 less of the block's linear layers (MLP ratio 4):
7% of a network of 12 blocks, 21% of one of 4.
"""

from typing import Any

from timm.layers import GluMlp, Mlp, SwiGLU
from timm.layers.attention import Attention
from timm.models import VisionTransformer
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from common.errors import UserError
from common.models.feed_forward import Conv1dMlp

KEY = "train.class_token_only"
_PER_TOKEN = (Mlp, GluMlp, SwiGLU, Conv1dMlp)
"""Feed-forward blocks that treat every token alone, without batch norm."""


class ClassTokenAttention(nn.Module):
    """Self-attention of timm's `Attention`, whose layers it shares, for the first token alone."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.num_heads, self.head_dim = attention.num_heads, attention.head_dim
        self.attn_dim, self.scale, self.fused_attn = attention.attn_dim, attention.scale, attention.fused_attn
        self.qkv, self.q_norm, self.k_norm = attention.qkv, attention.q_norm, attention.k_norm
        self.proj, self.proj_drop = attention.proj, attention.proj_drop

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the first token (B, 1, D) after attention to all tokens (B, N, D)."""
        query, keys, values = self._projections(tokens)
        query, keys = self.q_norm(query), self.k_norm(keys)
        if self.fused_attn:
            found = scaled_dot_product_attention(query, keys, values)
        else:
            found = (query * self.scale @ keys.transpose(-2, -1)).softmax(dim=-1) @ values
        output: Tensor = self.proj_drop(self.proj(found.transpose(1, 2).flatten(2)))
        return output

    def _projections(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the query (B, heads, 1, D / heads), keys and values (B, heads, N, D / heads)."""
        first = tokens[:, :1]
        if type(self.qkv) is nn.Linear:
            weight, bias, width = self.qkv.weight, self.qkv.bias, self.attn_dim
            query = linear(first, weight[:width], None if bias is None else bias[:width])
            others = linear(tokens, weight[width:], None if bias is None else bias[width:])
        else:  # with an update of low rank
            products: Tensor = self.qkv(tokens)
            query, others = products[:, :1, : self.attn_dim], products[..., self.attn_dim :]
        count, number, _ = tokens.shape
        keys, values = others.reshape(count, number, 2, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        return query.reshape(count, 1, self.num_heads, self.head_dim).transpose(1, 2), keys, values


class ClassTokenBlock(Block):  # type: ignore[misc]
    """timm's block for the first token alone; its attention is a `ClassTokenAttention`."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the first token (B, 1, D) after the block, for tokens (B, N, D)."""
        first = tokens[:, :1]
        first = first + self.drop_path1(self.ls1(self.attn(self.norm1(tokens))))
        output: Tensor = first + self.drop_path2(self.ls2(self.mlp(self.norm2(first))))
        return output


def use_class_token_only(network: nn.Module) -> None:
    """Let the last block of a network compute the class token alone; names and weights are unchanged.

    Raise UserError for a network whose output depends on other tokens of the last block, or is computed in another way.
    """
    problem = class_token_problem(network)
    if problem is not None:
        raise UserError(f"{KEY} = true: {problem}. Set it to false.")
    block = network.blocks[-1]  # type: ignore[index]
    block.attn = ClassTokenAttention(block.attn)  # type: ignore[union-attr, arg-type]
    block.__class__ = ClassTokenBlock


def class_token_problem(network: nn.Module) -> str | None:
    """Return why the last block of a network cannot compute its class token alone; None if it can."""
    if not isinstance(network, VisionTransformer):
        return f"{type(network).__name__} is not a vision transformer of timm's kind"
    if network.global_pool != "token" or network.attn_pool is not None or not network.num_prefix_tokens:
        return "the network does not pool its class token"
    block = network.blocks[-1]
    attention: Any = getattr(block, "attn", None)
    if type(block) is not Block or type(attention) is not Attention:
        return f"its last block is a {type(block).__name__} with {type(attention).__name__}"
    if attention.gate is not None or not isinstance(attention.norm, nn.Identity):
        return "the attention of its last block has a gate or a norm"
    if any(isinstance(module, nn.Dropout) and module.p for module in block.modules()):
        return "its last block has dropout, which would draw other numbers"
    has_statistics = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in block.modules())
    if has_statistics or not isinstance(block.mlp, _PER_TOKEN):
        return f"the feed-forward block {type(block.mlp).__name__} mixes tokens"
    return None
