"""Models of graphs, tables, control and pairs."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.models.vision import Mlp

# ---------------------------------------------------------------- graphs


class GraphConvolution(nn.Module):
    """A X W + b with W stored as (inputs, outputs) (Kipf and Welling, GCN, 2016)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.empty(outputs))
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Map node features."""
        return adjacency @ (x @ self.weight) + self.bias


class GCN(nn.Module):
    """Three graph convolutions on a dense normalised adjacency."""

    def __init__(self, features: int = 32, hidden: int = 64, classes: int = 5) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                GraphConvolution(features, hidden),
                GraphConvolution(hidden, hidden),
                GraphConvolution(hidden, hidden),
            ]
        )
        self.out = GraphConvolution(hidden, classes)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Classify nodes."""
        for conv in self.convs:
            x = F.relu(conv(x, adjacency))
        return self.out(x, adjacency)


def gcn_init(name: str, module: nn.Module) -> None:
    """Glorot weights and zero biases, as tkipf/gcn."""
    if isinstance(module, GraphConvolution):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def narrow_graph() -> GCN:
    """Wide features of nodes through narrow messages, four times."""
    model = GCN(features=32, hidden=4, classes=5)
    widths = [32, 4, 128, 4, 128, 4, 128]
    model.convs = nn.ModuleList([GraphConvolution(a, b) for a, b in pairwise(widths)])
    model.out = GraphConvolution(128, 5)
    return model


def he_graph_init(name: str, module: nn.Module) -> None:
    """Normal of variance 2/fan_in before each ReLU; the rows of the weights are the inputs."""
    if isinstance(module, GraphConvolution):
        nn.init.normal_(module.weight, std=math.sqrt(2 / len(module.weight)))
        nn.init.zeros_(module.bias)


class GATConv(nn.Module):
    """Graph attention over an edge list (Velickovic et al., GAT, 2017)."""

    def __init__(self, inputs: int, outputs: int, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.outputs = heads, outputs
        self.lin = nn.Linear(inputs, heads * outputs, bias=False)
        self.att_src = nn.Parameter(torch.empty(1, heads, outputs))
        self.att_dst = nn.Parameter(torch.empty(1, heads, outputs))
        self.bias = nn.Parameter(torch.empty(heads * outputs))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As torch_geometric.nn.GATConv: Glorot for the weight and the attention vectors."""
        for weight in (self.lin.weight, self.att_src, self.att_dst):
            bound = math.sqrt(6 / (weight.size(-2) + weight.size(-1)))
            weight.data.uniform_(-bound, bound)
        self.bias.data.fill_(0)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Map node features; edge_index is (2, edges)."""
        source, target = edge_index
        h = self.lin(x).view(-1, self.heads, self.outputs)
        score = (h * self.att_src).sum(-1)[source] + (h * self.att_dst).sum(-1)[target]
        weight = F.leaky_relu(score, 0.2).exp()
        total = torch.zeros(len(x), self.heads).index_add(0, target, weight)
        message = h[source] * (weight / (total[target] + 1e-16))[..., None]
        return torch.zeros_like(h).index_add(0, target, message).flatten(1) + self.bias


class GAT(nn.Module):
    """Two attention layers, a mean over the nodes and a classifier."""

    def __init__(self, features: int = 16, classes: int = 4) -> None:
        super().__init__()
        self.conv1 = GATConv(features, 16)
        self.conv2 = GATConv(64, 16)
        self.lin = nn.Linear(64, classes)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        """Classify graphs; `batch` says which graph each node belongs to."""
        x = F.elu(self.conv1(x, edge_index))
        x = F.elu(self.conv2(x, edge_index))
        graphs = int(batch.max()) + 1
        pooled = torch.zeros(graphs, x.shape[1]).index_add(0, batch, x)
        return self.lin(pooled / torch.bincount(batch)[:, None])


# ---------------------------------------------------------------- multilayer perceptrons


def kaiming_mlp() -> nn.Sequential:
    """Six hidden ReLU layers without normalisation."""
    layers: list[nn.Module] = [nn.Linear(32, 96), nn.ReLU()]
    for _ in range(5):
        layers += [nn.Linear(96, 96), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(96, 10))


def bottlenecks() -> nn.Sequential:
    """A stacked autoencoder: ReLU layers that narrow and widen by turns, without normalisation."""
    widths = [256, 8, 256, 8, 256, 8]
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(8, 256))


def decoder() -> nn.Sequential:
    """Coordinates to values (Park et al., DeepSDF, 2019): few inputs, wide ReLU layers."""
    return nn.Sequential(
        nn.Linear(3, 192), nn.ReLU(), nn.Linear(192, 192), nn.ReLU(), nn.Linear(192, 192), nn.ReLU(),
        nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 4),
    )  # fmt: skip


def selu_network() -> nn.Sequential:
    """Self-normalising network (Klambauer et al., 2017)."""
    layers: list[nn.Module] = [nn.Linear(32, 96), nn.SELU()]
    for _ in range(5):
        layers += [nn.Linear(96, 96), nn.SELU(), nn.AlphaDropout(0.05)]
    return nn.Sequential(*layers, nn.Linear(96, 10))


def lecun_init(name: str, module: nn.Module) -> None:
    """N(0, 1/fan_in), as bioinf-jku/SNNs."""
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="linear")
        nn.init.zeros_(module.bias)


class DefaultMLP(nn.Module):
    """What a user writes first; initialised by torch.nn."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(20, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Classify rows of a table."""
        return self.net(x)


