"""Models that generate: diffusion, adversarial, variational, implicit."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.models.vision import Attention, Mlp


def sinusoids(t: Tensor, width: int) -> Tensor:
    """Sines and cosines of time steps (Vaswani et al., 2017, section 3.5)."""
    frequency = torch.exp(-math.log(10000) * torch.arange(width // 2) / (width // 2))
    angle = t[:, None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], -1)


# ---------------------------------------------------------------- U-Net


class ResBlock(nn.Module):
    """GroupNorm, SiLU, convolution, twice; the time is added in between (Ho et al., DDPM, 2020)."""

    def __init__(self, width_in: int, width: int, time: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(4, width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.time = nn.Linear(time, width)
        self.norm2 = nn.GroupNorm(4, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Map images to images."""
        y = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(t))[:, :, None, None]
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(y)))


class UNet(nn.Module):
    """Predicts the noise in an image at a time step."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        time = 4 * width
        self.width = width
        self.time_mlp = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time))
        self.conv_in = nn.Conv2d(3, width, 3, padding=1)
        self.down1 = ResBlock(width, width, time)
        self.down2 = ResBlock(width, 2 * width, time)
        self.middle = ResBlock(2 * width, 2 * width, time)
        self.up2 = ResBlock(4 * width, width, time)
        self.up1 = ResBlock(2 * width, width, time)
        self.norm_out = nn.GroupNorm(4, width)
        self.conv_out = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Noise of the same shape as x."""
        time = self.time_mlp(sinusoids(t, self.width))
        high = self.down1(self.conv_in(x), time)
        low = self.down2(F.avg_pool2d(high, 2), time)
        y = self.middle(low, time)
        y = self.up2(torch.cat([y, low], 1), time)
        y = self.up1(torch.cat([F.interpolate(y, scale_factor=2.0), high], 1), time)
        return self.conv_out(F.silu(self.norm_out(y)))


def unet_init(name: str, module: nn.Module) -> None:
    """As openai/guided-diffusion: torch.nn's defaults, zero_module on each block's end and the output."""
    if name.endswith("conv2") or name == "conv_out":
        for parameter in module.parameters():
            parameter.detach().zero_()


class PlainUNet(nn.Module):
    """Convolutions and ReLU down and up again, without normalisation (Ronneberger et al., U-Net, 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), *self.pair(16, 16))
        self.down1 = nn.Sequential(nn.MaxPool2d(2), *self.pair(16, 32))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), *self.pair(32, 48))
        self.up1 = nn.ConvTranspose2d(48, 32, 2, 2)
        self.merge1 = nn.Sequential(*self.pair(64, 32))
        self.up2 = nn.ConvTranspose2d(32, 16, 2, 2)
        self.merge2 = nn.Sequential(*self.pair(32, 16))
        self.out = nn.Conv2d(16, 2, 1)

    @staticmethod
    def pair(width_in: int, width: int) -> list[nn.Module]:
        """Two convolutions."""
        first, second = (nn.Conv2d(w, width, 3, padding=1) for w in (width_in, width))
        return [first, nn.ReLU(), second, nn.ReLU()]

    def forward(self, x: Tensor) -> Tensor:
        """A value per pixel and class."""
        high = self.first(x)
        middle = self.down1(high)
        y = self.merge1(torch.cat([middle, self.up1(self.down2(middle))], 1))
        return self.out(self.merge2(torch.cat([high, self.up2(y)], 1)))


def plain_unet_init(name: str, module: nn.Module) -> None:
    """Normal of variance 2/N, N the incoming nodes of one unit (Ronneberger et al., 2015, section 3)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        n = module.weight[0].numel() if isinstance(module, nn.Conv2d) else module.in_channels
        nn.init.normal_(module.weight, std=math.sqrt(2 / n))
        assert module.bias is not None
        nn.init.zeros_(module.bias)


# ---------------------------------------------------------------- DiT


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Shift and scale every position by its image's condition."""
    return x * (1 + scale[:, None]) + shift[:, None]


