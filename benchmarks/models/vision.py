"""Models that read images."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# ---------------------------------------------------------------- residual networks


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., Deep Residual Learning, 2015)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or width_in != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map images to images."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return self.relu(x + shortcut)


class ResNet(nn.Module):
    """Three stages of two basic blocks."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        stages = [(16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 48, 2), (48, 48, 1)]
        self.layers = nn.Sequential(*(BasicBlock(*stage) for stage in stages))
        self.fc = nn.Linear(48, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layers(x)
        return self.fc(x.mean((2, 3)))


def resnet_init(name: str, module: nn.Module) -> None:
    """As torchvision.models.resnet.ResNet.__init__."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.constant_(module.weight, 1)
        nn.init.constant_(module.bias, 0)


def resnet_zero_gamma_init(name: str, module: nn.Module) -> None:
    """As torchvision's zero_init_residual (Goyal et al., Large Minibatch SGD, 2017, section 5.1)."""
    resnet_init(name, module)
    if name.endswith("bn2") and isinstance(module, nn.BatchNorm2d):
        nn.init.constant_(module.weight, 0)


# ---------------------------------------------------------------- ConvNeXt


class ConvNeXtBlock(nn.Module):
    """Depth-wise 7x7, inverted bottleneck, LayerScale (Liu et al., A ConvNet for the 2020s, 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(1e-6 * torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map images to images."""
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(self.act(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """Two stages of two blocks."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 4, 4)
        self.stem_norm = nn.LayerNorm(24, eps=1e-6)
        self.stage1 = nn.Sequential(ConvNeXtBlock(24), ConvNeXtBlock(24))
        self.down = nn.Conv2d(24, 48, 2, 2)
        self.stage2 = nn.Sequential(ConvNeXtBlock(48), ConvNeXtBlock(48))
        self.norm = nn.LayerNorm(48, eps=1e-6)
        self.head = nn.Linear(48, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        x = self.stem_norm(self.stem(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.stage2(self.down(self.stage1(x)))
        return self.head(self.norm(x.mean((2, 3))))


def convnext_init(name: str, module: nn.Module) -> None:
    """As ConvNeXt._init_weights in facebookresearch/ConvNeXt."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.constant_(module.bias, 0)


# ---------------------------------------------------------------- vision transformer and mixer


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection to query, key and value."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, positions, width) to the same shape."""
        b, n, w = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, w))


class Mlp(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis to itself."""
        return self.fc2(self.act(self.fc1(x)))


class ViTBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, positions, width) to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Vision transformer with class token (Dosovitskiy et al., An Image is Worth 16x16 Words, 2020)."""

    def __init__(self, width: int = 64, depth: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, width, 8, 8)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 17, width))
        self.blocks = nn.ModuleList([ViTBlock(width, 4) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def vit_init(name: str, module: nn.Module) -> None:
    """As VisionTransformer in facebookresearch/deit."""
    if isinstance(module, ViT):
        nn.init.trunc_normal_(module.cls_token, std=0.02)
        nn.init.trunc_normal_(module.pos_embed, std=0.02)
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


class MixerBlock(nn.Module):
    """Mixes positions, then channels (Tolstikhin et al., MLP-Mixer, 2021)."""

    def __init__(self, positions: int, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.mlp_tokens = Mlp(positions, width // 2)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp_channels = Mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, positions, width) to the same shape."""
        x = x + self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mlp_channels(self.norm2(x))


class Mixer(nn.Module):
    """MLP-Mixer on 4x4 patches."""

    def __init__(self, width: int = 64, depth: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 8, 8)
        self.blocks = nn.Sequential(*[MixerBlock(16, width) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        x = self.blocks(self.stem(x).flatten(2).transpose(1, 2))
        return self.head(self.norm(x).mean(1))


def lecun_normal_(weight: Tensor) -> None:
    """Truncated normal of variance 1/fan_in, as jax.nn.initializers.lecun_normal."""
    fan_in = weight[0].numel()
    std = math.sqrt(1 / fan_in) / 0.87962566103423978  # standard deviation of a normal cut at two sigma
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def mixer_init(name: str, module: nn.Module) -> None:
    """As google-research/vision_transformer's models_mixer.py: flax defaults and a zero head."""
    if name == "head" and isinstance(module, nn.Linear):
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d | nn.Linear):
        lecun_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


# ---------------------------------------------------------------- other convolutional networks


class DenseLayer(nn.Module):
    """BatchNorm, ReLU, convolution, appended to its input (Huang et al., DenseNet, 2016)."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Add `growth` channels."""
        y = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return torch.cat([x, y], 1)


class DenseNet(nn.Module):
    """Two dense blocks with a transition between them."""

    def __init__(self, growth: int = 12, classes: int = 10) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 24, 3, padding=1, bias=False)
        self.block1 = nn.Sequential(*[DenseLayer(24 + i * growth, growth) for i in range(4)])
        self.norm1 = nn.BatchNorm2d(72)
        self.transition = nn.Conv2d(72, 36, 1, bias=False)
        self.block2 = nn.Sequential(*[DenseLayer(36 + i * growth, growth) for i in range(4)])
        self.norm2 = nn.BatchNorm2d(84)
        self.classifier = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        x = F.relu(self.norm1(self.block1(self.conv0(x))))
        x = self.block2(F.avg_pool2d(self.transition(x), 2))
        return self.classifier(F.relu(self.norm2(x)).mean((2, 3)))


def densenet_init(name: str, module: nn.Module) -> None:
    """As torchvision.models.densenet.DenseNet.__init__."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.constant_(module.weight, 1)
        nn.init.constant_(module.bias, 0)
    elif isinstance(module, nn.Linear):
        nn.init.constant_(module.bias, 0)


class InvertedResidual(nn.Module):
    """Expand, depth-wise, squeeze and excite, project (Howard et al., MobileNetV3, 2019)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        hidden = 4 * width_in
        self.expand = nn.Conv2d(width_in, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.squeeze = nn.Conv2d(hidden, hidden // 4, 1)
        self.excite = nn.Conv2d(hidden // 4, hidden, 1)
        self.project = nn.Conv2d(hidden, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.shortcut = stride == 1 and width_in == width

    def forward(self, x: Tensor) -> Tensor:
        """Map images to images."""
        y = F.silu(self.bn2(self.depthwise(F.silu(self.bn1(self.expand(x))))))
        y = y * torch.sigmoid(self.excite(F.silu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        y = self.bn3(self.project(y))
        return x + y if self.shortcut else y


class MobileNet(nn.Module):
    """Six inverted residuals."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(16)
        stages = [(16, 16, 1), (16, 24, 2), (24, 24, 1), (24, 32, 2), (32, 32, 1), (32, 32, 1)]
        self.blocks = nn.Sequential(*(InvertedResidual(*stage) for stage in stages))
        self.classifier = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        x = F.silu(self.stem_norm(self.stem(x)))
        return self.classifier(self.blocks(x).mean((2, 3)))


def mobilenet_init(name: str, module: nn.Module) -> None:
    """As timm's _init_weight_goog for EfficientNet and MobileNetV3: fan_out divided by the groups."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        bound = 1 / math.sqrt(module.out_features)
        nn.init.uniform_(module.weight, -bound, bound)
        nn.init.zeros_(module.bias)


def plain_cnn() -> nn.Sequential:
    """Eight convolutions without normalisation, in the manner of VGG (Simonyan and Zisserman, 2014)."""
    layers: list[nn.Module] = []
    widths = [3, 16, 16, 24, 24, 32, 32, 48, 48]
    for i, (width_in, width) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(width_in, width, 3, padding=1), nn.ReLU(inplace=True)]
        if i in (1, 3, 5):
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10))


def kaiming_init(name: str, module: nn.Module) -> None:
    """Normal of variance 2/fan_in before each ReLU (He et al., Delving Deep, 2015, eq. 10)."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class DefaultCNN(nn.Module):
    """The network of pytorch/examples/mnist, as it is copied everywhere; initialised by torch.nn."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3)
        self.conv2 = nn.Conv2d(8, 16, 3)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(16 * 12 * 12, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Classify digits."""
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        x = self.dropout1(F.max_pool2d(x, 2)).flatten(1)
        x = self.dropout2(F.relu(self.fc1(x)))
        return F.log_softmax(self.fc2(x), dim=1)


class RetinaHead(nn.Module):
    """Towers that classify and regress anchors (Lin et al., Focal Loss, 2017)."""

    def __init__(self, width: int = 24, anchors: int = 3, classes: int = 8) -> None:
        super().__init__()
        self.cls_tower = nn.Sequential(*self.tower(width))
        self.box_tower = nn.Sequential(*self.tower(width))
        self.cls_logits = nn.Conv2d(width, anchors * classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(width, anchors * 4, 3, padding=1)

    @staticmethod
    def tower(width: int) -> list[nn.Module]:
        """Three convolutions with GroupNorm."""
        return [
            layer
            for _ in range(3)
            for layer in (nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(4, width), nn.ReLU())
        ]

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits and boxes for every level."""
        logits = [self.cls_logits(self.cls_tower(x)) for x in features]
        return logits, [self.bbox_pred(self.box_tower(x)) for x in features]


class Detector(nn.Module):
    """A small backbone with two levels and one head for both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(24, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.head = RetinaHead()

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits and boxes for every level."""
        high = self.stem(images)
        return self.head([high, self.down(high)])


def detector_init(name: str, module: nn.Module) -> None:
    """Focal Loss, section 4.1: N(0, 0.01) in the head, bias -log((1 - π)/π) with π = 0.01 on the logits."""
    if not isinstance(module, nn.Conv2d):
        return
    if name.startswith("head."):
        nn.init.normal_(module.weight, std=0.01)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
        if name == "head.cls_logits":
            nn.init.constant_(module.bias, -math.log((1 - 0.01) / 0.01))
    else:
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
