"""Models of images give the logits of PyTorch packages that implement the same description, with the same weights.

The file is long since every package has names of its own for the weights.
"""

import functools
import re
import warnings

import jax
import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch")

from jaxsens import models
from jaxsens.data.patches import to_patches
from jaxsens.models.images import convmixer, densenet, imagenet_vit, resnet, simple_vit, small_data_vit

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs

quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

SIDE, PATCH, CLASSES = 16, 4, 3
IMAGE = {"image_shape": (SIDE, SIDE, 3), "patch": PATCH, "classes": CLASSES}
WIDTH, HEADS, HEAD, HIDDEN, DEPTH = 12, 3, 5, 20, 2
SIZES = IMAGE | {"width": WIDTH, "heads": HEADS, "head_dim": HEAD, "hidden": HIDDEN, "depth": DEPTH}
THEIR_SIZES = {"image_size": SIDE, "patch_size": PATCH, "num_classes": CLASSES, "dim": WIDTH, "depth": DEPTH}
THEIR_SIZES |= {"heads": HEADS, "dim_head": HEAD, "mlp_dim": HIDDEN}


def of_package(name, make):
    """Import a package, or skip; then make the model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(pytest.importorskip(name))


def drawn(model):
    """Give a model weights so large that each of them matters, and statistics unlike the initial ones."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if value.dtype.is_floating_point:
                spread = 1.5 * value[0].numel() ** -0.5 if value.ndim > 1 else 0.2
                drawn = spread * torch.randn_like(value)
                center = name.endswith("var") or (value.ndim == 1 and name.endswith("weight"))
                value.copy_(1 + 0.5 * drawn.tanh() if center else drawn)
    return model.eval()


def converted(state, names, module):
    """Map weights of theirs, by their names, to variables of ours; each of theirs is used once, ours are checked."""
    shapes = models.common.shapes_by_path(jax.eval_shape(lambda key: models.init(module, key), jax.random.key(0)))
    variables = {"params": {}, "batch_stats": {}}
    left = {name: value.numpy() for name, value in state.items() if not name.endswith("num_batches_tracked")}
    for name, value in left.items():
        [made] = [target(value, *match.groups()) for pattern, target in names if (match := re.fullmatch(pattern, name))]
        for path, leaf in made.items():
            *parents, last = parts = path.split("/")
            kind = "batch_stats" if last in ("mean", "var") else "params"
            tree = variables[kind]
            for part in parents:
                tree = tree.setdefault(part, {})
            tree[last] = leaf.reshape(shapes["".join(f"['{part}']" for part in (kind, *parts))])
    return {kind: tree for kind, tree in variables.items() if tree}


def norm(value, path, kind):
    leaf = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}[kind]
    return {f"{path}/{leaf}": value}


def dense(value, path, kind):
    return {f"{path}/kernel": value.T} if kind == "weight" else {f"{path}/bias": value}


def convolution(value, path, kind):
    return {f"{path}/kernel": value.transpose(2, 3, 1, 0)} if kind == "weight" else {f"{path}/bias": value}


def patches(value, path, kind):
    """A convolution of patches, as a product with their pixels."""
    return (
        {f"{path}/kernel": value.transpose(2, 3, 1, 0).reshape(-1, len(value))}
        if kind == "weight"
        else {f"{path}/bias": value}
    )


def projections(value, path):
    """Queries, keys and values, one above another."""
    return {
        f"{path}/{name}/kernel": part.T
        for name, part in zip(("query", "key", "value"), np.split(value, 3), strict=True)
    }


KIND = r"\.(weight|bias)"
STATISTICS = r"\.(weight|bias|running_mean|running_var)"


def block(path, index):
    """Where the weights of a block of vit-pytorch belong."""
    return f"block_{index}/{path}"