class DiTBlock(nn.Module):
    """Transformer block steered by adaLN-Zero (Peebles and Xie, DiT, 2022, section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(width, 4 * width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (batch, positions, width) to the same shape."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(condition).chunk(6, -1)
        x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
        return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))


class DiT(nn.Module):
    """Diffusion transformer on 4x4 latent patches."""

    def __init__(self, width: int = 48, depth: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.width = width
        self.x_embedder = nn.Conv2d(4, width, 2, 2)
        self.t_embedder = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.y_embedder = nn.Embedding(classes, width)
        self.pos_embed = nn.Parameter(sinusoids(torch.arange(16), width)[None], requires_grad=False)
        self.blocks = nn.ModuleList([DiTBlock(width, 4) for _ in range(depth)])
        self.norm_final = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.adaLN_final = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.linear = nn.Linear(width, 16)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Noise per patch, (batch, 16, 16)."""
        x = self.x_embedder(x).flatten(2).transpose(1, 2) + self.pos_embed
        condition = self.t_embedder(sinusoids(t, self.width)) + self.y_embedder(y)
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.adaLN_final(condition).chunk(2, -1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


def dit_init(name: str, module: nn.Module) -> None:
    """As DiT.initialize_weights in facebookresearch/DiT."""
    if isinstance(module, nn.Linear):
        if "adaLN" in name or name == "linear":
            nn.init.constant_(module.weight, 0)
        elif name.startswith("t_embedder"):
            nn.init.normal_(module.weight, std=0.02)
        else:
            nn.init.xavier_uniform_(module.weight)
        nn.init.constant_(module.bias, 0)
    elif isinstance(module, nn.Conv2d) and module.bias is not None:
        nn.init.xavier_uniform_(module.weight.view(module.weight.shape[0], -1))
        nn.init.constant_(module.bias, 0)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)


# ---------------------------------------------------------------- adversarial and variational


def dcgan_generator() -> nn.Sequential:
    """Noise to 32x32 images (Radford et al., DCGAN, 2015)."""
    return nn.Sequential(
        nn.ConvTranspose2d(32, 64, 4, 1, 0, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(True),
        nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(True),
        nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(True),
        nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False),
        nn.Tanh(),
    )


def dcgan_init(name: str, module: nn.Module) -> None:
    """As weights_init in pytorch/examples/dcgan."""
    kind = type(module).__name__
    if "Conv" in kind:
        nn.init.normal_(module.weight, 0.0, 0.02)  # type: ignore[arg-type]
    elif "BatchNorm" in kind:
        nn.init.normal_(module.weight, 1.0, 0.02)  # type: ignore[arg-type]
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]


class VAE(nn.Module):
    """The network of pytorch/examples/vae (Kingma and Welling, 2013); initialised by torch.nn."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(256, 128)
        self.fc21 = nn.Linear(128, 16)
        self.fc22 = nn.Linear(128, 16)
        self.fc3 = nn.Linear(16, 128)
        self.fc4 = nn.Linear(128, 256)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction, mean and logarithm of the variance."""
        hidden = F.relu(self.fc1(x.flatten(1)))
        mu, logvar = self.fc21(hidden), self.fc22(hidden)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mu, logvar


# ---------------------------------------------------------------- implicit


class Sine(nn.Module):
    """Linear layer followed by sin(30 x) (Sitzmann et al., SIREN, 2020)."""

    def __init__(self, inputs: int, outputs: int, first: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        bound = 1 / inputs if first else math.sqrt(6 / inputs) / 30
        with torch.no_grad():
            self.linear.weight.uniform_(-bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis."""
        return torch.sin(30 * self.linear(x))


def siren() -> nn.Sequential:
    """Coordinates to colours, initialised as in SIREN, section 3.2."""
    last = nn.Linear(64, 3)
    with torch.no_grad():
        bound = math.sqrt(6 / 64) / 30
        last.weight.uniform_(-bound, bound)
    return nn.Sequential(Sine(2, 64, first=True), Sine(64, 64), Sine(64, 64), Sine(64, 64), last)


class Critic(nn.Module):
    """Spectrally normalised discriminator (Miyato et al., 2018); initialised by torch.nn."""

    def __init__(self) -> None:
        super().__init__()
        normed = nn.utils.parametrizations.spectral_norm
        self.conv1 = normed(nn.Conv2d(3, 16, 4, 2, 1))
        self.conv2 = normed(nn.Conv2d(16, 32, 4, 2, 1))
        self.conv3 = normed(nn.Conv2d(32, 48, 4, 2, 1))
        self.fc = normed(nn.Linear(48 * 4 * 4, 1))

    def forward(self, images: Tensor) -> Tensor:
        """A score per image."""
        x = F.leaky_relu(self.conv1(images), 0.1)
        x = F.leaky_relu(self.conv2(x), 0.1)
        x = F.leaky_relu(self.conv3(x), 0.1)
        return self.fc(x.flatten(1))
