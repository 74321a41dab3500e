"""The architectures of checkpoints in the Hugging Face format: how ``config.json`` and names of tensors are read."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from flax import linen as nn

from jaxsens.models.common import require
from jaxsens.models.images import convnext
from jaxsens.models.pretrained import decoders, image_settings, text_settings, vit
from jaxsens.models.pretrained.settings import Json
from jaxsens.models.text import bert, gpt2, llama

__all__ = ["KINDS", "READ_OUT", "Kind", "kind_of", "model_name"]

READ_OUT = "jaxsens_read_out"
"""A setting of this library: the read-out, where the name of the model does not determine it."""


class Kind(NamedTuple):
    """An architecture in the Hugging Face format.

    Attributes:
        module: The model.
        config: Its configuration.
        prefix: The prefix of the names of all tensors except those of a head, if there is a head.
        read_outs: Names of the model with each head, and the read-out of each.
        classifying: Name of the model with a classifier.
        extras: Names of further tensors that a checkpoint may hold, without the prefix.
        fixed: The only supported values of settings.
        read: Makes arguments of the configuration.
        write: Makes settings.
        defaults: The values that ``transformers`` takes for settings that are missing.
        tied: The names of a matrix that is the embedding, too, by the name of the embedding; files may have either.

    Example:
        >>> KINDS["bert"].module.__name__, KINDS["bert"].prefix
        ('Bert', 'bert')
    """

    module: type[nn.Module]
    config: type
    prefix: str
    read_outs: dict[str, str]
    classifying: str
    extras: re.Pattern[str]
    fixed: dict[str, Any]
    read: Callable[[Json], dict[str, Any]]
    write: Callable[[Any], dict[str, Any]]
    defaults: dict[str, Any]
    tied: dict[str, str]


_ACTIVE = {"hidden_act": "gelu", "layer_norm_eps": 1e-12}
_BERT = _ACTIVE | {"hidden_dropout_prob": 0.1, "type_vocab_size": 2}
_VIT = _ACTIVE | {"hidden_dropout_prob": 0.0, "num_channels": 3}
_DINOV2 = _VIT | {"layer_norm_eps": 1e-6, "mlp_ratio": 4}
_ONE_WAY = {"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"}
KINDS = {
    "bert": Kind(
        module=bert.Bert,
        config=bert.Config,
        prefix="bert",
        read_outs={
            "BertModel": "class",
            "BertForMaskedLM": "class",
            "BertForPreTraining": "class",
            "BertForNextSentencePrediction": "class",
            "BertForSequenceClassification": "pooler",
        },
        classifying="BertForSequenceClassification",
        extras=re.compile(r"embeddings\.(position_ids|token_type_ids)|(pooler|classifier|cls)\..*"),
        fixed=_ONE_WAY,
        read=text_settings.read_bert,
        write=text_settings.write_bert,
        defaults=_BERT,
        tied={"embeddings.word_embeddings.weight": "cls.predictions.decoder.weight"},
    ),
    "roberta": Kind(
        module=bert.Bert,
        config=bert.Config,
        prefix="roberta",
        read_outs={
            "RobertaModel": "class",
            "RobertaForMaskedLM": "class",
            "RobertaForSequenceClassification": "pooler",
        },
        classifying="RobertaForSequenceClassification",
        extras=re.compile(r"embeddings\.(position_ids|token_type_ids)|(pooler|classifier|lm_head)\..*"),
        fixed=_ONE_WAY,
        read=text_settings.read_roberta,
        write=text_settings.write_bert,
        defaults=_BERT | {"pad_token_id": 1},
        tied={"embeddings.word_embeddings.weight": "lm_head.decoder.weight"},
    ),
    "gpt2": Kind(
        module=gpt2.GPT2,
        config=gpt2.Config,
        prefix="transformer",
        read_outs={"GPT2Model": "last", "GPT2LMHeadModel": "next", "GPT2ForSequenceClassification": "last"},
        classifying="GPT2ForSequenceClassification",
        extras=re.compile(r"h\.\d+\.attn\.(bias|masked_bias)|lm_head\.weight|score\.weight"),
        fixed={
            "add_cross_attention": False,
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "tie_word_embeddings": True,
        },
        read=text_settings.read_gpt2,
        write=text_settings.write_gpt2,
        defaults={"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "resid_pdrop": 0.1},
        tied={"wte.weight": "lm_head.weight"},
    ),
    "vit": Kind(
        module=vit.PretrainedViT,
        config=vit.Config,
        prefix="vit",
        read_outs={"ViTModel": "class", "ViTForMaskedImageModeling": "class", "ViTForImageClassification": "class"},
        classifying="ViTForImageClassification",
        extras=re.compile(r"embeddings\.mask_token|(pooler|classifier|decoder)\..*"),
        fixed={"qkv_bias": True, "pooler_act": "tanh"},
        read=image_settings.read_vit,
        write=image_settings.write_vit,
        defaults=_VIT,
        tied={},
    ),
    "dinov2": Kind(
        module=vit.PretrainedViT,
        config=vit.Config,
        prefix="dinov2",
        read_outs={"Dinov2Model": "class", "Dinov2ForImageClassification": "class and mean"},
        classifying="Dinov2ForImageClassification",
        extras=re.compile(r"embeddings\.mask_token|classifier\..*"),
        fixed={"qkv_bias": True},
        read=image_settings.read_dinov2,
        write=image_settings.write_dinov2,
        defaults=_DINOV2,
        tied={},
    ),
    "dinov2_with_registers": Kind(
        module=vit.PretrainedViT,
        config=vit.Config,
        prefix="dinov2_with_registers",
        read_outs={"Dinov2WithRegistersModel": "class", "Dinov2WithRegistersForImageClassification": "class and mean"},
        classifying="Dinov2WithRegistersForImageClassification",
        extras=re.compile(r"embeddings\.(mask_token|register_tokens)|classifier\..*"),
        fixed={"qkv_bias": True},
        read=image_settings.read_dinov2_with_registers,
        write=image_settings.write_dinov2,
        defaults=_DINOV2 | {"num_register_tokens": 4},
        tied={},
    ),
    "convnextv2": Kind(
        module=convnext.ConvNeXt,
        config=convnext.Config,
        prefix="convnextv2",
        read_outs={"ConvNextV2Model": "mean", "ConvNextV2ForImageClassification": "mean"},
        classifying="ConvNextV2ForImageClassification",
        extras=re.compile(r"classifier\..*"),
        fixed={},
        read=image_settings.read_convnext,
        write=image_settings.write_convnext,
        defaults=_ACTIVE | {"drop_path_rate": 0.0, "num_channels": 3},
        tied={},
    ),
} | {
    family: Kind(
        module=llama.Llama,
        config=llama.Config,
        prefix="model",
        read_outs={f"{name}Model": "last", f"{name}ForCausalLM": "next"},
        classifying="",
        extras=re.compile(r"lm_head\.weight|(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq"),
        fixed={},
        read=partial(decoders.read, family),
        write=decoders.write,
        defaults=decoders.DEFAULTS,
        tied={"embed_tokens.weight": "lm_head.weight"},
    )
    for family, name in decoders.NAMES.items()
}
"""The architectures by ``model_type``."""


def kind_of(config: Any) -> str:
    """Return the ``model_type`` of a configuration.

    Raises:
        ValueError: If checkpoints have no such model.

    Example:
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 4, "vocabulary": 5, "positions": 4}
        >>> kind_of(gpt2.Config(**sizes))
        'gpt2'
    """
    if isinstance(config, bert.Config):
        return "roberta" if config.roberta else "bert"
    if isinstance(config, gpt2.Config):
        return "gpt2"
    if isinstance(config, convnext.Config):
        return "convnextv2"
    if isinstance(config, llama.Config):
        return decoders.family_of(config)
    is_vit = isinstance(config, vit.Config)
    require(
        is_vit, "module.config", config, "the configuration of a Bert, a GPT2, a Llama, a PretrainedViT or a ConvNeXt"
    )
    if not config.layer_scale:
        return "vit"
    return "dinov2_with_registers" if config.registers else "dinov2"


def model_name(config: Any) -> str:
    """Return the name that ``transformers`` has for a model with this head.

    Raises:
        ValueError: If it has no such model.

    Example:
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 4, "vocabulary": 5, "positions": 4}
        >>> model_name(gpt2.Config(**sizes))
        'GPT2LMHeadModel'
    """
    kind = KINDS[kind_of(config)]
    if hasattr(config, "attention"):
        attention = config.attention
        require(attention == "softmax", "config.attention", attention, "'softmax': the format has no other")
    if config.classes is not None:
        expected = kind.read_outs[kind.classifying]
        require(config.read_out == expected, "config.read_out", config.read_out, f"{expected!r} before a classifier")
        return kind.classifying
    names = list(kind.read_outs)
    return names[1] if kind.module in (gpt2.GPT2, llama.Llama) and config.read_out != "last" else names[0]
