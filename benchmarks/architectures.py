"""The healthy models that the benchmarks use: how each is made, initialised, fed and trained."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.models import generative, other, recurrent, sequence, vision

Initialiser = Callable[[str, nn.Module], None]
VOCABULARY = sequence.VOCABULARY


@dataclass(frozen=True, slots=True)
class Architecture:
    """One healthy model.

    `init` is called with every module and its name; None leaves what the constructor wrote. `small`
    are patterns of weights that may rightly be small or zero (heads, ends of residual branches),
    `squashed` of weights whose outputs enter a sigmoid, a tanh or a softmax.
    """

    name: str
    make: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Tensor | list[Tensor], ...]]
    loss: Callable[[object], Tensor]
    init: Initialiser | None = None
    small: tuple[str, ...] = ()
    squashed: tuple[str, ...] = ()

    def build(self, skip: Container[str] = ()) -> nn.Module:
        """The initialised model; modules named in `skip` are left as their constructor made them."""
        model = self.make()
        if self.init is not None:
            for name, module in model.named_modules():
                if name not in skip:
                    self.init(name, module)
        return model

    def may_be_small(self, parameter: str) -> bool:
        """A small or zero value is a known and sound choice for this parameter."""
        return any(fnmatchcase(parameter, pattern) for pattern in self.small)

    def is_squashed(self, parameter: str) -> bool:
        """Its outputs enter a sigmoid, a tanh or a softmax."""
        return any(fnmatchcase(parameter, pattern) for pattern in self.squashed)


# ---------------------------------------------------------------- objectives


def tensors(output: object) -> Iterator[Tensor]:
    """Every floating-point tensor of an output."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, list | tuple):
        for part in output:
            yield from tensors(part)


def classify(output: object) -> Tensor:
    """Cross-entropy of the last axis against labels that go round the classes."""
    (logits,) = tensors(output)
    logits = logits.flatten(0, -2)
    return F.cross_entropy(logits, torch.arange(len(logits)) * 7 % logits.shape[-1])


def regress(output: object) -> Tensor:
    """Mean squared distance from fixed normal targets."""
    generator = torch.Generator().manual_seed(0)
    return torch.stack(
        [F.mse_loss(part, torch.randn(part.shape, generator=generator)) for part in tensors(output)]
    ).mean()


# ---------------------------------------------------------------- inputs


def images(size: int = 32, channels: int = 3, batch: int = 8) -> tuple[Tensor]:
    return (torch.randn(batch, channels, size, size),)


def tokens(length: int = 16, batch: int = 8) -> tuple[Tensor]:
    return (torch.randint(1, VOCABULARY, (batch, length)),)


def rows(features: int, batch: int = 32) -> tuple[Tensor]:
    return (torch.randn(batch, features),)


def noisy_images(channels: int = 3, size: int = 16) -> tuple[Tensor, Tensor]:
    return torch.randn(8, channels, size, size), torch.randint(0, 1000, (8,))


def dense_graph(nodes: int = 40) -> tuple[Tensor, Tensor]:
    edges = (torch.rand(nodes, nodes) < 0.1).float()
    edges = ((edges + edges.t() + torch.eye(nodes)) > 0).float()
    scale = edges.sum(1).rsqrt()
    return torch.randn(nodes, 32), scale[:, None] * edges * scale


def edge_list(nodes: int = 40, edges: int = 160) -> tuple[Tensor, Tensor, Tensor]:
    loops = torch.arange(nodes).repeat(2, 1)
    edge_index = torch.cat([torch.randint(0, nodes, (2, edges)), loops], 1)
    return torch.randn(nodes, 16), edge_index, torch.arange(nodes) * 4 // nodes