VIT_BLOCK = [
    (r"transformer\.layers\.(\d+)\.0\.norm" + KIND, lambda v, i, k: norm(v, block("norm_attention", i), k)),
    (r"transformer\.layers\.(\d+)\.0\.temperature", lambda v, i: {block("attention/log_scale", i): v}),
    (r"transformer\.layers\.(\d+)\.0\.to_qkv\.weight", lambda v, i: projections(v, block("attention", i))),
    (r"transformer\.layers\.(\d+)\.0\.to_out(?:\.0)?" + KIND, lambda v, i, k: dense(v, block("attention/out", i), k)),
    (r"transformer\.layers\.(\d+)\.1\.net\.0" + KIND, lambda v, i, k: norm(v, block("norm_mlp", i), k)),
    (r"transformer\.layers\.(\d+)\.1\.net\.1" + KIND, lambda v, i, k: dense(v, block("expand", i), k)),
    (r"transformer\.layers\.(\d+)\.1\.net\.[34]" + KIND, lambda v, i, k: dense(v, block("contract", i), k)),
]
SMALL_DATA = [
    *VIT_BLOCK,
    (r"to_patch_embedding\.to_patch_tokens\.1" + KIND, lambda v, k: norm(v, "norm_patches", k)),
    (r"to_patch_embedding\.to_patch_tokens\.2" + KIND, lambda v, k: dense(v, "embed", k)),
    ("pos_embedding", lambda v: {"class_position": v[:, :1], "positions": v[:, 1:]}),
    ("cls_token", lambda v: {"class_token": v}),
    (r"mlp_head\.0" + KIND, lambda v, k: norm(v, "norm", k)),
    (r"mlp_head\.1" + KIND, lambda v, k: dense(v, "head", k)),
]
SIMPLE = [
    *VIT_BLOCK,
    (r"to_patch_embedding\.1" + KIND, lambda v, k: norm(v, "norm_patches", k)),
    (r"to_patch_embedding\.2" + KIND, lambda v, k: dense(v, "embed", k)),
    (r"to_patch_embedding\.3" + KIND, lambda v, k: norm(v, "norm_embedding", k)),
    (r"transformer\.norm" + KIND, lambda v, k: norm(v, "norm", k)),
    (r"linear_head" + KIND, lambda v, k: dense(v, "head", k)),
]
FIRST_SIMPLE = [
    *VIT_BLOCK,
    (r"to_patch_embedding\.1" + KIND, lambda v, k: dense(v, "embed", k)),
    (r"linear_head\.0" + KIND, lambda v, k: norm(v, "norm", k)),
    (r"linear_head\.1" + KIND, lambda v, k: dense(v, "head", k)),
]
LAYER = r"encoder\.layers\.encoder_layer_(\d+)\."
IMAGENET = [
    (r"conv_proj" + KIND, lambda v, k: patches(v, "patches", k)),
    ("class_token", lambda v: {"class_token": v}),
    (r"encoder\.pos_embedding", lambda v: {"positions": v}),
    (LAYER + "ln_1" + KIND, lambda v, i, k: norm(v, block("norm_attention", i), k)),
    (LAYER + r"self_attention\.in_proj_weight", lambda v, i: projections(v, block("attention", i))),
    (
        LAYER + r"self_attention\.in_proj_bias",
        lambda v, i: {
            block(f"attention/{name}/bias", i): part
            for name, part in zip(("query", "key", "value"), np.split(v, 3), strict=True)
        },
    ),
    (LAYER + r"self_attention\.out_proj" + KIND, lambda v, i, k: dense(v, block("attention/out", i), k)),
    (LAYER + "ln_2" + KIND, lambda v, i, k: norm(v, block("norm_mlp", i), k)),
    (LAYER + r"mlp\.0" + KIND, lambda v, i, k: dense(v, block("expand", i), k)),
    (LAYER + r"mlp\.3" + KIND, lambda v, i, k: dense(v, block("contract", i), k)),
    (r"encoder\.ln" + KIND, lambda v, k: norm(v, "norm", k)),
    (r"heads\.head" + KIND, lambda v, k: dense(v, "classifier", k)),
]


def stage(layer, index):
    """The block of a ResNet: their stages count from 1."""
    return f"block_{int(layer) - 1}_{index}"


RESNET = [
    (r"conv1" + KIND, lambda v, k: convolution(v, "stem", k)),
    (r"bn1" + STATISTICS, lambda v, k: norm(v, "stem_norm", k)),
    (
        r"layer(\d)\.(\d)\.conv(\d)" + KIND,
        lambda v, s, i, c, k: convolution(v, f"{stage(s, i)}/convolution_{int(c) - 1}", k),
    ),
    (r"layer(\d)\.(\d)\.bn(\d)" + STATISTICS, lambda v, s, i, c, k: norm(v, f"{stage(s, i)}/norm_{int(c) - 1}", k)),
    (r"layer(\d)\.(\d)\.downsample\.0" + KIND, lambda v, s, i, k: convolution(v, f"{stage(s, i)}/shortcut", k)),
    (r"layer(\d)\.(\d)\.downsample\.1" + STATISTICS, lambda v, s, i, k: norm(v, f"{stage(s, i)}/shortcut_norm", k)),
    (r"fc" + KIND, lambda v, k: dense(v, "head", k)),
]


def layer(number, index):
    """The layer of a DenseNet: their blocks and layers count from 1."""
    return f"layer_{int(number) - 1}_{int(index) - 1}"


