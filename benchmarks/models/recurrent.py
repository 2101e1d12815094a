"""Recurrent and causal convolutional models of sequences."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.models.sequence import VOCABULARY


class LSTMClassifier(nn.Module):
    """Two-layer bidirectional LSTM over words."""

    def __init__(self, width: int = 32, hidden: int = 48, classes: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width, padding_idx=0)
        self.lstm = nn.LSTM(width, hidden, num_layers=2, batch_first=True, bidirectional=True)
        self.hidden = nn.Linear(2 * hidden, hidden)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, text: Tensor) -> Tensor:
        """Classify sentences."""
        states, _ = self.lstm(self.embedding(text))
        return self.fc(torch.tanh(self.hidden(states.mean(1))))


def lstm_init(name: str, module: nn.Module) -> None:
    """Glorot inputs, orthogonal recurrence, forget bias 1 (Jozefowicz et al., 2015), as in Keras."""
    if isinstance(module, nn.LSTM):
        for key, parameter in module.named_parameters():
            if key.startswith("weight_ih"):
                nn.init.xavier_uniform_(parameter)
            elif key.startswith("weight_hh"):
                nn.init.orthogonal_(parameter)
            else:
                nn.init.zeros_(parameter)
                if key.startswith("bias_ih"):
                    with torch.no_grad():
                        parameter[module.hidden_size : 2 * module.hidden_size].fill_(1)
    elif isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


class Seq2Seq(nn.Module):
    """GRU encoder and decoder with additive attention (Bahdanau et al., 2014); initialised by torch.nn."""

    def __init__(self, width: int = 32, hidden: int = 48) -> None:
        super().__init__()
        self.source = nn.Embedding(VOCABULARY, width)
        self.target = nn.Embedding(VOCABULARY, width)
        self.encoder = nn.GRU(width, hidden, batch_first=True)
        self.decoder = nn.GRUCell(width + hidden, hidden)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.energy = nn.Linear(hidden, 1, bias=False)
        self.out = nn.Linear(hidden, VOCABULARY)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits of each next target token."""
        memory, last = self.encoder(self.source(source))
        keys, state = self.key(memory), last[0]
        logits = []
        for word in self.target(target).unbind(1):
            energy = self.energy(torch.tanh(self.query(state)[:, None] + keys))
            context = (energy.softmax(1) * memory).sum(1)
            state = self.decoder(torch.cat([word, context], -1), state)
            logits.append(self.out(state))
        return torch.stack(logits, 1)


class TemporalBlock(nn.Module):
    """Two weight-normalised dilated convolutions and a shortcut (Bai et al., TCN, 2018)."""

    def __init__(self, width_in: int, width: int, dilation: int) -> None:
        super().__init__()
        self.pad = 2 * dilation
        self.conv1 = self.convolution(width_in, width, dilation)
        self.conv2 = self.convolution(width, width, dilation)
        self.shortcut = nn.Conv1d(width_in, width, 1) if width_in != width else nn.Identity()

    @staticmethod
    def convolution(width_in: int, width: int, dilation: int) -> nn.Module:
        """A convolution that is initialised before its weight is split into direction and norm."""
        conv = nn.Conv1d(width_in, width, 3, dilation=dilation)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        return nn.utils.parametrizations.weight_norm(conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, time) causally."""
        y = F.relu(self.conv1(F.pad(x, (self.pad, 0))))
        y = F.relu(self.conv2(F.pad(y, (self.pad, 0))))
        return F.relu(y + self.shortcut(x))


class TCN(nn.Module):
    """Temporal convolutional network."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        widths = [4, 24, 24, 24]
        self.blocks = nn.Sequential(*(TemporalBlock(a, b, 2**i) for i, (a, b) in enumerate(pairwise(widths))))
        self.head = nn.Linear(24, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify series of shape (batch, 4, time)."""
        return self.head(self.blocks(x)[..., -1])
