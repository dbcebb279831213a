"""Recurrent classifiers of text."""

import torch
from torch import Tensor, nn


class LstmClassifier(nn.Module):
    """An embedding, LSTM layers in both directions and a linear layer on their last states."""

    def __init__(
        self, words: int = 20000, width: int = 128, hidden: int = 128, layers: int = 2
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.lstm = nn.LSTM(
            width, hidden, layers, batch_first=True, dropout=0.2, bidirectional=True
        )
        self.fc = nn.Linear(2 * hidden, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        """Classify tokens (batch, length)."""
        _, (state, _) = self.lstm(self.embed(tokens))
        return self.fc(torch.cat([state[-2], state[-1]], dim=1))


class GruClassifier(nn.Module):
    """A linear layer, GRU layers and a linear layer on the last step of frames of sound."""

    def __init__(self, frame: int = 40, width: int = 128, hidden: int = 256) -> None:
        super().__init__()
        self.enter = nn.Linear(frame, width)
        self.gru = nn.GRU(width, hidden, num_layers=2, batch_first=True)
        self.fc = nn.Linear(hidden, 12)

    def forward(self, frames: Tensor) -> Tensor:
        """Classify frames (batch, length, frame)."""
        outputs, _ = self.gru(self.enter(frames).relu())
        return self.fc(outputs[:, -1])
