"""Random models of the `transformers` library, saved by it and loaded here, give the same logits and hidden states."""

import functools
import json
import warnings

import jax
import numpy as np
import pytest

pytest.importorskip("safetensors")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")

from safetensors.numpy import load_file, save_file

from jaxsens import models
from jaxsens.data.patches import to_patches
from jaxsens.models import pretrained, transformer
from jaxsens.models.images import convnext
from jaxsens.models.text import encoder

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

ENCODER = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
ODD = {"hidden_size": 14, "num_hidden_layers": 3, "num_attention_heads": 7, "intermediate_size": 9}
TEXT = {"vocab_size": 29, "max_position_embeddings": 19, "num_labels": 3}
DECODER = {"vocab_size": 29, "n_positions": 19, "num_labels": 3, "pad_token_id": 0}
ROTARY = ENCODER | {"vocab_size": 29, "max_position_embeddings": 19, "pad_token_id": 0}
SCALED = {"rope_theta": 50.0, "factor": 4.0, "original_max_position_embeddings": 12}  # as pairs, to be hashed
LLAMA3 = tuple((SCALED | {"rope_type": "llama3", "low_freq_factor": 0.5, "high_freq_factor": 2.0}).items())
YARN = tuple((SCALED | {"rope_type": "yarn", "beta_fast": 4.0, "beta_slow": 0.5}).items())
LINEAR = (("rope_type", "linear"), ("rope_theta", 50.0), ("factor", 3.0))
IMAGE = {"image_size": 8, "patch_size": 4, "num_labels": 3}
STAGES = {"image_size": 16, "patch_size": 2, "num_stages": 2, "hidden_sizes": (4, 6), "depths": (1, 2)}