INNER = r"features\.denseblock(\d)\.denselayer(\d+)\."
DENSENET = [
    (r"features\.conv0" + KIND, lambda v, k: convolution(v, "stem", k)),
    (r"features\.norm0" + STATISTICS, lambda v, k: norm(v, "stem_norm", k)),
    (INNER + "norm1" + STATISTICS, lambda v, b, i, k: norm(v, f"{layer(b, i)}/norm_0", k)),
    (INNER + "conv1" + KIND, lambda v, b, i, k: patches(v, f"{layer(b, i)}/bottleneck", k)),
    (INNER + "norm2" + STATISTICS, lambda v, b, i, k: norm(v, f"{layer(b, i)}/norm_1", k)),
    (INNER + "conv2" + KIND, lambda v, b, i, k: convolution(v, f"{layer(b, i)}/convolution", k)),
    (r"features\.transition(\d)\.norm" + STATISTICS, lambda v, b, k: norm(v, f"transition_norm_{b}", k)),
    (r"features\.transition(\d)\.conv" + KIND, lambda v, b, k: patches(v, f"transition_{b}", k)),
    (r"features\.norm5" + STATISTICS, lambda v, k: norm(v, "norm", k)),
    (r"classifier" + KIND, lambda v, k: dense(v, "head", k)),
]
CONVMIXER = [
    (r"stem\.0" + KIND, lambda v, k: patches(v, "stem", k)),
    (r"stem\.2" + STATISTICS, lambda v, k: norm(v, "stem_norm", k)),
    (r"blocks\.(\d)\.0\.fn\.0" + KIND, lambda v, i, k: convolution(v, f"depthwise_{i}", k)),
    (r"blocks\.(\d)\.0\.fn\.2" + STATISTICS, lambda v, i, k: norm(v, f"depthwise_norm_{i}", k)),
    (r"blocks\.(\d)\.1" + KIND, lambda v, i, k: patches(v, f"pointwise_{i}", k)),
    (r"blocks\.(\d)\.3" + STATISTICS, lambda v, i, k: norm(v, f"pointwise_norm_{i}", k)),
    (r"head" + KIND, lambda v, k: dense(v, "head", k)),
]


def first_simple(package):
    """The simple ViT as it was first published: normalized after the mean only."""
    model = package.SimpleViT(**THEIR_SIZES)
    model.to_patch_embedding = torch.nn.Sequential(
        *list(model.to_patch_embedding)[:1], torch.nn.Linear(PATCH**2 * 3, WIDTH)
    )
    model.transformer.norm = torch.nn.Identity()
    model.linear_head = torch.nn.Sequential(torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, CLASSES))
    return model