class TabularNet(nn.Module):
    """Category embeddings beside numbers, as fastai's TabularModel; initialised by torch.nn."""

    def __init__(self) -> None:
        super().__init__()
        self.embeds = nn.ModuleList([nn.Embedding(n, d) for n, d in ((12, 6), (40, 10), (7, 4))])
        self.bn_cont = nn.BatchNorm1d(8)
        self.layers = nn.Sequential(
            nn.Linear(28, 64, bias=False), nn.ReLU(), nn.BatchNorm1d(64),
            nn.Linear(64, 32, bias=False), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 1),
        )  # fmt: skip

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        """Predict one number per row."""
        x = [embed(categories[:, i]) for i, embed in enumerate(self.embeds)]
        return self.layers(torch.cat([*x, self.bn_cont(numbers)], 1))


# ---------------------------------------------------------------- control


def orthogonal(layer: nn.Linear | nn.Conv2d, std: float = math.sqrt(2), bias: float = 0.0) -> nn.Module:
    """layer_init of vwxyzjn/ppo-implementation-details and cleanrl."""
    nn.init.orthogonal_(layer.weight, std)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, bias)
    return layer


class DQN(nn.Module):
    """Convolutional Q-network (Mnih et al., 2015) with orthogonal weights."""

    def __init__(self, actions: int = 6) -> None:
        super().__init__()
        self.network = nn.Sequential(
            orthogonal(nn.Conv2d(4, 16, 8, stride=4)),
            nn.ReLU(),
            orthogonal(nn.Conv2d(16, 32, 4, stride=2)),
            nn.ReLU(),
            orthogonal(nn.Conv2d(32, 32, 3, stride=1)),
            nn.ReLU(),
            nn.Flatten(),
            orthogonal(nn.Linear(32 * 49, 96)),
            nn.ReLU(),
            orthogonal(nn.Linear(96, actions), std=1.0),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Value of every action; frames are bytes."""
        return self.network(frames / 255.0)


class ActorCritic(nn.Module):
    """PPO agent (Schulman et al., 2017; Huang et al., The 37 Implementation Details, 2022, detail 2)."""

    def __init__(self, observation: int = 8, actions: int = 4) -> None:
        super().__init__()
        self.critic = nn.Sequential(
            orthogonal(nn.Linear(observation, 64)), nn.Tanh(), orthogonal(nn.Linear(64, 64)), nn.Tanh(),
            orthogonal(nn.Linear(64, 1), std=1.0),
        )  # fmt: skip
        self.actor = nn.Sequential(
            orthogonal(nn.Linear(observation, 64)), nn.Tanh(), orthogonal(nn.Linear(64, 64)), nn.Tanh(),
            orthogonal(nn.Linear(64, actions), std=0.01),
        )  # fmt: skip
        self.log_std = nn.Parameter(torch.zeros(1, actions))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Action mean, standard deviation and value."""
        mean = self.actor(x)
        return mean, self.log_std.expand_as(mean).exp(), self.critic(x)


# ---------------------------------------------------------------- pairs


class TextTower(nn.Module):
    """Mean of a small MLP over token and position embeddings."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(96, width)
        self.positional_embedding = nn.Parameter(torch.empty(16, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.mlps = nn.ModuleList([Mlp(width, 4 * width) for _ in range(2)])
        self.ln_final = nn.LayerNorm(width)

    def forward(self, text: Tensor) -> Tensor:
        """A vector per text."""
        x = self.token_embedding(text) + self.positional_embedding[: text.shape[1]]
        for norm, mlp in zip(self.norms, self.mlps, strict=True):
            x = x + mlp(norm(x))
        return self.ln_final(x).mean(1)


class CLIP(nn.Module):
    """Two towers and a temperature (Radford et al., CLIP, 2021)."""

    def __init__(self, width: int = 48, embedding: int = 32) -> None:
        super().__init__()
        self.visual = nn.Sequential(
            nn.Conv2d(3, width, 8, 8),
            nn.Flatten(2),
            nn.Linear(16, 16),
            nn.GELU(),
            nn.Linear(16, 4),
            nn.Flatten(),
        )
        self.visual_projection = nn.Parameter(width**-0.5 * torch.randn(4 * width, embedding))
        self.text = TextTower(width)
        self.text_projection = nn.Parameter(torch.empty(width, embedding))
        self.logit_scale = nn.Parameter(torch.ones([]) * math.log(1 / 0.07))

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """Similarity of every image with every text."""
        a = F.normalize(self.visual(images) @ self.visual_projection, dim=-1)
        b = F.normalize(self.text(text) @ self.text_projection, dim=-1)
        return self.logit_scale.exp() * a @ b.t()


def clip_init(name: str, module: nn.Module) -> None:
    """As CLIP.initialize_parameters in openai/CLIP."""
    if isinstance(module, TextTower):
        width, depth = module.token_embedding.embedding_dim, len(module.mlps)
        nn.init.normal_(module.token_embedding.weight, std=0.02)
        nn.init.normal_(module.positional_embedding, std=0.01)
        for mlp in module.mlps:
            assert isinstance(mlp, Mlp)
            nn.init.normal_(mlp.fc1.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(mlp.fc2.weight, std=width**-0.5 * (2 * depth) ** -0.5)
    elif isinstance(module, CLIP):
        nn.init.normal_(module.text_projection, std=module.text_projection.shape[0] ** -0.5)