TEXT_MODELS = {
    "BERT": ("BertForSequenceClassification", "BertConfig", ENCODER | TEXT),
    "BERT, odd sizes": ("BertForSequenceClassification", "BertConfig", ODD | TEXT | {"hidden_act": "gelu_new"}),
    "BERT, pooler": ("BertModel", "BertConfig", ENCODER | TEXT | {"hidden_act": "relu", "layer_norm_eps": 1e-3}),
    "BERT, of pretraining": ("BertForPreTraining", "BertConfig", ENCODER | TEXT),
    "RoBERTa": ("RobertaForSequenceClassification", "RobertaConfig", ENCODER | TEXT | {"type_vocab_size": 1}),
    "RoBERTa, odd sizes": ("RobertaModel", "RobertaConfig", ODD | TEXT | {"pad_token_id": 3}),
    "RoBERTa, of pretraining": ("RobertaForMaskedLM", "RobertaConfig", ENCODER | TEXT),
    "GPT-2": ("GPT2ForSequenceClassification", "GPT2Config", DECODER | {"n_embd": 12, "n_layer": 2, "n_head": 3}),
    "GPT-2, odd sizes": (
        "GPT2LMHeadModel",
        "GPT2Config",
        DECODER | {"n_embd": 14, "n_layer": 3, "n_head": 7, "n_inner": 9, "activation_function": "relu"},
    ),
    "Llama": ("LlamaForCausalLM", "LlamaConfig", ROTARY | {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    "Llama, odd sizes": (
        "LlamaForCausalLM",
        "LlamaConfig",
        ROTARY | {"head_dim": 6, "attention_bias": True, "mlp_bias": True, "rms_norm_eps": 1e-2, "hidden_act": "gelu"},
    ),
    "Llama, linear": ("LlamaForCausalLM", "LlamaConfig", ROTARY | {"rope_parameters": LINEAR}),
    "Llama 3": ("LlamaForCausalLM", "LlamaConfig", ROTARY | {"head_dim": 12, "rope_parameters": LLAMA3}),
    "Llama, YaRN": ("LlamaForCausalLM", "LlamaConfig", ROTARY | {"head_dim": 16, "rope_parameters": YARN}),
    "Mistral": ("MistralForCausalLM", "MistralConfig", ROTARY | {"sliding_window": 4, "num_key_value_heads": 3}),
    "Qwen 2": (
        "Qwen2ForCausalLM",
        "Qwen2Config",
        ROTARY | {"num_key_value_heads": 1, "use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
    ),
    "Qwen 3": ("Qwen3ForCausalLM", "Qwen3Config", ROTARY | {"num_key_value_heads": 3, "head_dim": 4}),
    "GPT-2, base": ("GPT2Model", "GPT2Config", DECODER | {"n_embd": 12, "n_layer": 1, "n_head": 2}),
}
IMAGE_MODELS = {
    "ViT": ("ViTForImageClassification", "ViTConfig", ENCODER | IMAGE),
    "ViT, odd sizes": ("ViTForImageClassification", "ViTConfig", ODD | IMAGE | {"image_size": (6, 9), "patch_size": 3}),
    "ViT, pooler": ("ViTModel", "ViTConfig", ENCODER | IMAGE | {"num_channels": 1, "hidden_act": "gelu_new"}),
    "DINOv2": ("Dinov2ForImageClassification", "Dinov2Config", ENCODER | IMAGE | {"mlp_ratio": 2}),
    "DINOv2, odd sizes": ("Dinov2ForImageClassification", "Dinov2Config", ODD | IMAGE | {"patch_size": 2}),
    "DINOv2, base": ("Dinov2Model", "Dinov2Config", ENCODER | IMAGE),
    "DINOv2, gated": ("Dinov2ForImageClassification", "Dinov2Config", ENCODER | IMAGE | {"use_swiglu_ffn": True}),
    "DINOv2, registers": (
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersConfig",
        ENCODER | IMAGE | {"image_size": 16, "num_register_tokens": 3, "mlp_ratio": 2},
    ),
    "DINOv2, registers, gated": (
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        ODD | IMAGE | {"use_swiglu_ffn": True, "num_register_tokens": 1},
    ),
    "ConvNeXt": ("ConvNextV2ForImageClassification", "ConvNextV2Config", STAGES | {"num_labels": 3}),
    "ConvNeXt, odd sizes": (
        "ConvNextV2Model",
        "ConvNextV2Config",
        STAGES | {"image_size": (14, 22), "hidden_act": "relu", "layer_norm_eps": 1e-3, "num_channels": 1},
    ),
}


@functools.cache
def theirs(name, config, **sizes):
    """A model of theirs with weights large enough that every one matters."""
    torch.manual_seed(0)
    sizes = {setting: dict(value) if setting == "rope_parameters" else value for setting, value in sizes.items()}
    config = getattr(transformers, config)(**sizes, attn_implementation="eager")
    model = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn_like(parameter) + (parameter if parameter.ndim == 1 else 0))
    return model


def same(found, expected):
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=0, atol=1e-4)


def evaluate(loaded, tokens, mask, normalize_last=False):
    """Outputs and hidden states, in one program."""
    plain = isinstance(loaded.module, convnext.ConvNeXt)  # without hidden states of one shape
    states = encoder.hidden_states(loaded.module, normalize_last=normalize_last)

    @quick
    def both(variables, tokens, mask):
        outputs = models.evaluation(loaded.module)(variables, tokens, mask)
        return outputs, None if plain else states(variables, tokens, mask)

    return jax.device_get(both(loaded.variables, tokens, mask))


def read_out_of(name):
    every = "every" if name.endswith(("CausalLM", "LMHeadModel")) else None
    return {"BertModel": "pooler", "ViTModel": "pooler"}.get(name, every)


def output_of(model, outputs):
    if hasattr(outputs, "logits") and "ForMaskedLM" not in type(model).__name__:
        return outputs.logits
    if type(model).__name__ in ("BertModel", "ViTModel", "Dinov2Model", "Dinov2WithRegistersModel", "ConvNextV2Model"):
        return outputs.pooler_output
    return None


@pytest.mark.parametrize("case", TEXT_MODELS)
def test_texts(case, tmp_path):
    name, config, sizes = TEXT_MODELS[case]
    model = theirs(name, config, **sizes)
    model.save_pretrained(tmp_path)
    loaded = pretrained.load(tmp_path, read_out=read_out_of(name))
    longest = loaded.module.config.positions
    draws = np.random.default_rng(0)
    for length, right in ((longest, True), (5, True), (5, False)):
        counts = np.array([length, 1, length // 2 + 1])
        mask = np.arange(length)[None] < counts[:, None]
        mask = mask if right else mask[:, ::-1].copy()
        ids = draws.integers(4, 29, mask.shape).astype(np.int32)  # above the ids of padding, which RoBERTa counts by
        ids = np.where(mask, ids, sizes.get("pad_token_id", 1 if name.startswith("Roberta") else 0)).astype(np.int32)
        tokens, extra = ids, {}
        if name.startswith("Bert"):
            types = draws.integers(0, 2, mask.shape).astype(np.int32)
            tokens, extra = np.stack([ids, types], -1), {"token_type_ids": torch.tensor(types)}
        if not name.startswith("Roberta"):  # which counts only real tokens
            extra["position_ids"] = torch.tensor(np.maximum(mask.cumsum(1) - 1, 0))
        with torch.no_grad():
            expected = model(
                torch.tensor(ids), attention_mask=torch.tensor(mask).long(), output_hidden_states=True, **extra
            )
        decoder = name.startswith("GPT2") or name.endswith("CausalLM")
        output, states = evaluate(loaded, tokens, mask, normalize_last=decoder)
        assert len(states) == len(expected.hidden_states)
        for found, reference in zip(states, expected.hidden_states, strict=True):
            same(found[mask], reference[mask])
        reference = output_of(model, expected)
        if read_out_of(name) == "every":
            same(output[mask], reference[mask])
        elif reference is not None and (right or decoder) and "PreTraining" not in name:
            same(output, reference)  # their encoders read the first token, be it padding


@pytest.mark.parametrize("case", IMAGE_MODELS)
def test_images(case, tmp_path):
    name, config, sizes = IMAGE_MODELS[case]
    model = theirs(name, config, **sizes)
    model.save_pretrained(tmp_path)
    loaded = pretrained.load(tmp_path, read_out=read_out_of(name))
    config = loaded.module.config
    images = np.random.default_rng(0).normal(size=(2, *config.image_shape)).astype(np.float32)
    output, states = evaluate(loaded, to_patches(images, config.patch), None)
    with torch.no_grad():
        expected = model(torch.tensor(images.transpose(0, 3, 1, 2)), output_hidden_states=True)
    if states is not None:
        assert len(states) == len(expected.hidden_states)
        for found, reference in zip(states, expected.hidden_states, strict=True):
            same(found, reference)
    same(output, output_of(model, expected))


@pytest.mark.parametrize("case", ["ViT", "DINOv2", "DINOv2, registers", "ConvNeXt"])
def test_images_of_another_size(case, tmp_path):
    """Of 12 x 20 pixels: more patches than in training, but fewer down for the model with registers."""
    name, config, sizes = IMAGE_MODELS[case]
    model = theirs(name, config, **sizes)
    model.save_pretrained(tmp_path)
    image = np.random.default_rng(0).normal(size=(1, 12, 20, 3)).astype(np.float32)
    loaded = pretrained.load(tmp_path, image_shape=(12, 20, 3))
    found = quick(models.evaluation(loaded.module))(loaded.variables, to_patches(image, loaded.module.config.patch))
    options = {"interpolate_pos_encoding": True} if case == "ViT" else {}  # DINOv2 always does
    with torch.no_grad():
        same(found, model(torch.tensor(image.transpose(0, 3, 1, 2)), **options).logits)


@pytest.mark.parametrize("name", transformer.ACTIVATIONS)
def test_activations_are_theirs(name):
    x = np.linspace(-9, 9, 200, dtype=np.float32)
    np.testing.assert_allclose(
        transformer.ACTIVATIONS[name](x), transformers.activations.ACT2FN[name](torch.tensor(x)), rtol=0, atol=3e-6
    )


@pytest.mark.parametrize(
    ("case", "changes", "missing", "prefix", "tied"),
    [
        ("BERT", {"hidden_act": "quick_gelu"}, ("layer_norm_eps", "model_type"), "module.", {}),
        ("BERT, pooler", {"hidden_act": "swish", "layer_norm_eps": 1e-12}, ("layer_norm_eps",), "0.auto_model.", {}),
        (
            "GPT-2, odd sizes",
            {"activation_function": "gelu_fast"},
            ("layer_norm_epsilon", "model_type"),
            "",
            {"transformer.wte.weight": "lm_head.weight"},
        ),
    ],
)
def test_variants_of_the_format(case, changes, missing, prefix, tied, tmp_path):
    """Names and settings that other libraries, or older versions, write."""
    name, config, sizes = TEXT_MODELS[case]
    model = theirs(name, config, **sizes | changes)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({prefix + tied.get(key, key): a for key, a in tensors.items()}, tmp_path / "model.safetensors")
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in settings.items() if k not in missing}))
    loaded = pretrained.load(tmp_path, read_out=read_out_of(name))
    ids = np.arange(10, dtype=np.int32).reshape(2, 5) + 4
    with torch.no_grad():
        same(quick(models.evaluation(loaded.module))(loaded.variables, ids), output_of(model, model(torch.tensor(ids))))