def half_patch(package):
    """Their model with the shifts of Lee et al., of whom there is no package: down is a row of zeros above."""
    model = package.ViT(**THEIR_SIZES)

    def tokens(x, half=PATCH // 2):
        wide = torch.nn.functional.pad(x, (half,) * 4)
        places = (slice(0, SIDE), slice(2 * half, None))
        return model.to_patch_embedding.to_patch_tokens(
            torch.cat([x, *(wide[:, :, down, right] for down in places for right in places)], 1)
        )

    model.to_patch_embedding.forward = tokens
    return model


def of_cifar(channels):
    """The stem for small images, of kernel 3 and stride 1."""
    return torch.nn.Conv2d(3, channels, 3, padding=1, bias=False)


def small_resnet(package):
    model = package.models.ResNet(package.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=CLASSES)
    model.conv1, model.maxpool = of_cifar(64), torch.nn.Identity()
    return model


def small_densenet(package):
    model = package.models.DenseNet(4, (2, 1, 2), 8, num_classes=CLASSES)
    model.features.conv0 = of_cifar(8)
    return model


CASES = {
    "small data": (
        "vit_pytorch.vit_for_small_dataset",
        lambda package: package.ViT(**THEIR_SIZES),
        SMALL_DATA,
        lambda: small_data_vit.SmallDataViT(small_data_vit.Config(**SIZES)),
    ),
    "small data, half patch": (
        "vit_pytorch.vit_for_small_dataset",
        half_patch,
        SMALL_DATA,
        lambda: small_data_vit.SmallDataViT(small_data_vit.Config(**SIZES, shifts="half patch")),
    ),
    "simple": (
        "vit_pytorch.simple_vit",
        lambda package: package.SimpleViT(**THEIR_SIZES),
        SIMPLE,
        lambda: simple_vit.SimpleViT(simple_vit.Config(**SIZES)),
    ),
    "simple, first": (
        "vit_pytorch.simple_vit",
        first_simple,
        FIRST_SIMPLE,
        lambda: simple_vit.SimpleViT(
            simple_vit.Config(**SIZES, normalize_patches=False, normalize_embedding=False, normalize_tokens=False)
        ),
    ),
    "ImageNet's": (
        "torchvision",
        lambda package: package.models.VisionTransformer(SIDE, PATCH, DEPTH, HEADS, WIDTH, HIDDEN, num_classes=CLASSES),
        IMAGENET,
        lambda: imagenet_vit.PretrainedViT(
            imagenet_vit.Config(**IMAGE, width=WIDTH, heads=HEADS, hidden=HIDDEN, depth=DEPTH, epsilon=1e-6)
        ),
    ),
    "ResNet": (
        "torchvision",
        small_resnet,
        RESNET,
        lambda: resnet.ResNet(resnet.Config(**IMAGE, blocks=(1, 1, 1, 1))),
    ),
    "DenseNet": (
        "torchvision",
        small_densenet,
        DENSENET,
        lambda: densenet.DenseNet(densenet.Config(**IMAGE, growth=4, blocks=(2, 1, 2))),
    ),
    "ConvMixer": (
        "timm.models.convmixer",
        lambda package: package.ConvMixer(WIDTH, DEPTH, 3, PATCH, 3, CLASSES),
        CONVMIXER,
        lambda: convmixer.ConvMixer(convmixer.Config(**IMAGE, width=WIDTH, depth=DEPTH)),
    ),
}


@functools.cache
def both(name):
    """Their model, ours, its variables, and images."""
    package, make, names, ours = CASES[name]
    theirs, module = drawn(of_package(package, make)), ours()
    variables = converted(theirs.state_dict(), names, module)
    return theirs, module, variables, np.random.default_rng(0).normal(size=(3, SIDE, SIDE, 3)).astype(np.float32)


def logits_of(theirs, images):
    with torch.no_grad():
        return theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()


@pytest.mark.parametrize("name", CASES)
def test_logits_are_theirs(name):
    theirs, module, variables, images = both(name)
    found = quick(models.evaluation(module))(variables, to_patches(images, PATCH))
    expected = logits_of(theirs, images)
    assert np.ptp(expected, axis=0).min() > 1e-2
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["ResNet", "DenseNet", "ConvMixer"])
def test_logits_in_training_are_theirs(name):
    """Normalization by the statistics of the batch; theirs keeps a variance that is n / (n - 1) times ours."""
    theirs, module, variables, images = both(name)
    found, _ = quick(models.train_apply(module))(variables, to_patches(images, PATCH), jax.random.key(0))
    expected = logits_of(theirs.train(), images)
    theirs.eval()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def cifar_densenet(package):
    model = package.models.densenet121(num_classes=10)
    model.features.conv0 = of_cifar(64)
    return model


def cifar_resnet(package):
    model = package.models.resnet18(num_classes=10)
    model.conv1 = of_cifar(64)
    return model


PUBLISHED = {"image_size": 32, "patch_size": 4, "num_classes": 10, "dim": 64}


@pytest.mark.parametrize(
    ("package", "make", "name", "variant"),
    [
        (
            "vit_pytorch.vit_for_small_dataset",
            lambda package: package.ViT(**PUBLISHED, depth=8, heads=32, mlp_dim=256),
            "vit_small_data",
            "paper_cifar10",
        ),
        (
            "vit_pytorch.simple_vit",
            lambda package: package.SimpleViT(**PUBLISHED, depth=6, heads=16, mlp_dim=512),
            "vit_simple",
            "paper_cifar10",
        ),
        ("torchvision", cifar_densenet, "densenet", "paper"),
        ("torchvision", cifar_resnet, "resnet", "paper"),
        ("timm.models.convmixer", lambda package: package.ConvMixer(128, 6, 3, 4, 3, 10), "convmixer", "paper"),
        ("torchvision", lambda package: package.models.vit_l_16(), "vit_imagenet", "large"),
    ],
)
def test_the_published_sizes_are_theirs(package, make, name, variant):
    large = {"image_shape": (224, 224, 3), "classes": 1000, "patch": 16}
    small = {"image_shape": (32, 32, 3), "classes": 10, "patch": 4}
    module = models.build(name, variant, **(large if variant == "large" else small))
    shapes = jax.eval_shape(lambda key: models.init(module, key), jax.random.key(0))
    with torch.device("meta"):
        theirs = of_package(package, make)
    assert models.parameter_count(shapes) == sum(value.numel() for value in theirs.parameters())