# ---------------------------------------------------------------- the catalogue

ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture(
        "resnet",
        vision.ResNet,
        lambda: images(16),
        classify,
        vision.resnet_init,
        small=("fc.weight", "*.conv2.weight"),
    ),
    Architecture(
        "resnet-zero-gamma",
        vision.ResNet,
        lambda: images(16),
        classify,
        vision.resnet_zero_gamma_init,
        small=("fc.weight",),
    ),
    Architecture(
        "convnext",
        vision.ConvNeXt,
        images,
        classify,
        vision.convnext_init,
        small=("head.weight", "*.pwconv2.weight", "*.gamma"),
    ),
    Architecture(
        "vit",
        vision.ViT,
        images,
        classify,
        vision.vit_init,
        small=("head.weight", "*.proj.weight", "*.fc2.weight", "cls_token", "pos_embed"),
        squashed=("*.qkv.weight",),
    ),
    Architecture(
        "mlp-mixer", vision.Mixer, images, classify, vision.mixer_init, small=("head.weight", "*.fc2.weight")
    ),
    Architecture(
        "densenet",
        vision.DenseNet,
        lambda: images(16),
        classify,
        vision.densenet_init,
        small=("classifier.weight",),
    ),
    Architecture(
        "mobilenet",
        vision.MobileNet,
        images,
        classify,
        vision.mobilenet_init,
        small=("classifier.weight", "*.excite.weight", "*.project.weight"),
        squashed=("*.excite.weight",),
    ),
    Architecture("plain-cnn", vision.plain_cnn, images, classify, vision.kaiming_init, small=("21.weight",)),
    Architecture("default-cnn", vision.DefaultCNN, lambda: images(28, 1), classify, small=("fc2.weight",)),
    Architecture(
        "detector",
        vision.Detector,
        lambda: images(32, batch=2),
        regress,
        vision.detector_init,
        small=("head.cls_logits.weight", "head.bbox_pred.weight"),
    ),
    Architecture(
        "gpt",
        sequence.GPT,
        tokens,
        classify,
        sequence.gpt_init,
        small=("*_proj.weight", "wpe.weight"),
        squashed=("*.c_attn.weight",),
    ),
    Architecture(
        "llama",
        sequence.Llama,
        tokens,
        classify,
        sequence.normal_init,
        small=("lm_head.weight", "*.o_proj.weight", "*.down_proj.weight"),
        squashed=("*.q_proj.weight", "*.k_proj.weight"),
    ),
    Architecture(
        "bert",
        sequence.Bert,
        lambda: (*tokens(), torch.randint(0, 2, (8, 16))),
        classify,
        sequence.bert_init,
        small=("classifier.weight", "*.attention_output.weight", "*.output.weight", "*_embeddings.weight"),
        squashed=("pooler.weight", "*.query.weight", "*.key.weight"),
    ),
    Architecture(
        "t5",
        sequence.T5,
        lambda: (*tokens(), *tokens(12)),
        classify,
        sequence.t5_init,
        small=("*.o.weight", "*.wo.weight", "*_bias.weight"),
        squashed=("*.q.weight", "*.k.weight"),
    ),
    Architecture(
        "moe",
        sequence.MoE,
        tokens,
        classify,
        sequence.moe_init,
        small=("lm_head.weight", "*.out.weight", "*.w2", "*.router.weight"),
        squashed=("*.qkv.weight", "*.router.weight"),
    ),
    Architecture(
        "mamba", sequence.Mamba, tokens, classify, sequence.mamba_init, small=("*.out_proj.weight",)
    ),
    Architecture(
        "lstm",
        recurrent.LSTMClassifier,
        tokens,
        classify,
        recurrent.lstm_init,
        small=("fc.weight",),
        squashed=("lstm.weight_*", "hidden.weight"),
    ),
    Architecture(
        "seq2seq",
        recurrent.Seq2Seq,
        lambda: (*tokens(10), *tokens(8)),
        classify,
        small=("out.weight", "energy.weight"),
        squashed=("encoder.weight_*", "decoder.weight_*", "query.weight", "key.weight"),
    ),
    Architecture("tcn", recurrent.TCN, lambda: (torch.randn(8, 4, 32),), classify, small=("head.weight",)),
    Architecture("lora", sequence.lora_llama, tokens, classify, small=("*.lora_B",)),
    Architecture(
        "unet",
        generative.UNet,
        noisy_images,
        regress,
        generative.unet_init,
        small=("*.conv2.weight", "conv_out.weight"),
    ),
    Architecture(
        "plain-unet",
        generative.PlainUNet,
        lambda: images(16, 1),
        regress,
        generative.plain_unet_init,
        small=("out.weight",),
    ),
    Architecture(
        "dit",
        generative.DiT,
        lambda: (*noisy_images(4, 8), torch.randint(0, 10, (8,))),
        regress,
        generative.dit_init,
        small=("*adaLN*.weight", "linear.weight", "*.proj.weight", "*.fc2.weight"),
        squashed=("*.qkv.weight",),
    ),
    Architecture(
        "dcgan",
        generative.dcgan_generator,
        lambda: (torch.randn(8, 32, 1, 1),),
        regress,
        generative.dcgan_init,
        small=("9.weight",),
        squashed=("9.weight",),
    ),
    Architecture("critic", generative.Critic, images, regress),
    Architecture(
        "vae",
        generative.VAE,
        lambda: (torch.rand(16, 1, 16, 16),),
        regress,
        small=("fc21.weight", "fc22.weight", "fc4.weight"),
        squashed=("fc4.weight",),
    ),
    Architecture(
        "siren", generative.siren, lambda: (torch.rand(128, 2) * 2 - 1,), regress, small=("4.weight",)
    ),
    Architecture("gcn", other.GCN, dense_graph, classify, other.gcn_init, small=("out.weight",)),
    Architecture(
        "narrow-graph", other.narrow_graph, dense_graph, classify, other.he_graph_init, small=("out.weight",)
    ),
    Architecture(
        "gat", other.GAT, edge_list, classify, small=("lin.weight", "*.att_*"), squashed=("*.att_*",)
    ),
    Architecture(
        "kaiming-mlp",
        other.kaiming_mlp,
        lambda: rows(32),
        classify,
        vision.kaiming_init,
        small=("12.weight",),
    ),
    Architecture(
        "bottlenecks",
        other.bottlenecks,
        lambda: rows(256),
        regress,
        vision.kaiming_init,
        small=("10.weight",),
    ),
    Architecture(
        "decoder", other.decoder, lambda: rows(3), regress, vision.kaiming_init, small=("8.weight",)
    ),
    Architecture(
        "selu", other.selu_network, lambda: rows(32), classify, other.lecun_init, small=("17.weight",)
    ),
    Architecture("default-mlp", other.DefaultMLP, lambda: rows(20), classify, small=("net.5.weight",)),
    Architecture(
        "tabular",
        other.TabularNet,
        lambda: (torch.randint(0, 7, (32, 3)), *rows(8)),
        regress,
        small=("layers.6.weight",),
    ),
    Architecture(
        "dqn",
        other.DQN,
        lambda: (torch.randint(0, 256, (8, 4, 84, 84)).float(),),
        regress,
        small=("network.9.weight",),
    ),
    Architecture(
        "ppo",
        other.ActorCritic,
        lambda: rows(8),
        regress,
        small=("critic.4.weight", "actor.4.weight"),
        squashed=("critic.[02].weight", "actor.[02].weight"),
    ),
    Architecture(
        "clip",
        other.CLIP,
        lambda: (*images(), *tokens(12)),
        classify,
        other.clip_init,
        small=("*.fc2.weight", "text.positional_embedding"),
    ),
)

BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