SAVED = [
    "BERT",
    "RoBERTa",
    "GPT-2, odd sizes",
    "Llama, odd sizes",
    "Mistral",
    "Qwen 2",
    "Qwen 3",
    "ViT, odd sizes",
    "DINOv2",
    "DINOv2, registers, gated",
    "ConvNeXt",
]


@pytest.mark.parametrize("case", SAVED)
def test_they_read_what_is_saved_here(case, tmp_path):
    name, config, sizes = (TEXT_MODELS | IMAGE_MODELS)[case]
    model = theirs(name, config, **sizes)
    model.save_pretrained(tmp_path / "theirs")
    loaded = pretrained.load(tmp_path / "theirs")
    pretrained.save(tmp_path / "ours", loaded.module, loaded.variables)
    again, report = getattr(transformers, name).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["unexpected_keys"], report
    assert all(key.endswith("embeddings.mask_token") for key in report["missing_keys"]), report
    for (path, expected), found in zip(model.named_parameters(), again.parameters(), strict=True):
        if not path.endswith("mask_token"):
            assert torch.equal(expected, found), path
    if "image_size" not in sizes:
        ids = torch.arange(10).reshape(2, 5) + 4
        same(model(ids).logits.detach(), again.eval()(ids).logits)


def test_bfloat16_weights_are_theirs(tmp_path):
    name, config, sizes = TEXT_MODELS["BERT"]
    theirs.cache_clear()
    model = theirs(name, config, **sizes).to(torch.bfloat16)
    model.save_pretrained(tmp_path, max_shard_size="2KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    loaded = pretrained.load(tmp_path)
    table = model.bert.embeddings.word_embeddings.weight
    np.testing.assert_array_equal(loaded.variables["params"]["tokens"], table.float().detach().numpy())
